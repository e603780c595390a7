"""A question put to several segments at once: one pass over the rows of all of them."""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np

from indexer.records import Ranked
from indexer.seams import Ids, Vectors
from indexer.vectors.scan import Best, Rows, merged, scan
from indexer.vectors.selection import NONE, Chosen, chosen, count, part

ALONE = 65_536  # rows that one thread scans: a few milliseconds, and a second thread may be busy


class Searchable(Protocol):
    """Rows by increasing id."""

    @property
    def ids(self) -> Ids: ...
    @property
    def stored(self) -> Rows: ...


class _Task(NamedTuple):
    ids: Ids
    rows: Rows
    chosen: Chosen


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
    tasks = list(_tasks(segments, hidden, allowed)) if top > 0 and len(queries) else []
    top = min(top, sum(count(task.chosen, len(task.ids)) for task in tasks))
    if top <= 0:
        return [Ranked((), ()) for _ in queries]

    def run(task: _Task) -> Best:
        best = scan(task.rows, queries, min(top, len(task.ids)), task.chosen)
        return Best(best.scores, np.where(best.positions < 0, -1, task.ids[best.positions]))

    alone = len(tasks) == 1 or sum(len(task.ids) for task in tasks) < ALONE
    best = merged(list(map(run, tasks) if alone else _threads().map(run, tasks)), top)
    return [_ranked(scores, ids, top) for scores, ids in zip(best.scores, best.positions, strict=True)]


def _tasks(segments: Sequence[Searchable], hidden: Ids, allowed: Ids | None) -> Iterator[_Task]:
    for segment in segments:
        selected = chosen(segment.ids, hidden, allowed)
        if not count(selected, len(segment.ids)):
            continue
        parts = min(_cores(), max(1, len(segment.ids) // (ALONE // 2)))
        bounds = np.linspace(0, len(segment.ids), parts + 1, dtype=np.int64)
        for start, stop in itertools.pairwise(bounds.tolist()):
            if start < stop:
                yield _Task(segment.ids[start:stop], segment.stored[start:stop], part(selected, start, stop))


def _ranked(scores: Vectors, ids: Ids, top: int) -> Ranked:
    found = ids >= 0
    scores, ids = scores[found], ids[found]
    order = np.lexsort((ids, -scores))[:top]
    return Ranked(tuple(ids[order].tolist()), tuple(scores[order].tolist()))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="scan")


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0))
