"""The load that does not wait: its arrivals, and what it makes of every way an answer can end."""

import asyncio

import pytest

from bench.client import chat
from bench.open_loop import NO_ANSWER, Heard, ask, closing, flood, poisson, windows

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
DELTA = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
ANSWERS = {
    "whole": (STREAM + DELTA + b"data: [DONE]\n\n", 200, True),
    "half": (STREAM + DELTA, 200, False),
    "refused": (b"HTTP/1.1 429 Too Many Requests\r\n\r\n{}", 429, True),
    "broken": (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", 503, True),
    "silent": (b"", NO_ANSWER, False),
}


def test_arrivals_come_at_their_rate_and_the_same_seed_is_the_same_load():
    times = poisson(50, 100, seed=1)
    assert times == poisson(50, 100, seed=1) != poisson(50, 100, seed=2)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 100
    assert 4600 < len(times) < 5400  # 5,000 ± 5.7 standard deviations


def test_a_request_says_that_its_connection_ends():
    head, _, body = closing(chat("m", "Hi", 3)).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:2] == [b"POST /v1/chat/completions HTTP/1.1", b"connection: close"]
    assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("name", list(ANSWERS))
def test_every_end_of_an_answer_is_told_apart(name):
    said, status, whole = ANSWERS[name]

    async def told():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await flood(port, lambda _: closing(chat("m", "Hi", 3)), [0.0, 0.01], lambda _: None)

    for heard in asyncio.run(told()):
        assert (heard.status, heard.whole) == (status, whole)
        assert heard.good == (name == "whole")
        assert bool(heard.first) == (name in ("whole", "half"))


def test_a_port_where_nobody_listens_is_no_answer():
    async def nobody():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await ask(port, b"GET / HTTP/1.1\r\n\r\n")

    assert asyncio.run(nobody()).status == NO_ANSWER


def test_windows_hold_what_ended_in_them_and_only_whole_ones_count():
    heard = [Heard(0, 0, 0, ended, 200, True) for ended in (0.5, 1.0, 1.5, 2.9, 3.1)]
    found = [[one.ended for one in window] for window in windows(heard, 1, 1, 3.5)]
    assert found == [[1.0, 1.5], [2.9]]
