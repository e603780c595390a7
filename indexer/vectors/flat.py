"""Exact nearest neighbours over rows in memory, 32 or 16 bits a number."""

from typing import Any

import faiss
import numpy as np

from indexer.errors import StoreDamaged
from indexer.records import Ranked
from indexer.seams import Ids, Vectors
from indexer.vectors.scan import Rows, widen
from indexer.vectors.selection import NONE, positions
from indexer.vectors.several import nearest, nearest_each

FILE = "vectors.faiss"

# A second line behind the digest check: faiss trusts sizes it reads from a file.
faiss.set_deserialization_vector_byte_limit(64 << 30)
faiss.set_deserialization_loop_limit(1 << 20)


class FlatVectors:
    """A `VectorIndex` of rows by increasing id."""

    def __init__(self, dimension: int) -> None:
        self.ids: Ids = NONE
        self.stored: Rows = np.empty((0, dimension), dtype=np.float32)

    @classmethod
    def loads(cls, content: bytes, dimension: int) -> "FlatVectors":
        """The index in `content`, which the caller has verified by digest.

        Raises `StoreDamaged` if it is not a flat index of that dimension.
        """
        try:
            index: Any = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        except RuntimeError as error:
            raise StoreDamaged(f"{FILE} is not a FAISS index") from error
        if not isinstance(index, faiss.IndexIDMap2) or index.d != dimension:
            raise StoreDamaged(f"{FILE} is not a flat index of dimension {dimension}")
        loaded = cls(dimension)
        flat: Any = faiss.downcast_index(index.index)
        if flat.ntotal:
            rows = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
            loaded.add(np.array(faiss.vector_to_array(index.id_map), dtype=np.int64), rows)
        return loaded

    def dumps(self) -> bytes:
        """The index as bytes, for `loads`."""
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(self.stored.shape[1]))
        index.add_with_ids(widen(self.stored), self.ids)
        return bytes(faiss.serialize_index(index).tobytes())

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
