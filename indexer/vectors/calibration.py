"""How hard an index must look to find as many of the true neighbours as is asked."""

from typing import Protocol

import numpy as np

from indexer.seams import Vectors
from indexer.vectors.scan import Best, Rows, scan, widen
from indexer.vectors.selection import Chosen, count

QUERIES = 1_000
TOP = 10
FAR = 400  # neighbour with which a row makes a question: nearer ones make it too easy for a graph
MOST = 4096
GAIN = 0.01  # of recall, beyond what is asked, that is worth twice the effort
MARGIN = 0.5  # of what is missing to 1: the sample is small, and lies nearer to rows than questions do


class Adjustable(Protocol):
    """An index whose `effort` decides how much it looks at."""

    effort: int

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best: ...


def questions(rows: Rows) -> Vectors:
    """Unit vectors between a row and a far neighbour: a row itself is found too easily to stand for one."""
    at = np.unique(np.linspace(0, len(rows) - 1, QUERIES).astype(np.int64))
    own = widen(np.ascontiguousarray(rows[at]))
    other = scan(rows, own, min(FAR, len(rows))).positions[:, -1]
    between = own + widen(np.ascontiguousarray(rows[other]))
    return np.asarray(between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), 1e-9))


def calibrate(
    index: Adjustable,
    rows: Rows,
    recall: float,
    queries: Vectors,
    share: float = 1.0,
    margin: float = MARGIN,
) -> float:
    """Set the least effort, in steps of a quarter, that finds `recall` of the ten nearest; what it finds.

    With a `share` below 1 these are the ten nearest among so many of the rows, drawn once. The aim is a
    little above `recall`, by `margin` of what is missing to 1, but not where twice the effort finds no more:
    a graph of tight heaps does not lead everywhere. The least effort is the one `index` comes with.
    """
    aim = recall + margin * (1.0 - recall)
    chosen = None if share >= 1.0 else np.random.default_rng(1).random(len(rows)) < share
    top = min(TOP, count(chosen, len(rows)))
    if not top:
        return 1.0
    # By score: equal rows may stand for each other.
    worst = scan(rows, queries, top, chosen).scores[:, -1:] - 1e-6
    effort, best, least = float(index.effort), 0.0, index.effort
    while True:
        index.effort = int(effort)
        found = float((index.search(rows, queries, top, chosen).scores >= worst).mean())
        if found >= aim or index.effort >= min(MOST, len(rows)):
            return found
        if found > best + GAIN:
            best, least = found, index.effort
        elif best >= recall and index.effort >= 2 * least:
            index.effort = least
            return best
        effort = max(effort + 1, effort * 1.25)
