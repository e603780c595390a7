"""How the served model reads the messages of a template: one function for counting and for decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prompts.neutralise import check_control
from prompts.records import Message
from server.calling import Function
from server.seams import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenReading:
    """Messages to ids: through the chat template, or, for templates of the format `plain`, as bare text.

    Hashable, and equal for equal arguments: the prompts room remembers counts of stable parts by it.
    """

    tokenizer: Tokenizer
    plain: bool = False
    thinking: bool | None = None
    functions: tuple[Function, ...] = field(default=(), hash=False)

    def ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        if self.plain:
            return self.tokenizer.encode("\n\n".join(message.text for message in messages))
        return self.tokenizer.chat(messages, thinking=self.thinking, functions=self.functions)

    def __call__(self, messages: Sequence[Message], /) -> int:
        """Exact tokens of the messages, generation prompt included."""
        return len(self.ids(messages))

    def checked_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of a finished prompt. Raises ControlText when a value became a special token."""
        special, ids = self.tokenizer.special_ids, self.ids(messages)

        def control_tokens(asked: Sequence[Message]) -> int:
            return sum(token in special for token in (ids if asked is messages else self.ids(asked)))

        check_control(messages, control_tokens)
        return ids
