"""For any pieces, what a client adds up from the events of a response equals the response told whole."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import EngineUnavailable
from server.records import Piece, Search
from server.sse import MEDIA_TYPE, frames
from server.wire.reading import Context
from server.wire.response_events import ResponseEvents
from server.wire.response_objects import response_object, shown
from server.wire.responses import LOGPROBS, RESULTS, read_response
from tests.server.samples import SOURCE, client_hearing, collected, plan_of, reply_to, spoken
from tests.server.test_stream_law import conversations

TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def asked(*, searched, logprobs, include, calling=False):
    body = {"input": "Hello", "stream": True, "include": include, "tools": []}
    if searched:
        body["tools"].append({"type": "file_search", "vector_store_ids": ["vs_1"]})
    if calling:
        body["tools"].append({"type": "function", "name": "f"})
    if logprobs is not None:
        body |= {"top_logprobs": logprobs, "include": [*include, LOGPROBS]}
    return read_response(orjson.dumps(body), Context(id="resp_1", created=7))


def events_of(parts):
    found = []
    for part in parts:
        if part.startswith(b": ping"):
            continue
        name, data = part.removesuffix(b"\n\n").split(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    return found


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    searched=st.booleans(),
    logprobs=st.sampled_from([None, 0, 2]),
    include=st.sampled_from([[], [RESULTS]]),
    calling=st.booleans(),
)
def test_the_events_add_up_to_the_whole_response(data, searched, logprobs, include, calling):
    pieces = data.draw(conversations(1, logprobs, calling))
    ask = asked(searched=searched, logprobs=logprobs, include=include, calling=calling)
    plan = plan_of(ask.turn, sources=(SOURCE,) if searched else ())
    reply = reply_to(plan, pieces)
    if reply.choices[0].finish == "length":
        reply = replace(reply, outcome="length")
    whole = shown(response_object(ask, plan, reply, stored=True), ask.include)
    kept = []

    async def keep(ended):
        kept.append(ended)

    sent = collected(
        frames(ResponseEvents(ask, plan, stored=True), spoken(*pieces), lambda: reply, keep=keep)
    )
    events = events_of(sent)
    kinds = [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert kinds[0] == "response.created"
    assert kinds.count("response.created") == 1
    assert [kind for kind in kinds if kind in TERMINAL] == [kinds[-1]]
    assert not any("error" in event for event in events)
    assert events[-1]["response"] == orjson.loads(orjson.dumps(whole))
    assert kept == [reply]
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert added == list(range(len(whole["output"])))
    at_end = sorted(
        (event for event in events if event["type"] == "response.output_item.done"),
        key=lambda event: event["output_index"],
    )
    assert [event["item"] for event in at_end] == orjson.loads(orjson.dumps(whole["output"]))
    for place, item in enumerate(whole["output"]):
        if item["type"] == "function_call":
            arguments = [
                event["delta"]
                for event in events
                if event["type"] == "response.function_call_arguments.delta"
                and event["output_index"] == place
            ]
            assert "".join(arguments) == item["arguments"]
    message = next((item for item in whole["output"] if item["type"] == "message"), None)
    part = message["content"][0] if message else {"text": "", "logprobs": [], "annotations": []}
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == part["text"]
    assert [token for event in deltas for token in event["logprobs"]] == part["logprobs"]
    notes = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert [event["annotation"] for event in notes] == part["annotations"]
    assert [event["annotation_index"] for event in notes] == list(range(len(notes)))
    with client_hearing(b"".join(sent), MEDIA_TYPE).responses.stream(model="m", input="") as stream:
        heard = list(stream)[-1]
        told = client_hearing(orjson.dumps(whole)).responses.create(model="m", input="")
        assert heard.response.output_text == told.output_text == part["text"]
        assert heard.response.id == told.id
        if whole["status"] == "completed":
            assert stream.get_final_response().usage.to_dict() == whole["usage"]


@pytest.mark.parametrize("said", [[], [Piece(text="Thir", tokens=(1,))]])
def test_a_failure_is_one_event_inside_the_response(said):
    ask = asked(searched=True, logprobs=None, include=[])
    plan = plan_of(ask.turn, sources=(SOURCE,))

    async def breaking():
        for piece in said:
            yield piece
        raise EngineUnavailable("the engine is gone")

    events = events_of(
        collected(frames(ResponseEvents(ask, plan, stored=True), breaking(), lambda: reply_to(plan, [])))
    )
    assert events[0]["type"] == "response.created"
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "the engine is gone"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert not any("error" in event for event in events)


def test_a_response_that_cannot_be_kept_does_not_complete():
    ask = asked(searched=False, logprobs=None, include=[])
    plan = plan_of(ask.turn)
    piece = Piece(text="x", tokens=(1,), finish="stop")

    async def keep(_):
        raise OSError("disk full: /secret/path")

    sent = collected(
        frames(
            ResponseEvents(ask, plan, stored=True), spoken(piece), lambda: reply_to(plan, [piece]), keep=keep
        )
    )
    last = events_of(sent)[-1]
    assert last["type"] == "response.failed"
    assert "secret" not in last["response"]["error"]["message"]


def test_a_turn_without_stores_has_no_search():
    assert asked(searched=False, logprobs=None, include=[]).turn.search == Search()
