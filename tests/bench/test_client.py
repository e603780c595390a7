"""The load generator against a server that answers from a script."""

import asyncio
import json

import pytest

from bench.client import chat, closed_loop, connected
from server.loops import loop_factory

STREAM = b"".join(
    b"%x\r\n%s\r\n" % (len(frame), frame)
    for frame in (
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"b"}}]}\n\n',
        b'data: {"choices":[],"usage":{"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    )
)
ANSWER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + STREAM + b"0\r\n\r\n"


def asked(answer: bytes, *, requests: int = 4, connections: int = 2, step: int = 7):
    """What the client makes of `answer`, dribbled out `step` bytes at a time."""
    bodies: list[dict] = []

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            bodies.append(json.loads(await reader.readexactly(size)))
            for at in range(0, len(answer), step):
                writer.write(answer[at : at + step])
                await asyncio.sleep(0)

    async def run():
        server = await asyncio.start_server(lambda r, w: _until_left(serve(r, w), w), "127.0.0.1", 0)
        async with server, connected(server.sockets[0].getsockname()[1], connections) as opened:
            return await closed_loop(opened, [chat("m", "hi", 2)] * requests)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:  # uvloop where it is, as in the benches
        return runner.run(run()), bodies


async def _until_left(serving, writer):
    try:
        await serving
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def test_each_request_gets_its_whole_answer():
    told, bodies = asked(ANSWER)
    assert len(told) == len(bodies) == 4
    assert all(answer.ok and answer.usage() == {"completion_tokens": 2} for answer in told)
    assert {answer.text() for answer in told} == {"ab"}
    assert bodies[0]["max_tokens"] == 2


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_the_first_token_is_the_first_text_not_the_role(step):
    (answer,), _ = asked(ANSWER, requests=1, connections=1, step=step)
    assert answer.asked < answer.first <= answer.ended


def test_an_error_is_no_answer():
    (answer,), _ = asked(
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}", requests=1, connections=1, step=4096
    )
    assert not answer.ok
