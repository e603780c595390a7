"""Scored texts of several indexes: the best of all of them, and ids among ids."""

import math
from collections.abc import Sequence
from operator import neg
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.records import Ranked
from indexer.seams import Ids


class Scored(NamedTuple):
    """Parallel scores and ids of one index, best first."""

    scores: Sequence[float]
    ids: Sequence[int]


def best(found: Sequence[Scored], top: int) -> Ranked:
    """The highest scores, equal ones by id."""
    if not found:
        return Ranked((), ())
    if len(found) == 1:  # it is in order, but for equal scores
        scores, ids = found[0]
        if len(set(scores)) < len(scores):
            pairs = sorted(zip(map(neg, scores), ids, strict=True))
            scores, ids = [-score for score, _ in pairs], [row for _, row in pairs]
        return Ranked(tuple(ids), tuple(scores))
    every = np.array([score for one in found for score in one.scores], dtype=np.float64)
    rows = np.array([row for one in found for row in one.ids], dtype=np.int64)
    if len(every) > top:  # before the slower sort by two keys
        high = every >= np.partition(every, len(every) - top)[len(every) - top]
        every, rows = every[high], rows[high]
    order = np.lexsort((rows, -every))[:top]
    return Ranked(tuple(rows[order].tolist()), tuple(every[order].tolist()))


def least(found: Sequence[Sequence[tuple[float, object]]], top: int) -> float:
    """The score that all of the best `top` have."""
    scores = sorted((hit[0] for hits in found for hit in hits), reverse=True)
    return scores[top - 1] if len(scores) >= top else -math.inf


def among(rows: Ids, some: Ids) -> NDArray[np.bool_]:
    """Which rows are in the sorted `some`."""
    if not len(some):
        return np.zeros(len(rows), dtype=np.bool_)
    at = np.minimum(np.searchsorted(some, rows), len(some) - 1)
    return np.asarray(some[at] == rows)
