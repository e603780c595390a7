"""A question put to several segments at once: one pass over the rows of all of them."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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


class Shortcut(Protocol):
    """Finds most of the nearest rows without looking at all."""

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
    ids: Ids
    rows: Rows
    chosen: Chosen
    some: int  # chosen rows
    shortcut: Shortcut | None
    work: float  # rows looked at


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
        most = min(top, len(task.ids))
        if task.shortcut is None:
            best = scan(task.rows, queries, most, task.chosen)
        else:
            best = task.shortcut.search(task.rows, queries, most, task.chosen)
        return Best(best.scores, np.where(best.positions < 0, -1, task.ids[best.positions]))

    alone = len(tasks) == 1 or sum(task.work for task in tasks) < ALONE
    best = merged(list(map(run, tasks) if alone else _threads().map(run, tasks)), top)
    return [_ranked(scores, ids, top) for scores, ids in zip(best.scores, best.positions, strict=True)]


def _tasks(
    segments: Sequence[Searchable], queries: int, top: int, hidden: Ids, allowed: Ids | None
) -> Iterator[_Task]:
    for segment in segments:
        rows = len(segment.ids)
        selected, some = _SELECTIONS.selected(segment.ids, hidden, allowed)
        if not some:
            continue
        shortcut = segment.shortcut
        if shortcut is not None:
            visits = shortcut.visits(rows, min(top, some), some / rows)
            if visits < some * _SEQUENTIAL:
                yield _Task(segment.ids, segment.stored, selected, some, shortcut, visits)
                continue
        # Few may be found, or the walk would meet most of them anyway: look at each, and miss none.
        # A matrix product spreads over the cores by itself.
        parts = min(cores(), max(1, rows // (ALONE // 2))) if queries < APART else 1
        bounds = np.linspace(0, rows, parts + 1, dtype=np.int64)
        for start, stop in itertools.pairwise(bounds.tolist()):
            if start < stop:
                here = part(selected, start, stop)
                yield _Task(
                    segment.ids[start:stop],
                    segment.stored[start:stop],
                    here,
                    count(here, stop - start),
                    None,
                    stop - start,
                )


def _ranked(scores: Vectors, ids: Ids, top: int) -> Ranked:
    found = ids >= 0
    scores, ids = scores[found], ids[found]
    order = np.lexsort((ids, -scores))[:top]
    return Ranked(tuple(ids[order].tolist()), tuple(scores[order].tolist()))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="scan")
