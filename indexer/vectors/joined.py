"""Several indexes of a card as one, copied together where there is room.

Beside an engine in another process a card changes hands at each wait: a call takes some 5 ms instead of 0.3,
however few rows it reads. So one call over all rows beats one for each segment.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from indexer.vectors.scan import Whole

COPIES_BYTES = 4 << 30  # of the card, for all copies
SETTLED_SECONDS = 10.0  # a copy that nobody has asked for so long makes room; what had no room is tried again
MOST = 64  # sets of indexes that were searched together and may be again


class Joiner(Protocol):
    def join(self, indexes: Sequence[Any], room_bytes: int) -> Whole | None: ...


@dataclass(slots=True)
class _Set:
    whole: Whole | None
    made: float
    used: float


class Joined:
    """Sets of indexes by their keys. For the card's thread alone."""

    def __init__(self, joiner: Joiner, clock: Callable[[], float] = time.monotonic) -> None:
        self._joiner = joiner
        self._clock = clock
        self._sets: dict[tuple[Hashable, ...], _Set] = {}  # the one asked for last is the last

    def whole(self, keys: tuple[Hashable, ...], indexes: Sequence[Any]) -> Any | None:
        """One index of all of them, in their order; None: they are asked one by one."""
        now = self._clock()
        found = self._sets.pop(keys, None)
        if found is None or (not _copied(found) and now - found.made > SETTLED_SECONDS):
            found = _Set(self._join(indexes, now), now, now)
        found.used = now
        self._sets[keys] = found
        if len(self._sets) > MOST:
            del self._sets[next(iter(self._sets))]
        return None if found.whole is None else found.whole.index

    def _join(self, indexes: Sequence[Any], now: float) -> Whole | None:
        whole = self._joiner.join(indexes, self._room)
        old = [
            keys for keys, some in self._sets.items() if _copied(some) and now - some.used > SETTLED_SECONDS
        ]
        if whole is None or whole.copied_bytes or not old:
            return whole
        for keys in old:
            del self._sets[keys]
        return self._joiner.join(indexes, self._room)

    @property
    def _room(self) -> int:
        return COPIES_BYTES - sum(map(_copied, self._sets.values()))

    def forget(self, gone: Callable[[Any], bool]) -> None:
        """Sets with an index that is let go of."""
        for keys in [keys for keys in self._sets if any(map(gone, keys))]:
            del self._sets[keys]


def _copied(some: _Set) -> int:
    return 0 if some.whole is None else some.whole.copied_bytes
