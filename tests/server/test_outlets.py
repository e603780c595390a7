"""Pieces that pass those who wait for them: the stream is the same, and ends as any other."""

import asyncio
import json
import re
import socket
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.bounded_http import EXCHANGE, BoundedHttp
from server.coalescing import Coalescing
from server.echo_decoder import EchoDecoder
from server.records import Piece
from tests.server.leaving import seconds_until
from tests.server.samples import token
from tests.server.test_slow_clients import asked, connect

ASK = {"model": "echo", "messages": [{"role": "user", "content": "How long is tea steeped?"}], "stream": True}
WORDS = st.text(max_size=4) | st.sampled_from(
    [
        "é",
        "日本",
        "👩‍👩‍👧",
        "[1]",
        "[",
        "9]",
        "[2",
        ", 1]",
        "tea. ",
        '<tool_call>\n{"name": "f", ',
        '"arguments": {}}',
    ]
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "logprobs": st.just(True),
        "stream_options": st.sampled_from(
            [{"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}]
        ),
        "fewshot": st.just({"vector_store_ids": ["facts"]}),
        "tools": st.just([TOOL]),
    },
)


class Scripted(EchoDecoder):
    """Says `says`, piece by piece, each offered from a callback of the loop while it is waited for."""

    says: tuple[Piece, ...] = ()
    shown = 0

    async def decode(self, prompt, limits, *, request_id, adapter=None, show=None):
        loop = asyncio.get_running_loop()
        left = list(self.says) if not request_id.startswith("probe") else [Piece(text="x", finish="stop")]
        waiting = None

        def come():
            if waiting.done():
                return
            piece = left.pop(0)
            if show is not None and show(piece):
                self.shown += 1
                loop.call_soon(come)
            else:
                waiting.set_result(piece)

        while left:
            waiting = loop.create_future()
            loop.call_soon(come)
            yield await waiting


@st.composite
def answers(draw):
    """Pieces of one choice, as a decoder gives them; log-probabilities for all tokens."""
    pieces = []
    for text in draw(st.lists(WORDS, min_size=1, max_size=12)):
        pieces.append(Piece(text=text, tokens=tuple(map(ord, text)), logprobs=tuple(map(token, text))))
    pieces[-1].finish = draw(st.sampled_from(["stop", "length"]))
    return tuple(pieces)


class Either(BoundedHttp):
    """Pieces find a way past, unless the request asks that they be waited for."""

    def on_headers_complete(self):
        super().on_headers_complete()
        if (b"x-waited-for", b"1") in self.scope["headers"]:
            self.scope["extensions"].pop(EXCHANGE)


def streamed(client, body, **headers):
    """The events of a stream, but for what is of its request alone."""
    said = client.post("/v1/chat/completions", json={**ASK, **body}, headers=headers).text
    *lines, done = [line.removeprefix("data: ") for line in said.split("\n") if line]
    assert done == "[DONE]", said
    events = [json.loads(re.sub(r'"id":"[^"]*"', '"id":0', line)) for line in lines]
    for event in events:
        del event["created"]
        if "fewshot" in event:
            event["fewshot"] = {key: event["fewshot"][key] for key in ("citations", "citations_dropped")}
    return events


def test_a_stream_is_the_same_by_both_ways(serve):
    decoder = Scripted()

    async def open_decoder():
        return decoder

    with (
        serve(open_decoder=open_decoder, http=Either) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        while not running.parts.engine.up.is_set():
            time.sleep(0.01)
        passed = []

        @settings(max_examples=50, deadline=None)
        @given(says=answers(), fields=FIELDS)
        def check(says, fields):
            decoder.says, decoder.shown = says, 0
            waited_for = streamed(client, fields, **{"x-waited-for": "1"})
            assert decoder.shown == 0
            assert streamed(client, fields) == waited_for
            assert decoder.shown <= max(len(says) - 2, 0)  # neither the first nor the last
            passed.append(decoder.shown)

        check()
        assert sum(passed) > len(passed)
        assert running.parts.admission.running == 0


def test_a_frame_that_cannot_be_made_ends_its_stream_alone(serve, caplog):
    decoder = Scripted()

    async def open_decoder():
        return decoder

    with serve(open_decoder=open_decoder) as running:
        while not running.parts.engine.up.is_set():
            time.sleep(0.01)
        decoder.says = (
            Piece(text="a", tokens=(97,)),
            Piece(index=5, text="?", tokens=(63,)),  # of a choice that is none
            Piece(text="b", tokens=(98,), finish="stop"),
        )
        said = httpx.post(f"{running.url}/v1/chat/completions", json=ASK).text
        assert '"code":"internal_error"' in said
        assert "[DONE]" not in said
        assert "after its first byte" in caplog.text
        assert seconds_until(lambda: running.parts.admission.running == 0, 20) < 20
        turn = json.loads(said.split("\n")[0].removeprefix("data: "))["id"]
        assert running.journalled(turn)["replies.outcome"] == "failed"
        assert json.loads(running.journalled(turn)["replies.token_lengths"]) == [2]
        decoder.says = (Piece(text="fine", finish="stop"),)
        assert "[DONE]" in httpx.post(f"{running.url}/v1/chat/completions", json=ASK).text


def test_a_slow_reader_gets_everything_and_little_waits_for_him(serve):
    opened = []

    class Watched(BoundedHttp):
        def connection_made(self, transport):
            super().connection_made(transport)
            opened.append(self)

    reply = "".join(f"{number} 東京 " for number in range(15_000))
    with (
        serve(reply=reply, interval_seconds=1e-5, context_tokens=10**7, http=Watched) as running,
        connect(running.url, receive_bytes=2**14) as slow,
    ):
        body = asked("x", stream=True, max_tokens=len(reply))
        slow.sendall(body)
        said = bytearray(slow.recv(1024))
        assert seconds_until(lambda: opened[0].flow.write_paused, 20) < 20  # he is behind
        time.sleep(0.1)
        assert opened[0].transport.get_write_buffer_size() < 2**19
        while not said.endswith(b"\r\n0\r\n\r\n"):
            got = slow.recv(1 << 16)
            assert got
            said += got
    data = b"".join(re.findall(rb"data: (\{.*\})\n", bytes(said)))
    texts = re.findall(rb'"content":("(?:[^"\\]|\\.)*")', data)
    assert "".join(map(json.loads, texts)) == reply


def test_whoever_leaves_or_is_late_frees_his_place_and_the_others_are_told_all(serve):
    reply = "All work and no play makes a dull boy. "
    loaded = Coalescing(lambda: 1000, most_seconds=0.01)
    with serve(reply=reply * 5, interval_seconds=0.002, coalescing=loaded) as running:
        staying = [running.clients.enter_context(connect(running.url)) for _ in range(6)]
        leaving = [connect(running.url).__enter__() for _ in range(6)]
        late = running.clients.enter_context(connect(running.url))
        begun = {}
        for at, connection in enumerate([*staying, *leaving]):
            connection.sendall(asked("x", stream=True))
            if at % 3 == 0:
                begun[connection] = connection.recv(1024)
        late.sendall(asked("x", stream=True).replace(b"\r\n\r\n", b"\r\nx-request-timeout: 0.1\r\n\r\n", 1))
        for number, connection in enumerate(leaving):
            time.sleep(0.01)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        for connection in (*staying, late):
            said = begun.get(connection, b"")
            while not said.endswith(b"\r\n0\r\n\r\n"):
                got = connection.recv(1 << 16)
                assert got
                said += got
            if connection is late:
                assert b"deadline_exceeded" in said
                continue
            texts = re.findall(rb'"content":("(?:[^"\\]|\\.)*")', said)
            assert "".join(map(json.loads, texts)) == reply * 5
            assert b"[DONE]" in said
        assert seconds_until(lambda: running.parts.admission.running == 0, 20) < 20
        assert running.decoder.running == 0


@pytest.mark.parametrize("path", ["completions", "responses"])
def test_the_other_routes_tell_all_of_it_too(serve, path):
    reply = "Grüße aus 東京, 🌍! " * 8
    loaded = Coalescing(lambda: 1000, most_seconds=0.01)
    with serve(reply=reply, interval_seconds=0.001, coalescing=loaded) as running:
        asks = {"completions": {"prompt": "x", "max_tokens": 1000}, "responses": {"input": "x"}}
        body = {"model": "echo", "stream": True, **asks[path]}
        said = httpx.post(f"{running.url}/v1/{path}", json=body, timeout=30).text
    events = [json.loads(line[6:]) for line in said.split("\n") if line.startswith("data: {")]
    if path == "completions":
        assert "".join(one["text"] for event in events for one in event["choices"]) == reply
    else:
        assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == reply
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
