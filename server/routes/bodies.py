"""JSON bodies, bounded: each in bytes and seconds, and all that are being read at once in bytes."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from server.bounded_http import exchange_of
from server.errors import QueueFull, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from server.network_settings import BODIES_BYTES, BODY_SECONDS


class Bodies:
    """What one server bears with while it reads. For one event loop."""

    def __init__(self, *, seconds: float = BODY_SECONDS, most_bytes: int = BODIES_BYTES) -> None:
        self.seconds = seconds
        self._most_bytes = most_bytes
        self.reading_bytes = 0

    def one(self) -> "Body":
        """A body's bytes count from when they arrive until its block ends."""
        return Body(self)

    def take(self, many: int) -> None:
        """Count these bytes. Raises QueueFull when all together are too many."""
        if self.reading_bytes + many > self._most_bytes:
            raise QueueFull("too many bodies are being read at once; ask again later")
        self.reading_bytes += many


class Body:
    """What has arrived of one body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self.size = 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.reading_bytes -= self.size

    def take(self, chunk: bytes) -> None:
        """Raises QueueFull."""
        self._bodies.take(len(chunk))
        self.size += len(chunk)
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        return b"".join(self._chunks)


async def read_json_bytes(request: Request, limit: int) -> bytes:
    """The body, refused while it is read when it grows over `limit` bytes.

    Raises RequestTooLarge, RequestTimeout, UnsupportedMediaType, QueueFull, ClientDisconnect.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"send application/json, not {kind[:80]}")
    bodies: Bodies = request.scope["state"]["options"].bodies
    try:
        with bodies.one() as body:
            exchange = exchange_of(request.scope)
            if exchange is not None and exchange.arrived:
                return await _read(request, body, limit)
            async with asyncio.timeout(bodies.seconds):
                return await _read(request, body, limit)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {bodies.seconds:g} s") from None


async def _read(request: Request, body: Body, limit: int) -> bytes:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        if body.size + len(chunk) > limit:
            raise RequestTooLarge(f"the body is larger than {limit} bytes")
        body.take(chunk)
        if not message.get("more_body"):
            return body.whole()
