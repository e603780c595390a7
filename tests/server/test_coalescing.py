"""Tokens travel together under load and alone otherwise; nothing of them is lost on the way."""

import asyncio
import json
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.bounded_http import EXCHANGE, BoundedHttp
from server.coalescing import Coalescing
from server.echo_decoder import EchoDecoder
from server.records import Limits

REPLY = "Grüße aus 東京, 🌍! "
ASK = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


class Plain(BoundedHttp):
    """Every chunk goes through all layers."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope["extensions"].pop(EXCHANGE, None)


def events(body):
    return [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]


def deltas(body):
    return [choice for event in events(body) for choice in event["choices"] if choice["delta"].get("content")]


@settings(deadline=None)
@given(streams=st.integers(0, 5000), more=st.integers(0, 5000), most=st.floats(0, 1))
def test_more_streams_rest_longer_and_few_not_at_all(streams, more, most):
    rest = Coalescing(lambda: streams, most_seconds=most).rest_seconds
    assert 0 <= rest <= most
    assert rest <= Coalescing(lambda: streams + more, most_seconds=most).rest_seconds
    assert streams > 3 or rest == 0


def test_all_who_rest_are_woken_and_one_who_leaves_disturbs_nobody():
    async def rested() -> list[object]:
        coalescing = Coalescing(lambda: 100, most_seconds=0.05)

        async def rest() -> None:
            began = time.monotonic()
            await coalescing.rest()
            assert time.monotonic() - began > 0.001

        resting = [asyncio.create_task(rest()) for _ in range(100)]
        await asyncio.sleep(0)
        resting[7].cancel()
        async with asyncio.timeout(10):
            first = await asyncio.gather(*resting, return_exceptions=True)
            await rest()  # and there is a next beat
        return first

    found = asyncio.run(rested())
    assert isinstance(found.pop(7), asyncio.CancelledError)
    assert found == [None] * 99


@settings(max_examples=30, deadline=None)
@given(interval=st.sampled_from([1e-6, 1e-4]), rest=st.sampled_from([0, 0.002]), tokens=st.integers(1, 200))
def test_what_the_echo_was_not_asked_for_in_time_is_one_piece(interval, rest, tokens):
    decoder = EchoDecoder(reply=REPLY, interval_seconds=interval)
    limits = Limits(max_tokens=tokens, temperature=0.0, ignore_eos=True, logprobs=1)

    async def told():
        pieces = []
        async for piece in decoder.decode((1,), limits, request_id="a"):
            pieces.append(piece)
            await asyncio.sleep(rest)
        return pieces

    pieces = asyncio.run(told())
    text = (REPLY * tokens)[:tokens]
    assert len(pieces[0].tokens) == 1
    assert [token for piece in pieces for token in piece.tokens] == [ord(one) for one in text]
    assert "".join(piece.text for piece in pieces) == text
    assert "".join(one.token for piece in pieces for one in piece.logprobs) == text
    assert [piece.finish for piece in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    if rest:  # about `rest` has passed before each piece but the first; half of it allows for coarse clocks
        assert len(pieces) <= 2 + 2 * tokens * interval / rest


@pytest.mark.parametrize("http", [BoundedHttp, Plain])
def test_under_load_events_hold_several_tokens_and_every_token_its_log_probability(serve, http):
    loaded = Coalescing(lambda: 1000, most_seconds=0.05)
    fields = {"max_tokens": 100, "logprobs": True, "top_logprobs": 1, "ignore_eos": True}
    with serve(reply=REPLY, interval_seconds=0.001, coalescing=loaded, http=http) as running:
        address = f"{running.url}/v1/chat/completions"
        asked = {**ASK, **fields, "stream_options": {"include_usage": True}}
        body = httpx.post(address, json=asked, timeout=30).text
    said = deltas(body)
    assert "".join(one["delta"]["content"] for one in said) == (REPLY * 100)[:100]
    assert len(said) <= 50  # beats are 50 ms apart, and at least 49 tokens come between two
    tokens = [[entry["token"] for entry in one["logprobs"]["content"]] for one in said]
    assert ["".join(some) for some in tokens] == [one["delta"]["content"] for one in said]
    assert tokens[0] == [REPLY[0]]  # the first is never held
    assert events(body)[-1]["usage"]["completion_tokens"] == 100
    assert body.rstrip().endswith("data: [DONE]")


def test_a_deadline_falls_also_on_who_rests(serve):
    for_ever = Coalescing(lambda: 10**9, most_seconds=60)
    with serve(reply="x" * 40, interval_seconds=0.001, coalescing=for_ever) as running:
        began = time.monotonic()
        headers = {"x-request-timeout": "0.5"}
        answer = httpx.post(f"{running.url}/v1/chat/completions", json=ASK, headers=headers, timeout=50)
        assert '"code":"deadline_exceeded"' in answer.text
        assert time.monotonic() - began < 30
        assert running.parts.admission.running == 0


def test_the_end_of_an_answer_travels_with_its_last_token(serve):
    for_ever = Coalescing(lambda: 10**9, most_seconds=60)
    with serve(reply="x", interval_seconds=0.001, coalescing=for_ever) as running:
        body = httpx.post(f"{running.url}/v1/chat/completions", json=ASK, timeout=30).text
    assert body.rstrip().endswith("data: [DONE]")


def test_whoever_has_a_piece_for_each_choice_does_not_rest_between_them(serve):
    loaded = Coalescing(lambda: 10**9, most_seconds=60)
    with serve(reply="abc", interval_seconds=0.001, coalescing=loaded) as running:
        asked = {**ASK, "n": 3, "temperature": 1}
        body = httpx.post(f"{running.url}/v1/chat/completions", json=asked, timeout=30).text
    texts = [
        "".join(one["delta"]["content"] for one in deltas(body) if one["index"] == at) for at in range(3)
    ]
    assert texts == ["abc"] * 3
