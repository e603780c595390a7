"""Scored texts of several indexes: the best of all of them, and ids among ids."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from operator import neg
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.machine import cores
from indexer.records import Ranked
from indexer.seams import Ids

SOME = 16  # hits that any index is asked for at least
MANY = 250_000  # texts of all indexes: below, they are searched one after the other in a few milliseconds

Asked = Sequence[tuple["Index", dict[str, float]]]  # each with the weights of its terms


class Index(Protocol):
    """One of several that are asked together."""

    size: int  # texts in it

    def hits(self, weights: dict[str, float], top: int) -> list[tuple[float, Any]]:
        """(score, an address that `named` understands) of the best `top` texts, best first."""
        ...

    def named(self, hits: Sequence[tuple[float, Any]]) -> "Scored":
        """The same by their ids."""
        ...


class Scored(NamedTuple):
    """Parallel scores and ids of one index, best first."""

    scores: Sequence[float]
    ids: Sequence[int]


def best(found: Sequence[Scored], top: int) -> Ranked:
    """The `top` highest scores, equal ones by id."""
    if not found:
        return Ranked((), ())
    if len(found) == 1:  # it is in order, but for equal scores
        scores, ids = found[0]
        if len(set(scores)) < len(scores):
            pairs = sorted(zip(map(neg, scores), ids, strict=True))
            scores, ids = [-score for score, _ in pairs], [row for _, row in pairs]
        return Ranked(tuple(ids[:top]), tuple(scores[:top]))
    every = np.array([score for one in found for score in one.scores], dtype=np.float64)
    rows = np.array([row for one in found for row in one.ids], dtype=np.int64)
    if len(every) > top:  # before the slower sort by two keys
        high = every >= np.partition(every, len(every) - top)[len(every) - top]
        every, rows = every[high], rows[high]
    order = np.lexsort((rows, -every))[:top]
    return Ranked(tuple(rows[order].tolist()), tuple(every[order].tolist()))


def visible(asked: Asked, top: int, hidden: Ids) -> list[Scored]:
    """Of each index what may be among the best `top` of all that are not in the sorted `hidden`.

    Some are looked for beyond `top`: few are hidden, or their segment would have been written anew.
    """
    wanted = top + min(len(hidden), SOME)
    while True:
        found = _fairly(asked, wanted)
        if not len(hidden):
            return found
        kept = [_without(one, hidden) for one in found]
        enough = sum(len(one.ids) for one in kept) >= top
        if enough or sum(len(one.ids) for one in found) < wanted:
            return kept
        wanted *= 2


def _without(found: Scored, hidden: Ids) -> Scored:
    gone = among(np.array(found.ids, dtype=np.int64), hidden)
    if not gone.any():
        return found
    at = np.flatnonzero(~gone).tolist()
    return Scored([found.scores[place] for place in at], [found.ids[place] for place in at])


def _fairly(asked: Asked, top: int) -> list[Scored]:
    """The hits of each index, less what is not among the best `top` of all.

    Each is asked for twice its share of them at first: to hand hits over costs more than to find them.
    """
    texts = sum(index.size for index, _ in asked)
    limits = [min(top, SOME + 2 * top * index.size // texts) for index, _ in asked]
    found = _hits(asked, limits, texts)
    floor = least(found, top)
    for at, ((index, weights), most) in enumerate(zip(asked, limits, strict=True)):
        if most < top and len(found[at]) == most and found[at][-1][0] >= floor:  # it may have more of them
            found[at] = index.hits(weights, top)
    floor = least(found, top)
    kept = [[hit for hit in hits if hit[0] >= floor] for hits in found]
    return [index.named(hits) for (index, _), hits in zip(asked, kept, strict=True) if hits]


def _hits(asked: Asked, limits: Sequence[int], texts: int) -> list[list[tuple[float, Any]]]:
    """Of each index its best; where there is much to read, at the same time."""

    def one(index: Index, weights: dict[str, float], most: int) -> list[tuple[float, Any]]:
        return index.hits(weights, most)

    indexes, weights = zip(*asked, strict=True) if asked else ((), ())
    side_by_side = len(asked) > 1 and texts >= MANY
    return list((_threads().map if side_by_side else map)(one, indexes, weights, limits))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="keyword")


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
