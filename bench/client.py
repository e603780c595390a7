"""The load: raw HTTP/1.1 over kept connections, as little work per byte as Python can do.

Not httpx: a client that parses every event costs more than the server, and then measures itself.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

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


class Connection(asyncio.Protocol):
    """One request after the other on one socket; asyncio's streams would cost more than the rest."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._told: asyncio.Future[Told] | None = None
        self._asked = self._first = 0.0
        self._received: list[bytes] = []
        self._head = self._tail = b""
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        if self._told is not None and not self._told.done():
            gone = "the server closed the connection in the middle of an answer"
            self._told.set_exception(exc or ConnectionError(gone))

    def data_received(self, data: bytes) -> None:
        if self._told is None or self._told.done():
            return
        self._received.append(data)
        if not self._first and CONTENT in self._tail + data:
            self._first = time.monotonic()
        self._tail = (self._tail + data[-len(CONTENT) :])[-len(CONTENT) :]
        if len(self._head) < len(OK):
            self._head = (self._head + data)[: len(OK)]
        # An error is not chunked: what has come says enough.
        if self._tail.endswith(END) or not OK.startswith(self._head):
            self._told.set_result(Told(self._asked, self._first, time.monotonic(), b"".join(self._received)))

    async def ask(self, request: bytes) -> Told:
        """Raises ConnectionError when the server goes away in the middle."""
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionError("the server has closed the connection")
        self._received, self._first = [], 0.0
        self._head = self._tail = b""
        self._told = asyncio.get_running_loop().create_future()
        self._asked = time.monotonic()
        self._transport.write(request)
        return await self._told

    async def close(self) -> None:
        """Let go of the socket."""
        if self._transport is not None:
            self._transport.close()
            await self._gone.wait()


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections to this machine's `port`."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append((await loop.create_connection(Connection, "127.0.0.1", port))[1])
        yield opened
    finally:
        for connection in opened:
            await connection.close()


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
