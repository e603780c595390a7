"""A segment's graph in a Milvus server instead of this process: the only file that imports pymilvus.

The rows stay in the segment's folder, where exact scans and tombstones need them; Milvus holds a copy
under a graph and finds among it. One collection is one segment: written once, dropped with its folder.
"""

import logging
import os
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from indexer.errors import IndexOptionRefused
from indexer.seams import Vectors
from indexer.vectors.calibration import MARGIN
from indexer.vectors.scan import Best, Rows, scan, widen
from indexer.vectors.selection import Chosen

PLACE = "milvus.json"
TOKEN = "FEWSHOT_MILVUS_TOKEN"  # a secret is not written into a store
LISTED = 10_000  # positions that one filter expression may name
_SENT = 1_000  # rows in one request: 1.5 MiB of 384 numbers
_CONSTRUCTION = 200  # candidates kept while the graph is built

log = logging.getLogger("fewshot")


class Collection:
    """The rows of one segment in a collection of a Milvus server."""

    knob = "candidates"  # what a search keeps while it walks the graph
    seat = None
    margin = MARGIN  # of calibration

    def __init__(self, uri: str, name: str, effort: int = 1) -> None:
        self._uri, self._name = uri, name
        self.effort = effort

    @classmethod
    def build(cls, rows: Rows, links: int, uri: str) -> "Collection":
        """Send all rows and have the graph built; raises `IndexOptionRefused` when the server does not."""
        from pymilvus import DataType, MilvusException

        made = cls(uri, f"fewshot_{uuid.uuid4().hex}")
        try:
            client = _client(uri)
            schema = client.create_schema(auto_id=False)
            schema.add_field("position", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1])
            index = client.prepare_index_params()
            parameters = {"M": links, "efConstruction": _CONSTRUCTION}
            index.add_index("vector", index_type="HNSW", metric_type="IP", params=parameters)
            client.create_collection(
                made._name, schema=schema, index_params=index, consistency_level="Strong"
            )
            for start in range(0, len(rows), _SENT):
                some = widen(np.ascontiguousarray(rows[start : start + _SENT]))
                sent = [{"position": start + at, "vector": row} for at, row in enumerate(some)]
                client.insert(made._name, sent)
            client.flush(made._name)
            client.load_collection(made._name)
        except MilvusException as error:
            raise IndexOptionRefused(f"Milvus at {uri} did not take the segment: {error}") from error
        return made

    def dump(self, folder: Path) -> None:
        """Write where the collection is."""
        (folder / PLACE).write_bytes(orjson.dumps({"uri": self._uri, "collection": self._name}))

    @classmethod
    def load(cls, contents: Mapping[str, bytes], rows: Rows, effort: int) -> "Collection":
        """The collection that the segment's file names."""
        place = orjson.loads(contents[PLACE])
        return cls(str(place["uri"]), str(place["collection"]), effort)

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that a search looks at here: none, unless the filter is too long to send."""
        listed = rows * min(share, 1.0 - share)
        return 0.0 if share == 1.0 or listed <= LISTED else float(rows)

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows that the graph finds; exact from the rows when Milvus fails."""
        from pymilvus import MilvusException

        try:
            found = _client(self._uri).search(
                self._name,
                list(queries),
                anns_field="vector",
                filter=_expression(chosen),
                limit=top,
                search_params={"params": {"ef": max(top, self.effort)}},
            )
        except MilvusException as error:
            log.warning("Milvus at %s failed (%s): the segment was scanned instead", self._uri, error)
            return scan(rows, queries, top, chosen)
        best = Best(
            np.full((len(queries), top), -np.inf, np.float32), np.full((len(queries), top), -1, np.int64)
        )
        for at, hits in enumerate(found):
            positions = np.array([hit["position"] for hit in hits], dtype=np.int64)
            best.positions[at, : len(positions)] = positions
            best.scores[at, : len(positions)] = [hit["distance"] for hit in hits]
        return best


def discard(folder: Path) -> None:
    """Drop the collections of all segments under the folder; a server that is gone keeps them."""
    for place in folder.rglob(PLACE):
        _drop(place)


def _drop(file: Path) -> None:
    try:
        place = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return
    from pymilvus import MilvusException

    try:
        _client(place["uri"]).drop_collection(place["collection"])
    except (MilvusException, IndexOptionRefused) as error:
        log.warning("collection %s stays at %s: %s", place["collection"], place["uri"], error)


@cache
def _client(uri: str) -> Any:  # pymilvus has no types
    """One connection a server, shared by all segments."""
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise IndexOptionRefused(
            "index kind 'milvus' needs its client: pip install 'fewshot[milvus]'"
        ) from error
    return MilvusClient(uri, token=os.environ.get(TOKEN, ""))


def _expression(chosen: Chosen) -> str:
    if chosen is None:
        return ""
    if chosen.dtype != np.bool_:
        return f"position in {chosen.tolist()}"
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    if len(outside) <= len(inside):
        return f"position not in {outside.tolist()}"
    return f"position in {inside.tolist()}"
