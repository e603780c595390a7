"""The model's tokenizer where there is no engine: the same ids as the server's, by a test."""

from collections.abc import Sequence
from typing import Any

from prompts.records import Message
from server.calling import Function


class PlainTokenizer:
    """transformers' tokenizer behind the server's seam, for conversations without functions."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        functions: Sequence[Function] = (),
        known: dict[str, tuple[int, ...]] | None = None,
    ) -> tuple[int, ...]:
        """Raises ValueError when there are functions."""
        if functions:
            raise ValueError("functions are read by the served tokenizer alone")
        turns = [{"role": message.role, "content": message.text} for message in messages]
        options = {} if thinking is None else {"enable_thinking": thinking}
        return tuple(
            self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False, **options
            )
        )

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))
