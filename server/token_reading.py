"""How the served model reads the messages of a template: one function for counting and for decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.neutralise import are_wordy, check_control, harmless
from prompts.records import Message, Role
from server.calling import Function
from server.seams import Tokenizer
from server.token_bytes import token_bytes


class Checked(NamedTuple):
    """The ids of a finished prompt, and `token_bytes` of them: what is counted, hashed and written down."""

    ids: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class TokenReading:
    """Messages to ids: through the chat template, or, for templates of the format `plain`, as bare text.

    Hashable, and equal for equal arguments: the prompts room remembers counts of stable parts by it.
    """

    tokenizer: Tokenizer
    plain: bool = False
    thinking: bool | None = None
    functions: tuple[Function, ...] = field(default=(), hash=False)

    def ids(
        self, messages: Sequence[Message], known: dict[str, tuple[int, ...]] | None = None
    ) -> tuple[int, ...]:
        """`known` as the tokenizer's `chat` takes it."""
        if self.plain:
            return self.tokenizer.encode("\n\n".join(message.text for message in messages))
        if known is None:
            return self.tokenizer.chat(messages, thinking=self.thinking, functions=self.functions)
        return self.tokenizer.chat(messages, thinking=self.thinking, functions=self.functions, known=known)

    def __call__(self, messages: Sequence[Message], /) -> int:
        """Exact tokens of the messages, generation prompt included."""
        return len(self.ids(messages))

    def checked_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of a finished prompt. Raises ControlText when a value became a special token."""
        return self.checked(messages).ids

    def checked(self, messages: Sequence[Message], known: tuple[int, ...] | None = None) -> Checked:
        """`checked_ids` and their bytes, where the ids are `known` already or not."""
        ids = self.ids(messages) if known is None else known
        data = token_bytes((ids,))

        def control_tokens(asked: Sequence[Message]) -> int:
            if asked is messages:
                return special_among(self.tokenizer.special_ids, data)
            if self.functions or are_wordy(asked):
                return self._special_in(asked)
            return _of_turns(self, tuple([message.role for message in asked]))

        check_control(messages, control_tokens)
        return Checked(ids, data)

    def _special_in(self, messages: Sequence[Message]) -> int:
        return special_among(self.tokenizer.special_ids, token_bytes((self.ids(messages),)))


@lru_cache(maxsize=256)
def _of_turns(reading: TokenReading, roles: tuple[Role, ...]) -> int:
    """Special tokens around turns that say nothing: the same for every prompt of as many turns."""
    return reading._special_in(harmless([Message(role, "") for role in roles]))


def special_among(special: frozenset[int], data: bytes) -> int:
    """How many of the ids, as `token_bytes` has them, are special ones."""
    if not special:
        return 0
    first, table, together = _table(special)
    numbers = np.frombuffer(data, dtype="<u4")
    if together:  # those before it become the largest numbers
        return int(np.count_nonzero(numbers - first < len(special)))
    near = numbers[numbers >= first] if first else numbers  # often they come after all others
    return int(np.count_nonzero(table.take(near, mode="clip")))


@lru_cache(maxsize=8)
def _table(special: frozenset[int]) -> tuple[np.uint32, NDArray[np.bool_], bool]:
    """The first special id; by id whether it is one; and whether no other id is among them.

    The table's last entry stands for all ids that come after.
    """
    table = np.zeros(max(special) + 2, dtype=np.bool_)
    table[list(special)] = True
    first = min(special)
    return np.uint32(first), table, max(special) - first + 1 == len(special)


class Rereading:
    """A reading that counts a prompt and then gives its ids without tokenising it again.

    Equal to another one of an equal reading. It keeps nothing of a prompt whose ids were asked for.
    """

    def __init__(self, reading: TokenReading) -> None:
        self._reading = reading
        self._counted: tuple[Sequence[Message], tuple[int, ...]] | None = None
        self._known: dict[str, tuple[int, ...]] | None = None

    def ahead(self, messages: Sequence[Message]) -> None:
        """Read what a prompt will begin with, so that then only the rest need be read."""
        self._known = {}
        self._reading.ids(messages, self._known)

    def __call__(self, messages: Sequence[Message], /) -> int:
        ids = self._reading.ids(messages, self._known)
        self._counted = messages, ids
        return len(ids)

    def checked_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """As of the reading."""
        return self.checked(messages).ids

    def checked(self, messages: Sequence[Message]) -> Checked:
        """As of the reading; cheap for the messages that were counted last."""
        counted, self._counted, self._known = self._counted, None, None
        known = counted[1] if counted is not None and counted[0] == messages else None
        return self._reading.checked(messages, known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rereading) and other._reading == self._reading

    def __hash__(self) -> int:
        return hash(self._reading)
