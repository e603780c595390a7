"""The events of one streamed response, in the order of openai-surface §7.4."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from prompts.records import Call
from server.calling import CallPart
from server.errors import ServerError
from server.records import Piece, Plan, Reply, TokenLogprob
from server.wire.problems import problem_of
from server.wire.response_objects import (
    call_item,
    file_citations,
    message_id,
    message_item,
    response_logprobs,
    response_object,
    search_item,
    shown,
    text_part,
)
from server.wire.responses import ResponseAsk

PART = "response.content_part"
ITEM = "response.output_item"
TEXT = "response.output_text"
SEARCH = "response.file_search_call"
ARGUMENTS = "response.function_call_arguments"


class CallSoFar(NamedTuple):
    """An announced call."""

    place: int  # in the output
    id: str
    name: str
    arguments: list[str]


class ResponseEvents:
    """Numbers the events. The search is over before the first leaves, so its events leave together.

    The message is announced with its first words where there may be calls instead, else at once.
    """

    def __init__(self, ask: ResponseAsk, plan: Plan, *, stored: bool) -> None:
        self._ask = ask
        self._plan = plan
        self._stored = stored
        self._number = 0
        self._items = 0  # announced so far
        self._calls: list[CallSoFar] = []
        self._message: int | None = None  # its place in the output, once announced
        self._part: dict[str, Any] = {}
        self._delta = b""
        self._early: list[TokenLogprob] = []  # of tokens before the first words

    def open(self, piece: Piece) -> bytes:
        begun = self._response(None)
        events = self._event("response.created", response=begun)
        events += self._event("response.in_progress", response=begun)
        if self._plan.turn.search.stores:
            item = search_item(self._plan)
            found = shown({"output": [item]}, self._ask.include)["output"][0]
            same = {"item_id": item["id"], "output_index": 0}
            waiting = {**item, "status": "in_progress", "results": None}
            events += self._event(f"{ITEM}.added", output_index=0, item=waiting)
            for step in ("in_progress", "searching", "completed"):
                events += self._event(f"{SEARCH}.{step}", **same)
            events += self._event(f"{ITEM}.done", output_index=0, item=found)
            self._items = 1
        if not self._plan.turn.calling.functions:
            events += self._begin_message()
        return events + self.take(piece)

    def take(self, piece: Piece) -> bytes:
        """Empty when there is nothing to say. Called for every token."""
        events = b""
        if self._message is None:
            self._early += piece.logprobs or ()
            if piece.text or (piece.finish and not self._calls and not piece.calls):
                events += self._begin_message()
                piece = replace(piece, logprobs=tuple(self._early) or None)
        if self._message is not None and (piece.text or piece.logprobs):
            logprobs = b"[]"
            if piece.logprobs:
                logprobs = orjson.dumps(response_logprobs(piece.logprobs, self._plan.turn.logprobs))
            number = str(self._number).encode()
            text = orjson.dumps(piece.text)
            events += self._delta + number + b',"delta":' + text + b',"logprobs":' + logprobs + b"}\n\n"
            self._number += 1
        for part in piece.calls:
            events += self._call(part)
        for at, annotation in enumerate(file_citations(piece.citations)):
            events += self._event(
                f"{TEXT}.annotation.added", **self._part, annotation_index=at, annotation=annotation
            )
        return events

    def close(self, reply: Reply) -> bytes:
        (choice,) = reply.choices
        response = self._response(reply)
        events = b""
        if self._message is not None:
            part = text_part(self._plan, choice)
            events += self._event(f"{TEXT}.done", **self._part, text=choice.text, logprobs=part["logprobs"])
            events += self._event(f"{PART}.done", **self._part, part=part)
            done = {"output_index": self._message, "item": message_item(self._plan, choice)}
            events += self._event(f"{ITEM}.done", **done)
        if self._calls:
            events += self._end_call(response["output"][self._calls[-1].place])
        return events + self._event(f"response.{response['status']}", response=response)

    def _begin_message(self) -> bytes:
        self._message = self._items
        self._items += 1
        self._part = {"item_id": message_id(self._plan), "output_index": self._message, "content_index": 0}
        same = orjson.dumps({**self._part, "type": f"{TEXT}.delta"})[:-1]
        self._delta = f"event: {TEXT}.delta\ndata: ".encode() + same + b',"sequence_number":'
        item = message_item(self._plan)
        return self._event(f"{ITEM}.added", output_index=self._message, item=item) + self._event(
            f"{PART}.added", **self._part, part=text_part(self._plan)
        )

    def _call(self, part: CallPart) -> bytes:
        events = b""
        if part.name is not None:
            if self._calls:
                before = self._calls[-1]
                whole = Call(before.id, before.name, "".join(before.arguments))
                events += self._end_call(call_item(self._plan, len(self._calls) - 1, whole))
            self._calls.append(CallSoFar(self._items, part.id or "", part.name, []))
            self._items += 1
            item = call_item(self._plan, part.at, Call(part.id or "", part.name, ""))
            waiting = {**item, "status": "in_progress"}
            events += self._event(f"{ITEM}.added", output_index=self._calls[-1].place, item=waiting)
        if part.arguments:
            call = self._calls[part.at]
            call.arguments.append(part.arguments)
            item_id = call_item(self._plan, part.at, Call("", "", ""))["id"]
            same = {"item_id": item_id, "output_index": call.place}
            events += self._event(f"{ARGUMENTS}.delta", **same, delta=part.arguments)
        return events

    def _end_call(self, item: Mapping[str, Any]) -> bytes:
        place = self._calls[-1].place
        told = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
        return self._event(f"{ARGUMENTS}.done", output_index=place, **told) + self._event(
            f"{ITEM}.done", output_index=place, item=item
        )

    def failure(self, error: Exception) -> bytes:
        """The client raises on any top-level key `error`, so the failure stands inside the response."""
        said = problem_of(error).message if isinstance(error, ServerError) else "the answer broke off"
        failed = response_object(self._ask, self._plan, stored=False, failure=said)
        events = b"" if self._number else self._event("response.created", response=self._response(None))
        return events + self._event("response.failed", response=failed)

    def _response(self, reply: Reply | None) -> dict[str, Any]:
        whole = response_object(self._ask, self._plan, reply, stored=self._stored)
        return shown(whole, self._ask.include)

    def _event(self, kind: str, **fields: Any) -> bytes:
        said = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return f"event: {kind}\ndata: ".encode() + said + b"\n\n"
