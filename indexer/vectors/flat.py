"""Exact nearest neighbours over rows in memory, 32 or 16 bits a number."""

import numpy as np

from indexer.records import Ranked
from indexer.seams import Ids, Vectors
from indexer.vectors.scan import Rows, widen
from indexer.vectors.selection import NONE, positions
from indexer.vectors.several import Shortcut, nearest, nearest_each


class FlatVectors:
    """A `VectorIndex` of rows by increasing id."""

    def __init__(self, dimension: int) -> None:
        self.ids: Ids = NONE
        self.stored: Rows = np.empty((0, dimension), dtype=np.float32)
        self.shortcut: Shortcut | None = None

    def rows(self, step: int = 1) -> Vectors:
        """Every `step`-th vector, shape (n, dimension), in the order of `ids`; a copy."""
        return np.array(widen(np.ascontiguousarray(self.stored[::step])))

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add one row per id; ids must be new."""
        together = np.concatenate([self.ids, ids])
        order = np.argsort(together, kind="stable")
        self.stored = np.concatenate([self.stored, vectors])[order]
        self.ids = together[order]

    def remove(self, ids: Ids) -> None:
        """Drop rows; unknown ids are ignored."""
        gone = positions(self.ids, np.unique(ids))
        self.ids, self.stored = np.delete(self.ids, gone), np.delete(self.stored, gone, axis=0)

    def nearest(self, vector: Vectors, top: int, hidden: Ids = NONE, allowed: Ids | None = None) -> Ranked:
        """At most `top` ids by decreasing inner product: see `several.nearest`."""
        return nearest([self], vector, top, hidden, allowed)

    def nearest_each(
        self, vectors: Vectors, top: int, hidden: Ids = NONE, allowed: Ids | None = None
    ) -> list[Ranked]:
        """`nearest` for several vectors in one pass."""
        return nearest_each([self], vectors, top, hidden, allowed)
