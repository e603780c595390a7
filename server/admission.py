"""Who may enter, and when: a bounded queue in front of the engine, deadlines, drain.

The engine gets at most its batch, so that waiting happens here, where it can be seen, ordered and cancelled.
All of it runs on the event loop: no locks.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import DeadlineExceeded, Draining, QueueFull
from server.fairness import FairQueue


@dataclass(slots=True)
class Ticket:
    """Leave to use the engine; `leave()` once, however the request ends."""

    admission: "Admission"
    weight: int
    deadline: float  # time.monotonic() at which the request ends
    queue_seconds: float = 0.0
    entered_at: float = field(default_factory=time.monotonic)
    inside: bool = True
    key: str = ""
    cost: float = 0.0  # tokens it was reckoned at
    settle: Callable[[int], None] | None = None  # told the tokens used, once
    exposed: str | None = None  # id of the turn, once its exposure is journalled
    held: list[Callable[[], None]] = field(default_factory=list)  # gives back what the request runs on

    def hold(self, release: Callable[[], None]) -> None:
        """Call `release` when the request ends; at once if it has."""
        if self.inside:
            self.held.append(release)
        else:
            release()

    def leave(self, tokens: int = 0) -> None:
        """`tokens` of prompt and answer were really used."""
        if self.inside:
            self.inside = False
            self.admission.left(self, tokens)
            if self.settle is not None:
                self.settle(tokens)
            for release in self.held:
                release()

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in the queue."""

    key: str
    weight: int
    cost: float
    place: asyncio.Future[None]


class Admission:
    """At most `running` sequences inside and `queue` requests waiting, fair between keys by tokens.

    A request of n choices counts n. One larger than `running` enters alone. When the queue is full, a key
    with less than its share of it takes the place of the last in the longest line.
    """

    def __init__(self, *, running: int, queue: int, deadline_seconds: float) -> None:
        self._running = running
        self._queue = queue
        self._deadline_seconds = deadline_seconds
        self._inside = 0
        self._requests = 0
        self._waiting: FairQueue[Waiting] = FairQueue()
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

    async def enter(
        self,
        *,
        weight: int = 1,
        deadline_seconds: float | None = None,
        key: str = "",
        cost: float | None = None,
    ) -> Ticket:
        """Wait for a place. `cost`: about how many tokens the request is; `weight` when nobody says.

        Raises Draining, QueueFull (with a truthful retry-after), DeadlineExceeded while still waiting.
        """
        if self._draining:
            raise Draining("the server is shutting down; ask another one", retry_after_seconds=5)
        began = time.monotonic()
        deadline = began + min(deadline_seconds or self._deadline_seconds, self._deadline_seconds)
        reckoned = float(weight) if cost is None else cost
        if len(self._waiting) or not self._fits(weight):
            await self._wait(key, weight, reckoned, deadline - began)
        else:
            self._waiting.charge(key, reckoned)
            self._take(weight)
        waited = time.monotonic() - began
        return Ticket(
            self, weight, deadline, queue_seconds=waited, key=key, cost=0.0 if cost is None else cost
        )

    def left(self, ticket: Ticket, tokens: int) -> None:
        if ticket.cost:
            self._waiting.charge(ticket.key, tokens - ticket.cost)
        self._life_seconds += 0.1 * (time.monotonic() - ticket.entered_at - self._life_seconds)
        self._give_back(ticket.weight)

    async def drain(self, seconds: float) -> bool:
        """Refuse newcomers and wait for those inside; True when all of them have left in time."""
        self._draining = True
        while len(self._waiting):
            place = self._waiting.take(0).place
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

    async def _wait(self, key: str, weight: int, cost: float, seconds: float) -> None:
        if len(self._waiting) >= self._queue:
            crowded = self._waiting.crowd_out(key)
            if crowded is None:
                raise self._full()
            if not crowded.place.done():
                crowded.place.set_exception(self._full())
        entry = Waiting(key, weight, cost, asyncio.get_running_loop().create_future())
        self._waiting.put(key, entry)
        try:
            async with asyncio.timeout(seconds):
                await entry.place
        except BaseException as problem:
            if not self._waiting.remove(key, entry) and _called_in(entry.place):
                self._give_back(weight)  # and gone in the same moment
                self._waiting.charge(key, -cost)
            self._wake()
            if isinstance(problem, TimeoutError):
                raise DeadlineExceeded(f"no place was free within the deadline of {seconds:g} s") from None
            raise

    def _full(self) -> QueueFull:
        ahead = sum(waiting.weight for waiting in self._waiting) + self._inside
        return QueueFull(
            f"{len(self._waiting)} requests are waiting already; try again later",
            retry_after_seconds=self._life_seconds * ahead / self._running,
        )

    def _wake(self) -> None:
        """Call in those whose turn it is while they fit. Their places are taken from here on."""
        while (entry := self._waiting.head()) is not None and self._fits(entry.weight):
            gone = entry.place.done()
            self._waiting.take(0 if gone else entry.cost)
            if not gone:
                self._take(entry.weight)
                entry.place.set_result(None)


def _called_in(place: "asyncio.Future[None]") -> bool:
    return place.done() and not place.cancelled() and place.exception() is None
