"""What is written to a connection within one turn of the event loop, sent with one call of the system.

Under load several frames of a stream are ready in one turn; then the calls cost more than the frames. A
single frame is sent as soon as whoever wrote it lets go of the loop, so nothing waits for a clock.
"""

import asyncio
from typing import Any

MOST_BYTES = 1 << 16  # more is sent at once, so that a reader who does not read is noticed


class GatheredWrites:
    """An `asyncio.Transport` around another one; all but writing and closing is the other's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._size_bytes = 0
        self._flush: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > MOST_BYTES:
            self.flush()
        elif self._flush is None:
            self._flush = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand over what waits."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        waiting, self._waiting, self._size_bytes = self._waiting, [], 0
        if waiting:
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def get_write_buffer_size(self) -> int:
        return self._size_bytes + self._transport.get_write_buffer_size()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._waiting.clear()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
