"""Inverted lists (IVF): rows grouped around centroids; a question visits the nearest groups.

The lists hold positions, the rows stay where they are: nothing is stored twice, and the files are
plain arrays that no parser reads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.durability import write_array
from indexer.errors import StoreDamaged
from indexer.machine import cores
from indexer.seams import Vectors
from indexer.vectors.calibration import MARGIN
from indexer.vectors.scan import Best, Rows, scan, widen
from indexer.vectors.selection import Chosen, count, masked

CENTROIDS, MEMBERS, BOUNDS = "centroids.f32", "members.i32", "bounds.i64"
SAMPLE = 64  # rows per centroid that training looks at
ROUNDS = 8
_ASSIGNED = 1024  # rows whose nearest centroid is found at a time
_PASSED = 0.06  # cost of a row of a visited list that may not be found, in rows that are scored
_CENTROID = 0.3  # cost of a centroid, read in passing, in rows looked up one by one
_LEAST = 16  # chosen rows to meet for each to be found: where few are allowed, the nearest are spread out
_WIDER = 0.6  # power of 1/share by which more lists are visited: seen on sentence vectors

_faiss: Any = faiss


class Lists:
    """Positions of rows by nearest centroid."""

    knob = "probes"  # lists visited a question
    seat = None
    margin = MARGIN  # of calibration

    def __init__(
        self, centroids: Vectors, members: NDArray[np.int32], bounds: NDArray[np.int64], probes: int
    ) -> None:
        """List i is `members[bounds[i]:bounds[i + 1]]`, increasing positions."""
        self._centroids, self._members, self._bounds = centroids, members, bounds
        self.effort = probes

    @classmethod
    def build(cls, rows: Rows, lists: int, sample: int = SAMPLE, rounds: int = ROUNDS) -> "Lists":
        """Group rows by `rounds` of k-means on `sample` rows a list, by inner product, with every core."""
        faiss.omp_set_num_threads(cores())
        dimension = rows.shape[1]
        step = max(1, len(rows) // (sample * lists))
        training: Any = _faiss.Clustering(dimension, lists)
        training.niter, training.seed, training.spherical = rounds, 1, True
        training.min_points_per_centroid = 1
        nearest = _faiss.IndexFlatIP(dimension)
        training.train(widen(np.ascontiguousarray(rows[::step])), nearest)
        centroids = np.array(faiss.vector_to_array(training.centroids), np.float32).reshape(lists, dimension)
        own = np.concatenate(
            [
                (widen(rows[start : start + _ASSIGNED]) @ centroids.T).argmax(axis=1)
                for start in range(0, len(rows), _ASSIGNED)
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
    def load(cls, contents: Mapping[str, bytes], rows: Rows, effort: int) -> "Lists":
        """The lists of the arrays' bytes; raises `StoreDamaged` when they do not belong to the rows."""
        centroids = np.frombuffer(contents[CENTROIDS], np.float32).reshape(-1, rows.shape[1])
        members = np.frombuffer(contents[MEMBERS], np.int32)
        bounds = np.frombuffer(contents[BOUNDS], np.int64)
        fits = len(members) == len(rows) and len(bounds) == len(centroids) + 1 and bounds[-1] == len(members)
        if not fits or members.min() < 0 or members.max() >= len(rows) or np.any(np.diff(bounds) < 0):
            raise StoreDamaged(f"{MEMBERS} does not list the rows of its segment")
        return cls(centroids, members, bounds, effort)

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that a search scores when `share` of them may be found, other work counted as rows."""
        met = rows * min(1.0, self._probes(top, share) / len(self._centroids))
        return len(self._centroids) * _CENTROID + met * (share + (_PASSED if share < 1.0 else 0.0))

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows in the lists nearest to each query."""
        return self.among(rows, queries, top, chosen, count(chosen, len(rows)))

    def among(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen, some: int) -> Best:
        """`search` where the number of chosen rows is known: to count them takes its time."""
        probes = self._probes(top, some / len(rows))
        near = scan(self._centroids, queries, probes).positions
        if chosen is None:
            met = [self._in(lists) for lists in near]
        else:
            mask = masked(chosen, len(rows))
            expected = some * probes // len(self._centroids)
            met = [
                self._chosen_in(lists, query, mask, min(some, max(top, expected // 2)))
                for lists, query in zip(near, queries, strict=True)
            ]
        found = [scan(rows, query[None, :], top, at) for query, at in zip(queries, met, strict=True)]
        return Best(
            np.concatenate([best.scores for best in found]),
            np.concatenate([best.positions for best in found]),
        )

    def _chosen_in(
        self, lists: NDArray[np.int64], query: Vectors, mask: NDArray[np.bool_], enough: int
    ) -> NDArray[np.int64]:
        """Chosen rows of these lists; of more of the nearest where they are not `enough`.

        Then the filter chooses what lies far from the question, perhaps all of a few lists: twice as many
        rows are met as a question without a filter meets.
        """
        at = self._in(lists, mask)
        if len(at) >= enough:
            return at
        everything = len(self._centroids)
        enough = max(enough, 2 * self.effort * len(self._members) // everything)
        while len(at) < enough and len(lists) < everything:
            wider = min(2 * len(lists), everything)
            lists = scan(self._centroids, query[None, :], wider).positions[0]
            at = self._in(lists, mask)
        return at

    def _in(self, lists: NDArray[np.int64], mask: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Rows of these lists that are in the mask, if there is one."""
        starts, stops = self._bounds[lists].tolist(), self._bounds[lists + 1].tolist()
        parts = [self._members[start:stop] for start, stop in zip(starts, stops, strict=True)]
        at = np.concatenate(parts).astype(np.int64)
        return at if mask is None else at.compress(mask.take(at))

    def _probes(self, top: int, share: float) -> int:
        # What is nearest among a tenth of the rows lies as far as the ten times as many of all of them.
        mean = len(self._members) / len(self._centroids)
        wider = self.effort * (1.0 / max(share, 1e-9)) ** _WIDER
        least = (_LEAST if share < 1.0 else 2) * top / max(share * mean, 1e-9)
        return int(min(len(self._centroids), max(wider, least)))
