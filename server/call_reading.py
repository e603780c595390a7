"""Calls out of an answer as it comes, where no parser of the engine is needed.

Each reader gets the text in pieces of any size and gives back what is decided: plain text, and parts of
calls. Joined, the parts are the same however the text was cut.
"""

import json

from server.calling import Calling, CallPart, Heard
from server.ids import new_id
from server.seams import CallReader, Decoder


def open_reader(calling: Calling, decoder: Decoder, *, streamed: bool) -> CallReader | None:
    """The reader of one choice; None where no function may be called."""
    if not calling.functions:
        return None
    if calling.choice == "named":
        return NamedReader(calling.name or "")
    return ListReader() if calling.choice == "required" else decoder.call_reader(calling, streamed=streamed)


class NamedReader:
    """The whole answer is the arguments of one function: the grammar saw to it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = False

    def read(self, text: str, tokens: tuple[int, ...], *, ends: bool) -> Heard:
        if self._told:
            return Heard(calls=(CallPart(0, text),) if text else ())
        if not text and not ends:
            return Heard()
        self._told = True
        return Heard(calls=(CallPart(0, text, new_id("call_"), self._name),))


class ListReader:
    """The answer is a JSON list of `{"name": …, "parameters": …}`. What is no list is shown as text."""

    def __init__(self) -> None:
        self._state = "before"  # before | list | after | text
        self._call: CallObject | None = None
        self._at = 0

    def read(self, text: str, tokens: tuple[int, ...], *, ends: bool) -> Heard:
        said: list[str] = []
        parts: list[CallPart] = []
        for character in text:
            if self._call is not None:
                self._call.step(character)
                if self._call.closed:
                    parts += self._call.take()
                    self._at += self._call.told
                    self._call = None
            elif self._state == "text" or (self._state != "list" and character not in " \t\r\n["):
                self._state = "text"
                said.append(character)
            elif self._state == "before":
                self._state = "list" if character == "[" else "before"
            elif character == "{":
                self._call = CallObject(self._at, "parameters")
                self._call.step(character)
            elif character == "]":
                self._state = "after"
        if self._call is not None:
            parts += self._call.take()
        return Heard("".join(said), tuple(parts))


class CallObject:
    """One `{"name": …, <key>: …}`, character by character; its members may come in any order."""

    def __init__(self, at: int, key: str) -> None:
        self._at = at
        self._key = key  # of the arguments
        self._depth = 0
        self._in_string = self._escaped = False
        self._awaiting = "key"  # key | colon | value | end
        self._member = ""
        self._raw: list[str] = []  # of the string or scalar being spelt
        self._name: str | None = None
        self._waiting: list[str] = []  # arguments not yet taken
        self._argued = False
        self.told = False  # whether it has been announced
        self.begun = self.closed = False

    def take(self) -> list[CallPart]:
        """What has been added since; nothing until the name and the start of the arguments are known."""
        if self._name is None or not (self._argued or self.closed):
            return []
        arguments = "".join(self._waiting) if self._argued else "{}"
        self._waiting.clear()
        if not self.told:
            self.told = True
            return [CallPart(self._at, arguments, new_id("call_"), self._name)]
        return [CallPart(self._at, arguments)] if arguments else []

    def step(self, character: str) -> None:
        self.begun = True
        if self._in_string:
            self._in_text(character)
        elif character == '"':
            self._in_string = True
            if self._depth == 1 and self._awaiting == "value":
                self._begin_value()
            if self._depth == 1:
                self._raw.clear()
            self._spell(character)
        elif character in "{[":
            if self._depth == 1 and self._awaiting == "value":
                self._begin_value()
            if self._depth:
                self._spell(character)
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            if self._depth:
                self._spell(character)
            self.closed = self._depth == 0
        elif self._depth == 1 and character in ":,":
            self._awaiting = "value" if character == ":" else "key"
        else:
            if self._depth == 1 and self._awaiting == "value" and not character.isspace():
                self._begin_value()
            if self._depth > 1 or not character.isspace():
                self._spell(character)

    def _in_text(self, character: str) -> None:
        self._spell(character)
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
            if self._depth == 1:
                self._end_string()

    def _begin_value(self) -> None:
        self._awaiting = "end"
        self._argued = self._argued or self._member == self._key

    def _spell(self, character: str) -> None:
        if self._depth == 1 and self._in_string:
            self._raw.append(character)
        if self._awaiting == "end" and self._member == self._key:
            self._waiting.append(character)

    def _end_string(self) -> None:
        try:
            text = str(json.loads("".join(self._raw)))
        except ValueError:  # an escape that JSON does not know
            text = "".join(self._raw)[1:-1]
        if self._awaiting == "key":
            self._member = text
        elif self._member == "name":
            self._name = text
