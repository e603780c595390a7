"""A question put to several segments at once: one pass over the rows of all of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from operator import gt
from typing import NamedTuple, Protocol

import numpy as np

from indexer.machine import cores
from indexer.records import Ranked
from indexer.seams import Ids, Vectors
from indexer.vectors.scan import APART, Best, Rows, merged, scan
from indexer.vectors.selection import NONE, Chosen, Remembered, count, part

ALONE = 65_536  # rows that one thread scans: a few milliseconds, and a second thread may be busy
_SEQUENTIAL = 0.5  # cost of a row met in passing, in rows looked up one by one
_SELECTIONS = Remembered()


class Searchable(Protocol):
    """Rows by increasing id."""

    @property
    def ids(self) -> Ids: ...
    @property
    def stored(self) -> Rows: ...
    @property
    def shortcut(self) -> "Shortcut | None": ...


class Part(NamedTuple):
    """What is asked of one segment that is searched together with others."""

    key: int
    effort: int
    rows: Rows
    chosen: Chosen
    some: int  # chosen rows


class Host(Protocol):
    """Searches several segments in one call."""

    def search_all(self, parts: Sequence[Part], queries: Vectors, top: int) -> Best:
        """The best `top` chosen rows of all parts; positions count on from each part to the next."""
        ...


class Seat(NamedTuple):
    """Where a segment is searched together with others, and its name there."""

    host: Host
    key: int


class Shortcut(Protocol):
    """Finds most of the nearest rows without looking at all."""

    @property
    def seat(self) -> Seat | None:
        """None: the segment is searched by itself."""
        ...

    @property
    def knob(self) -> str:
        """What `effort` counts."""
        ...

    effort: int

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that a search looks at when `share` of them may be found."""
        ...

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best: ...


class _Task(NamedTuple):
    """Segments, or a piece of one, that are searched in one go."""

    ids: tuple[Ids, ...]
    some: int  # chosen rows
    work: float  # rows looked at
    search: Callable[[Vectors, int], Best]


def nearest(
    segments: Sequence[Searchable], vector: Vectors, top: int, hidden: Ids = NONE, allowed: Ids | None = None
) -> Ranked:
    """The best `top` ids of all segments together, by decreasing inner product, equal ones by id.

    Never one of `hidden`, and only those of `allowed` unless it is None; both sorted. They are left
    out inside the scan: as many are found as if the others did not exist.
    """
    return nearest_each(segments, vector[None, :], top, hidden, allowed)[0]


def nearest_each(
    segments: Sequence[Searchable], vectors: Vectors, top: int, hidden: Ids = NONE, allowed: Ids | None = None
) -> list[Ranked]:
    """`nearest` for each row of `vectors`, shape (q, dimension), in one pass over the segments."""
    queries = np.ascontiguousarray(vectors, dtype=np.float32)
    tasks = list(_tasks(segments, len(queries), top, hidden, allowed)) if top > 0 and len(queries) else []
    top = min(top, sum(task.some for task in tasks))
    if top <= 0:
        return [Ranked((), ()) for _ in queries]

    def run(task: _Task) -> Best:
        best = task.search(queries, min(top, sum(map(len, task.ids))))
        return Best(best.scores, _named(best.positions, task.ids))

    alone = len(tasks) == 1 or sum(task.work for task in tasks) < ALONE
    best = merged(list(map(run, tasks) if alone else _threads().map(run, tasks)), top)
    return [_ranked(scores, ids, top) for scores, ids in zip(best.scores, best.positions, strict=True)]


def _tasks(
    segments: Sequence[Searchable], queries: int, top: int, hidden: Ids, allowed: Ids | None
) -> Iterator[_Task]:
    seated: dict[Host, list[tuple[Ids, Part]]] = {}
    for segment in segments:
        rows = len(segment.ids)
        selected, some = _SELECTIONS.selected(segment.ids, hidden, allowed)
        if not some:
            continue
        shortcut = segment.shortcut
        if shortcut is not None:
            visits = shortcut.visits(rows, min(top, some), some / rows)
            if visits < some * _SEQUENTIAL:
                if shortcut.seat is None:
                    search = partial(_shortcut, shortcut, segment.stored, selected)
                    yield _Task((segment.ids,), some, visits, search)
                else:
                    host, key = shortcut.seat
                    asked = Part(key, shortcut.effort, segment.stored, selected, some)
                    seated.setdefault(host, []).append((segment.ids, asked))
                continue
        # Few may be found, or the walk would meet most of them anyway: look at each, and miss none.
        # A matrix product spreads over the cores by itself.
        parts = max(1, rows // (ALONE // 2)) if queries < APART else 1
        if parts == 1:
            yield _Task((segment.ids,), some, rows, partial(_scan, segment.stored, selected))
            continue
        parts = min(cores(), parts)
        bounds = np.linspace(0, rows, parts + 1, dtype=np.int64)
        for start, stop in itertools.pairwise(bounds.tolist()):
            if start < stop:
                here = part(selected, start, stop)
                search = partial(_scan, segment.stored[start:stop], here)
                yield _Task((segment.ids[start:stop],), count(here, stop - start), stop - start, search)
    for host, seats in seated.items():
        ids, together = zip(*seats, strict=True)
        some = sum(asked.some for asked in together)
        yield _Task(ids, some, 0.0, partial(host.search_all, together))


def _shortcut(shortcut: Shortcut, rows: Rows, chosen: Chosen, queries: Vectors, top: int) -> Best:
    return shortcut.search(rows, queries, top, chosen)


def _scan(rows: Rows, chosen: Chosen, queries: Vectors, top: int) -> Best:
    return scan(rows, queries, top, chosen)


def _named(positions: Ids, parts: Sequence[Ids]) -> Ids:
    """The ids at positions that count on from each of `parts` to the next; -1 where there is none."""
    if len(parts) == 1:
        if len(positions) == 1 and positions[0, -1] >= 0:  # the last one is missing before any other is
            return parts[0][positions]
        return np.where(positions < 0, -1, parts[0][positions])
    named, start = np.full(positions.shape, -1, dtype=np.int64), 0
    for ids in parts:
        here = (positions >= start) & (positions < start + len(ids))
        named[here] = ids[positions[here] - start]
        start += len(ids)
    return named


def _ranked(scores: Vectors, ids: Ids, top: int) -> Ranked:
    rows, marks = ids.tolist(), scores.tolist()
    if all(map(gt, marks, marks[1:])) and not (rows and rows[-1] < 0):  # in order, and enough of them
        return Ranked(tuple(rows[:top]), tuple(marks[:top]))
    found = ids >= 0
    scores, ids = scores[found], ids[found]
    order = np.lexsort((ids, -scores))[:top]
    return Ranked(tuple(ids[order].tolist()), tuple(scores[order].tolist()))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="scan")
