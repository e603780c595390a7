"""Inverted lists (IVF): rows grouped around centroids; a question visits the nearest groups.

The lists hold positions, the rows stay where they are: nothing is stored twice, and the files are
plain arrays that no parser reads.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.durability import write_array
from indexer.errors import StoreDamaged
from indexer.seams import Vectors
from indexer.vectors.scan import BLOCK, Best, Rows, scan, widen
from indexer.vectors.selection import Chosen, count

CENTROIDS, MEMBERS, BOUNDS = "centroids.f32", "members.i32", "bounds.i64"
FILES = (CENTROIDS, MEMBERS, BOUNDS)
SAMPLE = 64  # rows per centroid that training looks at
ROUNDS = 8
_PASSED = 0.15  # cost of a row that may not be found, in rows that may
_WIDER = 0.6  # power of 1/share by which more lists are visited: seen on sentence vectors

_faiss: Any = faiss


class Lists:
    """Positions of rows by nearest centroid."""

    knob = "probes"  # lists visited a question

    def __init__(
        self, centroids: Vectors, members: NDArray[np.int32], bounds: NDArray[np.int64], probes: int
    ) -> None:
        """List i is `members[bounds[i]:bounds[i + 1]]`, increasing positions."""
        self._centroids, self._members, self._bounds = centroids, members, bounds
        self.effort = probes

    @classmethod
    def build(cls, rows: Rows, lists: int) -> "Lists":
        """Group rows by k-means on a sample, by inner product."""
        dimension = rows.shape[1]
        step = max(1, len(rows) // (SAMPLE * lists))
        training: Any = _faiss.Clustering(dimension, lists)
        training.niter, training.seed, training.spherical = ROUNDS, 1, True
        training.min_points_per_centroid = 1
        nearest = _faiss.IndexFlatIP(dimension)
        training.train(widen(np.ascontiguousarray(rows[::step])), nearest)
        centroids = np.array(faiss.vector_to_array(training.centroids), np.float32).reshape(lists, dimension)
        own = np.concatenate(
            [
                scan(centroids, widen(rows[start : start + BLOCK]), 1).positions[:, 0]
                for start in range(0, len(rows), BLOCK)
            ]
        )
        members = np.argsort(own, kind="stable").astype(np.int32)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=lists))]).astype(np.int64)
        return cls(centroids, members, bounds, 1)

    def dump(self, folder: Path) -> None:
        """Write the arrays under `folder`."""
        write_array(folder / CENTROIDS, self._centroids)
        write_array(folder / MEMBERS, self._members)
        write_array(folder / BOUNDS, self._bounds)

    @classmethod
    def load(cls, contents: dict[str, bytes], rows: Rows, effort: int) -> "Lists":
        """The lists of the arrays' bytes; raises `StoreDamaged` when they do not belong to the rows."""
        centroids = np.frombuffer(contents[CENTROIDS], np.float32).reshape(-1, rows.shape[1])
        members = np.frombuffer(contents[MEMBERS], np.int32)
        bounds = np.frombuffer(contents[BOUNDS], np.int64)
        fits = len(members) == len(rows) and len(bounds) == len(centroids) + 1 and bounds[-1] == len(members)
        if not fits or members.min() < 0 or members.max() >= len(rows) or np.any(np.diff(bounds) < 0):
            raise StoreDamaged(f"{MEMBERS} does not list the rows of its segment")
        return cls(centroids, members, bounds, effort)

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that a search scores when `share` of them may be found."""
        met = rows * min(1.0, self._probes(top, share) / len(self._centroids))
        return met * (share + _PASSED)

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows in the lists nearest to each query."""
        share = count(chosen, len(rows)) / len(rows)
        near = scan(self._centroids, queries, self._probes(top, share)).positions
        found = [
            self._one(rows, query[None, :], lists, top, chosen)
            for query, lists in zip(queries, near, strict=True)
        ]
        return Best(
            np.concatenate([best.scores for best in found]),
            np.concatenate([best.positions for best in found]),
        )

    def _one(self, rows: Rows, query: Vectors, lists: NDArray[np.int64], top: int, chosen: Chosen) -> Best:
        at = np.concatenate([self._members[self._bounds[i] : self._bounds[i + 1]] for i in lists.tolist()])
        if chosen is not None:
            at = at[chosen[at]] if chosen.dtype == np.bool_ else np.intersect1d(at, chosen)
        return scan(rows, query, top, at.astype(np.int64))

    def _probes(self, top: int, share: float) -> int:
        # What is nearest among a tenth of the rows lies as far as the ten times as many of all of them.
        mean = len(self._members) / len(self._centroids)
        wider = self.effort * (1.0 / max(share, 1e-9)) ** _WIDER
        return int(min(len(self._centroids), max(wider, 2 * top / max(share * mean, 1e-9))))
