"""What is written to a connection within one turn of the event loop, sent with one call of the system.

Under load several frames of a stream are ready in one turn; then the calls cost more than the frames. A
single frame is sent as soon as whoever wrote it lets go of the loop, so nothing waits for a clock.
"""

import asyncio
from collections.abc import Callable

MOST_BYTES = 1 << 16  # more is sent at once, so that a reader who does not read is noticed


class TurnsEnd:
    """Calls back when whoever runs now lets go of the loop: one handle of the loop for all who ask."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: list[Callable[[], None]] = []

    def call(self, back: Callable[[], None]) -> None:
        if not self._asked:
            self._loop.call_soon(self._come)
        self._asked.append(back)

    def _come(self) -> None:
        asked, self._asked = self._asked, []
        for back in asked:
            try:
                back()
            except Exception as problem:  # of one connection; the others are to be served all the same
                self._loop.call_exception_handler({"message": "a write failed", "exception": problem})


class GatheredWrites:
    """An `asyncio.Transport` around another one; all but writing and closing is the other's.

    The other's methods are bound by name: with a `__getattr__` Python looks every attribute up the slow way.
    """

    def __init__(self, transport: asyncio.Transport, turns_end: TurnsEnd) -> None:
        self._transport = transport
        self._turns_end = turns_end
        self._waiting: list[bytes] = []
        self._size_bytes = 0
        self._frames: list[bytes] = []  # of the HTTP chunk that is not begun yet; they come after `_waiting`
        self._expects = False  # to be flushed at the turn's end
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.is_reading = transport.is_reading
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_protocol = transport.get_protocol
        self.set_protocol = transport.set_protocol
        self.set_write_buffer_limits = transport.set_write_buffer_limits

    def write(self, data: bytes) -> None:
        if self._frames:
            self._chunk()
        self._waiting.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > MOST_BYTES:
            self.flush()
        elif not self._expects:
            self._expects = True
            self._turns_end.call(self.flush)

    def write_chunk(self, frame: bytes) -> None:
        """`frame` in a body of `transfer-encoding: chunked`; those of one turn make one HTTP chunk."""
        self._frames.append(frame)
        self._size_bytes += len(frame)
        if self._size_bytes > MOST_BYTES:
            self.flush()
        elif not self._expects:
            self._expects = True
            self._turns_end.call(self.flush)

    def flush(self) -> None:
        """Hand over what waits."""
        self._expects = False
        if self._frames:
            self._chunk()
        waiting = self._waiting
        self._size_bytes = 0
        if waiting:
            data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting.clear()
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self._size_bytes + self._transport.get_write_buffer_size()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._waiting.clear()
        self._frames.clear()
        self._transport.abort()

    def _chunk(self) -> None:
        """Close the HTTP chunk: its length is known."""
        frames = self._frames
        if len(frames) == 1:
            self._waiting.append(b"%x\r\n%b\r\n" % (len(frames[0]), frames[0]))
        else:
            self._waiting += (b"%x\r\n" % sum(map(len, frames)), *frames, b"\r\n")
        frames.clear()
