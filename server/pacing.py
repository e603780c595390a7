"""Requests that come together begin one after the other, in the turns of the event loop.

Begun all at once they would take turns at every step, and each would wait for all: of 64 the median would
meet the engine when the last one does. So the first are decoded while the last are still read.
"""

import asyncio
import time
from collections import deque

REQUEST_SECONDS = 0.001  # what one costs the loop until it is decoded, about


class Pacing:
    """Who begins alone does not wait; of others one begins a turn of the loop, and after a long turn several.

    One event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun_at = 0.0  # time.monotonic(), while somebody begins or has begun in this turn; else 0

    async def begin(self) -> None:
        """Return when it is this request's turn."""
        loop = asyncio.get_running_loop()
        if not self._begun_at:
            self._begun_at = time.monotonic()
            loop.call_soon(self._next)
            return
        place = loop.create_future()
        self._waiting.append(place)
        await place

    def _next(self) -> None:
        now = time.monotonic()
        begin = 1 + int(
            (now - self._begun_at) / REQUEST_SECONDS
        )  # a turn full of streams takes many of these
        while self._waiting and begin:
            place = self._waiting.popleft()
            if not place.done():  # else its request has ended
                place.set_result(None)
                begin -= 1
        self._begun_at = now if self._waiting else 0.0
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
