"""A navigable graph (HNSW) over rows that stay where they are, mapped or not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from indexer.errors import StoreDamaged
from indexer.machine import cores
from indexer.seams import Vectors
from indexer.vectors.scan import Best, Rows, widen
from indexer.vectors.selection import Chosen, count, masked

GRAPH = "graph.hnsw"
CONSTRUCTION = 80  # candidates kept while a row is linked
LEAST = 96  # candidates: fewer save little, and are too few for questions unlike any row
_REACH = 24  # rows scored per candidate kept, roughly: seen on sentence vectors, 32 links

_faiss: Any = faiss

# A second line behind the digest check: faiss trusts sizes it reads from a file.
faiss.set_deserialization_vector_byte_limit(64 << 30)
faiss.set_deserialization_loop_limit(1 << 31)


class Graph:
    """HNSW: each row linked to near ones, a question walks."""

    knob = "candidates"  # kept while walking
    seat = None
    margin = 0.1  # of calibration: the last hundredths of recall cost several times the effort

    def __init__(self, index: Any, effort: int) -> None:
        self._index = index
        self._nodes: Any = faiss.downcast_index(index)
        self.effort = effort

    @classmethod
    def build(cls, rows: Rows, links: int) -> "Graph":
        """Link all rows; every core works on it."""
        faiss.omp_set_num_threads(cores())
        half = rows.dtype == np.float16
        index: Any = (
            _faiss.IndexHNSWSQ(
                rows.shape[1], _faiss.ScalarQuantizer.QT_fp16, links, faiss.METRIC_INNER_PRODUCT
            )
            if half
            else _faiss.IndexHNSWFlat(rows.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        )
        index.is_trained = True
        index.hnsw.efConstruction = CONSTRUCTION
        for start in range(0, len(rows), 1 << 16):
            index.add(widen(rows[start : start + (1 << 16)]))
        return cls._over(cls(index, LEAST).dumps(), rows, LEAST)

    @classmethod
    def load(cls, contents: Mapping[str, bytes], rows: Rows, effort: int) -> "Graph":
        """The graph in verified bytes; raises `StoreDamaged` when it does not belong to the rows."""
        try:
            return cls._over(contents[GRAPH], rows, effort)
        except RuntimeError as error:
            raise StoreDamaged(f"{GRAPH} is not a FAISS graph") from error

    @classmethod
    def _over(cls, content: bytes, rows: Rows, effort: int) -> "Graph":
        reader = _faiss.VectorIOReader()
        _faiss.copy_array_to_vector(np.frombuffer(content, dtype=np.uint8), reader.data)
        graph = cls(_faiss.read_index(reader, _faiss.IO_FLAG_SKIP_STORAGE), effort)
        if not isinstance(graph._nodes, _faiss.IndexHNSW) or graph._nodes.d != rows.shape[1]:
            raise StoreDamaged(f"{GRAPH} is not a graph of dimension {rows.shape[1]}")
        if graph._nodes.hnsw.levels.size() != len(rows):
            raise StoreDamaged(f"{GRAPH} does not link the rows of its segment")
        graph._attach(rows)
        return graph

    def dumps(self) -> bytes:
        """The links alone, without the rows."""
        writer = _faiss.VectorIOWriter()
        _faiss.write_index(self._index, writer, _faiss.IO_FLAG_SKIP_STORAGE)
        return bytes(faiss.vector_to_array(writer.data).tobytes())

    def dump(self, folder: Path) -> None:
        """Write the links under `folder`."""
        (folder / GRAPH).write_bytes(self.dumps())

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that a search scores when `share` of them may be found."""
        return _REACH * self._candidates(top, share)

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows that a walk for each query meets."""
        faiss.omp_set_num_threads(1)
        parameters = _faiss.SearchParametersHNSW()
        bits = None
        if chosen is not None:
            bits = np.packbits(masked(chosen, len(rows)), bitorder="little")
            parameters.sel = _faiss.IDSelectorBitmap(len(bits), _faiss.swig_ptr(bits))
        parameters.efSearch = self._candidates(top, count(chosen, len(rows)) / len(rows))
        scores, positions = self._nodes.search(queries, top, params=parameters)
        del bits  # the selector reads them until here
        return Best(scores, positions)

    def _candidates(self, top: int, share: float) -> int:
        return int(max(self.effort, top) / max(share, 1e-9))

    def _attach(self, rows: Rows) -> None:
        """Let the nodes find their vectors in `rows`, which are not copied."""
        half = rows.dtype == np.float16
        storage: Any = (
            _faiss.IndexScalarQuantizer(
                rows.shape[1], _faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
            )
            if half
            else _faiss.IndexFlatIP(rows.shape[1])
        )
        flat = rows.view(np.uint8).reshape(-1)
        owner = _faiss.MaybeOwnedVectorUInt8().owner  # none: we keep the rows ourselves
        storage.codes = _faiss.MaybeOwnedVectorUInt8.create_view(_faiss.swig_ptr(flat), flat.size, owner)
        storage.ntotal, storage.is_trained = len(rows), True
        self._kept = (rows, flat, storage)
        self._nodes.storage, self._nodes.own_fields = storage, False
        self._nodes.ntotal = len(rows)
