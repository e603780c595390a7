"""Frames of chat: their order, what each carries, and how a stream fails."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from server.errors import EngineUnavailable
from server.records import Piece
from server.sse import DONE, MEDIA_TYPE, PING, chat_frames
from server.wire.chat import chat_body
from tests.server.samples import (
    CITATION,
    SOURCE,
    chat_turn,
    chunks,
    client_hearing,
    collected,
    plan_of,
    reply_to,
    spoken,
)

TWO = (
    Piece(index=1, text="Ja", tokens=(1,)),
    Piece(index=0, text="Yes", tokens=(2,)),
    Piece(index=1, tokens=(3,), finish="length"),
    Piece(index=0, text=".", tokens=(4,), finish="stop"),
)


def said(*pieces: Piece, **fields: object) -> list[bytes]:
    plan = plan_of(chat_turn(stream=True, **fields))
    return collected(chat_frames(plan, spoken(*pieces), lambda: reply_to(plan, pieces)))


def test_choices_are_announced_in_order_once_and_with_the_role():
    opening = chunks(said(*TWO, n=2))[:2]
    assert [chunk["choices"][0]["index"] for chunk in opening] == [0, 1]
    assert all(chunk["choices"][0]["delta"] == {"role": "assistant", "content": ""} for chunk in opening)
    later = chunks(said(*TWO, n=2))[2:]
    assert not any("role" in choice["delta"] for chunk in later for choice in chunk["choices"])


def test_every_chunk_says_whose_it_is():
    for chunk in chunks(said(*TWO, n=2)):
        assert chunk["id"] == "chatcmpl-1"
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["system_fingerprint"] == "fp_0123456789ab"
        assert chunk["usage"] is None


def test_fewshot_comes_first_and_again_complete_with_the_last_choice_to_end():
    plan = plan_of(chat_turn(n=2, stream=True), sources=(SOURCE,))
    pieces = (*TWO[:3], Piece(index=0, text=".", finish="stop", citations=(CITATION,)))
    reply = reply_to(plan, pieces)
    said = chunks(collected(chat_frames(plan, spoken(*pieces), lambda: reply)))
    carriers = [number for number, chunk in enumerate(said) if "fewshot" in chunk]
    assert carriers == [0, len(said) - 1]
    assert set(said[0]["fewshot"]) == set(said[-1]["fewshot"])
    assert said[-1]["fewshot"] == chat_body(reply)["fewshot"]
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert [note["fewshot"]["n"] for note in said[-1]["choices"][0]["delta"]["annotations"]] == [1]


def test_usage_is_the_last_chunk_and_only_when_asked_for():
    frames = said(*TWO, n=2, include_usage=True)
    last = chunks(frames)[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert frames[-1] == DONE
    assert all(chunk["choices"] for chunk in chunks(said(*TWO, n=2)))


def test_continuous_usage_counts_as_it_goes():
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks(said(*TWO, n=2, continuous_usage=True))]
    assert counts == [0, 0, 1, 2, 3, 4, 4]


def test_held_back_text_leaves_no_empty_chunk():
    deltas = [choice["delta"] for chunk in chunks(said(*TWO, n=2)) for choice in chunk["choices"]]
    assert deltas.count({"content": ""}) == 0


def test_pings_until_the_first_piece_and_nothing_before_it():
    plan = plan_of(chat_turn(stream=True))
    piece = Piece(text="a", finish="stop")
    frames = chat_frames(plan, spoken(piece, after=0.05), lambda: reply_to(plan, [piece]), ping_seconds=0.02)
    said = collected(frames)
    assert said[:2] == [PING, PING]
    assert PING not in said[2:]


def test_a_stream_may_start_from_a_piece_that_is_awaited_already():
    plan = plan_of(chat_turn(n=2, stream=True))
    reply = reply_to(plan, TWO)

    async def both() -> list[bytes]:
        pieces = spoken(*TWO)
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.wait({first})
        return [part async for part in chat_frames(plan, pieces, lambda: reply, first=first)]

    assert b"".join(asyncio.run(both())) == b"".join(
        collected(chat_frames(plan, spoken(*TWO), lambda: reply))
    )


def test_a_failure_before_the_first_piece_is_told_in_the_stream_too():
    async def dead() -> AsyncIterator[Piece]:
        raise EngineUnavailable("The engine stopped; try again.")
        yield Piece()

    plan = plan_of(chat_turn(stream=True))
    (frame,) = collected(chat_frames(plan, dead(), lambda: reply_to(plan, [])))
    assert b"engine_unavailable" in frame


def test_a_failure_on_the_way_is_one_error_frame_without_done(caplog: pytest.LogCaptureFixture):
    async def dying() -> AsyncIterator[Piece]:
        yield Piece(text="a")
        raise EngineUnavailable("The engine stopped; try again.")

    plan = plan_of(chat_turn(stream=True))
    frames = collected(chat_frames(plan, dying(), lambda: reply_to(plan, [])))
    assert chunks(frames)[-1]["error"]["code"] == "engine_unavailable"
    assert DONE not in frames
    client = client_hearing(b"".join(frames), MEDIA_TYPE)
    stream = client.chat.completions.create(model="m", messages=[], stream=True)
    with pytest.raises(openai.APIError, match="The engine stopped"):
        list(stream)
    assert not caplog.records


def test_a_choice_left_open_is_a_bug_and_says_no_more(caplog: pytest.LogCaptureFixture):
    frames = said(*TWO[:3], n=2)
    assert chunks(frames)[-1]["error"]["code"] == "internal_error"
    assert DONE not in frames
    assert "after its first byte" in caplog.text


@pytest.mark.parametrize("read", [0, 1, 2])
def test_closing_the_stream_closes_the_pieces(read: int):
    closed = []

    async def endless() -> AsyncIterator[Piece]:
        try:
            while True:
                await asyncio.sleep(0.001)
                yield Piece(text="a")
        finally:
            closed.append(True)

    async def leave() -> None:
        plan = plan_of(chat_turn(stream=True))
        frames = chat_frames(plan, endless(), lambda: reply_to(plan, []), ping_seconds=0.0001)
        for _ in range(read + 1):
            await anext(frames)
        await frames.aclose()

    asyncio.run(leave())
    assert closed == [True]
