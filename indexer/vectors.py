"""Exact nearest neighbours: the only file that imports faiss.

A flat index over unit vectors: inner product is the cosine, and k results are the true k.
"""

import os
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np

from indexer.errors import StoreDamaged
from indexer.records import Ranked
from indexer.seams import Ids, Vectors

FILE = "vectors.faiss"
ALONE = 100_000  # rows that one thread scans
_THREADS = os.cpu_count() or 1
NONE = np.empty(0, dtype=np.int64)

# A second line behind the digest check: faiss trusts sizes it reads from a file.
faiss.set_deserialization_vector_byte_limit(64 << 30)
faiss.set_deserialization_loop_limit(1 << 20)


class FlatVectors:
    """A `VectorIndex` held in memory; rows keep the ids they were added with."""

    def __init__(self, dimension: int) -> None:
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    @classmethod
    def loads(cls, content: bytes, dimension: int) -> "FlatVectors":
        """The index in `content`, which the caller has verified by digest.

        Raises `StoreDamaged` if it is not a flat index of that dimension.
        """
        try:
            index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        except RuntimeError as error:
            raise StoreDamaged(f"{FILE} is not a FAISS index") from error
        if not isinstance(index, faiss.IndexIDMap2) or index.d != dimension:
            raise StoreDamaged(f"{FILE} is not a flat index of dimension {dimension}")
        loaded = cls.__new__(cls)
        loaded._index = index
        return loaded

    def dumps(self) -> bytes:
        """The index as bytes, for `loads`."""
        return bytes(faiss.serialize_index(self._index).tobytes())

    @property
    def ids(self) -> Ids:
        """Ids in the index, in row order."""
        return np.array(faiss.vector_to_array(self._index.id_map), dtype=np.int64)

    def rows(self, step: int = 1) -> Vectors:
        """Every `step`-th vector, shape (n, dimension), in the order of `ids`; a copy."""
        flat: Any = faiss.downcast_index(self._index.index)  # its stubs do not know IndexFlatIP
        if not flat.ntotal:
            return np.empty((0, flat.d), dtype=np.float32)
        every = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
        return np.array(every[::step], dtype=np.float32)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add one row per id; ids must be new."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))

    def remove(self, ids: Ids) -> None:
        """Drop rows; unknown ids are ignored."""
        self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(ids)))

    def nearest(self, vector: Vectors, top: int, hidden: Ids = NONE) -> Ranked:
        """At most `top` ids by decreasing inner product, never one of `hidden`."""
        top = min(top, self._index.ntotal)
        if top <= 0:
            return Ranked((), ())
        query = np.ascontiguousarray(vector, dtype=np.float32)[None, :]
        # The setting is the calling thread's own. On a busy machine a team of threads waits for its
        # slowest; one thread scans this many rows in under 10 ms.
        faiss.omp_set_num_threads(1 if self._index.ntotal < ALONE else _THREADS)
        if len(hidden):
            # The selector works inside the scan, so k results stay k.
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(np.ascontiguousarray(hidden)))
            scores, ids = self._index.search(query, top, params=_only(selector))
        else:
            scores, ids = self._index.search(query, top)
        found = ids[0] >= 0
        return Ranked(tuple(ids[0][found].tolist()), tuple(scores[0][found].tolist()))


def _only(selector: faiss.IDSelector) -> faiss.SearchParameters:
    parameters = faiss.SearchParameters()
    parameters.sel = selector
    return parameters


def nearest(segments: Sequence[FlatVectors], vector: Vectors, top: int, hidden: Ids = NONE) -> Ranked:
    """The best `top` of several indexes together; equal scores by id."""
    pairs: list[tuple[float, int]] = []
    for segment in segments:
        ranked = segment.nearest(vector, top, hidden)
        pairs.extend((-score, row) for row, score in zip(ranked.ids, ranked.scores, strict=True))
    pairs.sort()
    return Ranked(tuple(row for _, row in pairs[:top]), tuple(-score for score, _ in pairs[:top]))
