"""Calls written as `<tool_call>{"name": …, "arguments": …}</tool_call>`: their wording, and a reader of it.

The wording stands in for a chat template that has no place for functions; it is that of the Hermes models,
which vLLM's parser `hermes` reads. The reader is for the decoder without a model: others are read by vLLM.
"""

import json
from collections.abc import Sequence

from prompts.records import Call, Message
from server.call_reading import CallObject
from server.calling import CallPart, Function, Heard

BEGIN, END = "<tool_call>", "</tool_call>"
OFFER = """\
You may call one or more of these functions to help the user, each described by a JSON object:
<tools>
{functions}
</tools>

For each call, write a JSON object with the function's name and its arguments between <tool_call> tags:
<tool_call>
{{"name": "<name of the function>", "arguments": {{<its arguments>}}}}
</tool_call>
What a call gives comes back between <tool_response> tags."""


def worded(messages: Sequence[Message], functions: Sequence[Function]) -> list[Message]:
    """The conversation in plain turns: functions in the system text, calls and what they gave as text.

    What several calls gave is one turn of the user's: templates often want user and assistant to alternate.
    """
    if not functions and not any(message.calls or message.role == "tool" for message in messages):
        return list(messages)
    turns: list[Message] = []
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.text}\n</tool_response>"
            if turns and turns[-1].answers is not None:
                text = f"{turns.pop().text}\n{text}"
            turns.append(Message("user", text, answers=message.answers))
        else:
            calls = "\n".join(map(_written, message.calls))
            turns.append(Message(message.role, "\n".join(part for part in (message.text, calls) if part)))
    if not functions:
        return turns
    described = "\n".join(json.dumps(function.shown(), ensure_ascii=False) for function in functions)
    offer = OFFER.format(functions=described)
    if turns and turns[0].role == "system":
        return [Message("system", f"{turns[0].text}\n\n{offer}"), *turns[1:]]
    return [Message("system", offer), *turns]


def _written(call: Call) -> str:
    arguments = json.loads(call.arguments)
    return f"{BEGIN}\n{json.dumps({'name': call.name, 'arguments': arguments}, ensure_ascii=False)}\n{END}"


class HermesReader:
    """Text up to a `<tool_call>`, then calls; what might be the start of a tag waits until it is decided."""

    def __init__(self) -> None:
        self._held = ""
        self._call: CallObject | None = None
        self._inside = False
        self._written = ""  # between the tags
        self._at = 0

    def read(self, text: str, tokens: tuple[int, ...], *, ends: bool) -> Heard:
        self._held += text
        said: list[str] = []
        parts: list[CallPart] = []
        while self._held:
            tag = END if self._inside else BEGIN
            found = self._held.find(tag)
            waits = 0 if ends else _open(self._held, tag)
            ready = self._held[: found if found >= 0 else len(self._held) - waits]
            self._held = self._held[len(ready) :]
            if self._inside:
                parts += self._spelt(ready)
            else:
                said.append(ready)
            if found < 0:
                break
            self._held = self._held[len(tag) :]
            if self._inside and self._call is not None and not self._call.told:
                said.append(f"{BEGIN}{self._written}{END}")  # between the tags stood no call
            self._inside = not self._inside
            self._written = ""
            self._call = CallObject(self._at, "arguments") if self._inside else None
        return Heard("".join(said), tuple(parts))

    def _spelt(self, text: str) -> list[CallPart]:
        if self._call is None:
            return []
        begun = self._call.told
        self._written += text
        for character in text:
            if not self._call.closed and (self._call.begun or character == "{"):
                self._call.step(character)
        parts = self._call.take()
        self._at += self._call.told and not begun
        return parts


def _open(text: str, tag: str) -> int:
    """Length of the longest beginning of `tag` that `text` ends in."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
