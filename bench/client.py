"""The load: raw HTTP/1.1 over kept connections, as little work per byte as Python can do.

Not httpx: a client that parses every event costs more than the server, and then measures itself.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

CONTENT = b'"delta":{"content":'  # only in chunks that carry text, ours and vLLM's alike
OK = b"HTTP/1.1 200"
END = b"0\r\n\r\n"
READ_BYTES = 2**16


class Told(NamedTuple):
    """One streamed answer. Times are time.monotonic(), which all processes of a machine share."""

    asked: float
    first: float  # when the first chunk with text was read
    ended: float
    body: bytes  # as it came: status line, headers, chunks

    @property
    def ttft(self) -> float:
        return self.first - self.asked

    @property
    def ok(self) -> bool:
        return self.body.startswith(OK) and b"data: [DONE]" in self.body

    def events(self) -> list[dict[str, Any]]:
        """Every `data:` object of the stream."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]

    def first_event(self) -> dict[str, Any]:
        """The first `data:` object alone: reading all of them would cost more than the server did."""
        start = self.body.index(b"data: {") + 6
        said: dict[str, Any] = json.loads(self.body[start : self.body.index(b"\n", start)])
        return said

    def text(self) -> str:
        """What the only choice said."""
        deltas = [choice["delta"] for event in self.events() for choice in event["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    def usage(self) -> dict[str, Any]:
        """The counts of the last chunk; the request asked for them with include_usage."""
        start = self.body.rindex(b"data: {") + 6
        said: dict[str, Any] = json.loads(self.body[start : self.body.index(b"\n", start)])["usage"]
        return said


class Connection:
    """One request after the other on one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> Told:
        """Raises ConnectionError when the server goes away in the middle."""
        received: list[bytes] = []
        first = 0.0
        tail = status = b""
        asked = time.monotonic()
        self._writer.write(request)
        while not tail.endswith(END):
            got = await self._reader.read(READ_BYTES)
            if not got:
                raise ConnectionError("the server closed the connection in the middle of an answer")
            if not first and CONTENT in tail + got:
                first = time.monotonic()
            received.append(got)
            tail = (tail + got)[-len(CONTENT) :]
            if len(status) < len(OK):
                status = b"".join(received)[: len(OK)]
                if not OK.startswith(status):
                    break  # an error is not chunked: what has come says enough
        return Told(asked, first, time.monotonic(), b"".join(received))


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections to this machine's `port`."""
    opened = [await asyncio.open_connection("127.0.0.1", port, limit=2**20) for _ in range(count)]
    try:
        yield [Connection(reader, writer) for reader, writer in opened]
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


async def closed_loop(connections: Sequence[Connection], requests: Iterable[bytes]) -> list[Told]:
    """Every request once; each connection asks again as soon as it has its answer. In order of asking."""
    waiting = iter(requests)
    told: list[Told] = []

    async def work(connection: Connection) -> None:
        for request in waiting:
            told.append(await connection.ask(request))

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    return sorted(told, key=lambda answer: answer.asked)


def post(path: str, body: dict[str, Any]) -> bytes:
    """The bytes of a request, built before any clock runs."""
    said = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(said)}\r\n\r\n".encode() + said


def chat(model: str, text: str, tokens: int) -> bytes:
    """A streamed chat request for exactly `tokens` tokens."""
    return post(
        "/v1/chat/completions",
        {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
