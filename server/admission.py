"""Who may enter, and when: a bounded queue in front of the engine, deadlines, drain.

The engine gets at most its batch, so that waiting happens here, where it can be seen, ordered and cancelled.
All of it runs on the event loop: no locks.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import DeadlineExceeded, Draining, QueueFull


@dataclass(slots=True)
class Ticket:
    """Leave to use the engine; `leave()` once, however the request ends."""

    admission: "Admission"
    weight: int
    deadline: float  # time.monotonic() at which the request ends
    queue_seconds: float = 0.0
    entered_at: float = field(default_factory=time.monotonic)
    inside: bool = True
    settle: Callable[[int], None] | None = None  # told the tokens used, once

    def leave(self, tokens: int = 0) -> None:
        """`tokens` of prompt and answer were really used."""
        if self.inside:
            self.inside = False
            self.admission.left(self)
            if self.settle is not None:
                self.settle(tokens)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


class Admission:
    """At most `running` sequences inside and `queue` requests waiting, first come first served.

    A request of n choices counts n. One larger than `running` enters alone.
    """

    def __init__(self, *, running: int, queue: int, deadline_seconds: float) -> None:
        self._running = running
        self._queue = queue
        self._deadline_seconds = deadline_seconds
        self._inside = 0
        self._requests = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._life_seconds = 1.0  # moving average of how long a request stays, for retry-after

    @property
    def running(self) -> int:
        return self._inside

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def draining(self) -> bool:
        return self._draining

    async def enter(self, *, weight: int = 1, deadline_seconds: float | None = None) -> Ticket:
        """Wait for a place.

        Raises Draining, QueueFull (with a truthful retry-after), DeadlineExceeded while still waiting.
        """
        if self._draining:
            raise Draining("the server is shutting down; ask another one", retry_after_seconds=5)
        began = time.monotonic()
        deadline = began + min(deadline_seconds or self._deadline_seconds, self._deadline_seconds)
        if self._waiting or not self._fits(weight):
            await self._wait(weight, deadline - began)
        else:
            self._take(weight)
        return Ticket(self, weight, deadline, queue_seconds=time.monotonic() - began)

    def left(self, ticket: Ticket) -> None:
        self._life_seconds += 0.1 * (time.monotonic() - ticket.entered_at - self._life_seconds)
        self._give_back(ticket.weight)

    async def drain(self, seconds: float) -> bool:
        """Refuse newcomers and wait for those inside; True when all of them have left in time."""
        self._draining = True
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_exception(
                    Draining("the server is shutting down; ask another one", retry_after_seconds=5)
                )
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _take(self, weight: int) -> None:
        self._inside += weight
        self._requests += 1
        self._empty.clear()

    def _give_back(self, weight: int) -> None:
        self._inside -= weight
        self._requests -= 1
        self._wake()
        if not self._requests:
            self._empty.set()

    def _fits(self, weight: int) -> bool:
        return self._inside == 0 or self._inside + weight <= self._running

    async def _wait(self, weight: int, seconds: float) -> None:
        if len(self._waiting) >= self._queue:
            ahead = sum(waiting for waiting, _ in self._waiting) + self._inside
            retry_after = self._life_seconds * ahead / self._running
            raise QueueFull(
                f"{len(self._waiting)} requests are waiting already; try again later",
                retry_after_seconds=retry_after,
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (weight, place)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException as problem:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not isinstance(problem, Draining):  # called in, and gone in the same moment
                self._give_back(weight)
            self._wake()
            if isinstance(problem, TimeoutError):
                raise DeadlineExceeded(f"no place was free within the deadline of {seconds:g} s") from None
            raise

    def _wake(self) -> None:
        """Call in those at the head of the queue that fit. Their places are taken from here on."""
        while self._waiting and self._fits(self._waiting[0][0]):
            weight, place = self._waiting.popleft()
            if not place.done():
                self._take(weight)
                place.set_result(None)
