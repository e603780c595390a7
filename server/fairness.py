"""Whose turn it is: the key that has had the least so far, first come first served within a key.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with the cost of a request corrected once it is
known, as virtual token counters do (Sheng et al., OSDI 2024): each key has a counter of what it was served;
the least goes first; a key that comes back starts level with whoever is served now, so that nobody saves up.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Waiting items by key. `head` is next; `take` serves it and charges its key."""

    def __init__(self) -> None:
        self._flows: dict[str, deque[tuple[int, T]]] = {}
        self._served: dict[str, float] = {}
        self._now = 0.0  # the counter of the key served last: nobody waiting is below it
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def __iter__(self) -> Iterator[T]:
        return (item for flow in self._flows.values() for _, item in flow)

    def waiting(self, key: str) -> int:
        return len(self._flows.get(key, ()))

    def put(self, key: str, item: T) -> None:
        if key not in self._flows:
            self._flows[key] = deque()
            self._served[key] = max(self._served.get(key, 0.0), self._now)
        self._flows[key].append((self._arrivals, item))
        self._arrivals += 1

    def head(self) -> T | None:
        return self._flows[self._next()][0][1] if self._flows else None

    def take(self, cost: float) -> T:
        """The head, served; its key pays `cost`."""
        key = self._next()
        _, item = self._flows[key].popleft()
        self._now = max(self._now, self._served[key])
        self.charge(key, cost)
        self._tidy(key)
        return item

    def charge(self, key: str, cost: float) -> None:
        """What the key was served costs so much more, or less."""
        self._served[key] = self._served.get(key, self._now) + cost

    def remove(self, key: str, item: T) -> bool:
        """False when it was not waiting any more."""
        flow = self._flows.get(key, deque())
        for entry in flow:
            if entry[1] is item:
                flow.remove(entry)
                self._tidy(key)
                return True
        return False

    def crowd_out(self, key: str) -> T | None:
        """The last of the longest line, taken out to make room for `key`; None if that has its share."""
        longest = max(self._flows, key=lambda other: len(self._flows[other]), default=key)
        if self.waiting(longest) <= self.waiting(key) + 1:
            return None
        _, item = self._flows[longest].pop()
        return item

    def _next(self) -> str:
        return min(self._flows, key=lambda key: (self._served[key], self._flows[key][0][0]))

    def _tidy(self, key: str) -> None:
        if not self._flows[key]:
            del self._flows[key]
        if not self._flows:  # who is not ahead would start level anyway
            self._served = {key: served for key, served in self._served.items() if served > self._now}
