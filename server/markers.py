"""Markers such as [2] in a stream of text: held back until decided, wrong numbers dropped before they show.

A marker is brackets around numbers of one to three digits, with blanks and commas. Markers inside markers are
one marker: were `[7]` dropped from `[9[7]]` alone, `[9]` would be left standing. So everything from the first
open bracket waits until it is closed, or until some other character proves that it was none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

DIGITS = 3  # a longer number is a year or an amount


class Shown(NamedTuple):
    """Text to show; `numbers` when it is a marker."""

    text: str
    numbers: tuple[int, ...] = ()


@dataclass(slots=True)
class _Open:
    """An open bracket: what stands in it so far, and the number being spelt."""

    parts: list[Shown] = field(default_factory=list)
    raw: str = "["
    digits: str = ""
    numbers: list[int] = field(default_factory=list)
    wrong: int = 0
    counted: bool = False  # whether any number stands in it, right or wrong


class Markers:
    """Reads text bit by bit. `known` says which numbers are sources of the prompt."""

    def __init__(self, known: Callable[[int], bool]) -> None:
        self._known = known
        self._open: list[_Open] = []
        self.dropped = 0  # wrong numbers

    @property
    def idle(self) -> bool:
        """Whether nothing is held back."""
        return not self._open

    def read(self, text: str) -> list[Shown]:
        """What is decided by now."""
        if not self._open and "[" not in text:  # nearly every piece
            return [Shown(text)] if text else []
        shown: list[Shown] = []
        at = 0
        while at < len(text):
            if not self._open:
                begin = text.find("[", at)
                if begin < 0:
                    shown.append(Shown(text[at:]))
                    break
                if begin > at:
                    shown.append(Shown(text[at:begin]))
                self._open.append(_Open())
                at = begin + 1
                continue
            shown += self._step(text[at])
            at += 1
        return shown

    def finish(self) -> list[Shown]:
        """What was still held back: no marker, for it was never closed."""
        return self._give_up("")

    def _step(self, character: str) -> Sequence[Shown]:
        group = self._open[-1]
        if character == "[":
            self._end_number(group)
            self._open.append(_Open())
        elif character == "]":
            self._end_number(group)
            return self._close()
        elif character.isdecimal():
            group.raw += character
            group.digits += character
            if len(group.digits) > DIGITS:
                return self._give_up("")
        elif character == "," or character.isspace():
            self._end_number(group)
            group.raw += character
        else:
            return self._give_up(character)
        return ()

    def _end_number(self, group: _Open) -> None:
        if group.digits:
            number = int(group.digits)
            group.digits, group.counted = "", True
            if self._known(number):
                group.numbers.append(number)
            else:
                group.wrong += 1

    def _close(self) -> Sequence[Shown]:
        """The innermost bracket is closed: a marker, dropped, or brackets around nothing."""
        group = self._open.pop()
        self.dropped += group.wrong
        if group.counted:
            numbers = tuple(dict.fromkeys(group.numbers))
            closed = [Shown(f"[{', '.join(map(str, numbers))}]", numbers)] if numbers else []
        else:
            closed = [*group.parts, Shown(f"{group.raw}]")]
        if not self._open:
            return closed
        outer = self._open[-1]
        outer.parts += [Shown(outer.raw), *closed]
        outer.raw = ""
        outer.counted = outer.counted or group.counted
        outer.numbers += group.numbers
        return ()

    def _give_up(self, character: str) -> list[Shown]:
        """None of the open brackets is a marker's; whole markers inside them stay what they are."""
        shown: list[Shown] = []
        for group in self._open:
            shown += [*group.parts, Shown(group.raw)]
        self._open.clear()
        shown.append(Shown(character))
        return [part for part in shown if part.text]
