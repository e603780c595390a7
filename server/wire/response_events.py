"""The events of one streamed response, in the order of openai-surface §7.4."""

from typing import Any

import orjson

from server.errors import ServerError
from server.records import Piece, Plan, Reply
from server.wire.problems import problem_of
from server.wire.response_objects import (
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


class ResponseEvents:
    """Numbers the events. The search is over before the first leaves, so its events leave together."""

    def __init__(self, ask: ResponseAsk, plan: Plan, *, stored: bool) -> None:
        self._ask = ask
        self._plan = plan
        self._stored = stored
        self._number = 0
        self._searched = bool(plan.turn.search.stores)
        at = 1 if self._searched else 0
        self._item = {"item_id": message_id(plan), "output_index": at}
        self._part: dict[str, Any] = {**self._item, "content_index": 0}
        same = orjson.dumps({**self._part, "type": f"{TEXT}.delta"})[:-1]
        self._delta = f"event: {TEXT}.delta\ndata: ".encode() + same + b',"sequence_number":'

    def open(self, piece: Piece) -> bytes:
        begun = self._response(None)
        events = self._event("response.created", response=begun)
        events += self._event("response.in_progress", response=begun)
        if self._searched:
            item = search_item(self._plan)
            found = shown({"output": [item]}, self._ask.include)["output"][0]
            same = {"item_id": item["id"], "output_index": 0}
            waiting = {**item, "status": "in_progress", "results": None}
            events += self._event(f"{ITEM}.added", output_index=0, item=waiting)
            for step in ("in_progress", "searching", "completed"):
                events += self._event(f"{SEARCH}.{step}", **same)
            events += self._event(f"{ITEM}.done", output_index=0, item=found)
        added = {"output_index": self._item["output_index"], "item": message_item(self._plan)}
        events += self._event(f"{ITEM}.added", **added)
        events += self._event(f"{PART}.added", **self._part, part=text_part(self._plan))
        return events + self.take(piece)

    def take(self, piece: Piece) -> bytes:
        """Empty when there is nothing to say. Called for every token."""
        events = b""
        if piece.text or piece.logprobs:
            logprobs = b"[]"
            if piece.logprobs:
                logprobs = orjson.dumps(response_logprobs(piece.logprobs, self._plan.turn.logprobs))
            number = str(self._number).encode()
            text = orjson.dumps(piece.text)
            events = self._delta + number + b',"delta":' + text + b',"logprobs":' + logprobs + b"}\n\n"
            self._number += 1
        for at, annotation in enumerate(file_citations(piece.citations)):
            events += self._event(
                f"{TEXT}.annotation.added", **self._part, annotation_index=at, annotation=annotation
            )
        return events

    def close(self, reply: Reply) -> bytes:
        (choice,) = reply.choices
        part = text_part(self._plan, choice)
        events = self._event(f"{TEXT}.done", **self._part, text=choice.text, logprobs=part["logprobs"])
        events += self._event(f"{PART}.done", **self._part, part=part)
        done = {"output_index": self._item["output_index"], "item": message_item(self._plan, choice)}
        events += self._event(f"{ITEM}.done", **done)
        response = self._response(reply)
        return events + self._event(f"response.{response['status']}", response=response)

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
