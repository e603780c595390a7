"""Questions to hits: both legs at once over a held generation, fused, text from the catalogue."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import sqlalchemy as sa

from indexer import fusion, keywords, vectors
from indexer.catalogue import Catalogue, check_embedder
from indexer.errors import StoreDamaged
from indexer.records import Generation, Hit, Hits, Store
from indexer.seams import Embedder, Ids, Vectors
from indexer.segments import OpenSegment, open_segment

Mode = Literal["hybrid", "dense", "keyword"]
DEPTH = 100  # candidates of a leg, at least


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A generation with its segments open. Held by whoever searches it."""

    number: int
    segments: Mapping[str, OpenSegment]
    hidden: Ids


class Searcher:
    """Searches the stores of one data folder. Safe to call from several threads."""

    def __init__(self, data: Path, embedder: Embedder) -> None:
        """Raises `DatabaseRefused` when the catalogue cannot be opened."""
        self._catalogue = Catalogue(data)
        self._embedder = embedder
        self._snapshots: dict[str, Snapshot] = {}
        self._loading = threading.Lock()
        self._legs = ThreadPoolExecutor(max_workers=8, thread_name_prefix="keyword-leg")

    def search(
        self,
        query: str,
        stores: Sequence[str],
        *,
        top: int = 10,
        mode: Mode = "hybrid",
        vector: Vectors | None = None,
        per_file: int | None = None,
        threshold: float = 0.0,
    ) -> Hits:
        """At most `top` hits scored `threshold` or more, by strictly decreasing score.

        `stores` are ids or names; `vector` is the query's if it is known already; `per_file` caps the
        hits of one document (a row of a JSONL file is a document). Raises `UnknownStore`,
        `EmbedderMismatch` (unless mode is keyword) and `StoreDamaged`.
        """
        known = {store.id: store for store in map(self._catalogue.store, stores)}
        if mode != "keyword":
            for store in known.values():
                check_embedder(store, self._embedder)
        held = {store.id: self._snapshot(store) for store in known.values()}
        numbers = {store_id: snapshot.number for store_id, snapshot in held.items()}
        if top < 1 or not query.strip():
            return Hits((), numbers)
        ranked = self._rank(query, list(held.values()), max(DEPTH, 4 * top), mode, vector)
        rows = self._catalogue.passages([row for row, _ in ranked], numbers)
        visible = [pair for pair in ranked if pair[0] in rows]
        if per_file is not None:
            owner = {row: rows[row]["document_id"] for row, _ in visible}
            visible = fusion.spread(visible, owner, per_file)
        visible = visible[:top]
        scores = fusion.calibrate([evidence for _, evidence in visible])
        pairs = zip(visible, scores, strict=True)
        return Hits(tuple(_hit(rows[row], score) for (row, _), score in pairs if score >= threshold), numbers)

    def check(self) -> None:
        """Read the catalogue once; raises `IndexerError` when it cannot be read."""
        self._catalogue.stores()

    def warm(self) -> None:
        """Load the embedding model now, so that the first query does not wait for it."""
        self._embedder.query("warm")

    def close(self) -> None:
        """Let go of files, threads and connections."""
        self._legs.shutdown()
        self._snapshots.clear()
        self._catalogue.close()

    def _rank(
        self, query: str, held: Sequence[Snapshot], depth: int, mode: Mode, vector: Vectors | None
    ) -> list[tuple[int, float]]:
        segments = [segment for snapshot in held for segment in snapshot.segments.values()]
        hidden = np.concatenate([snapshot.hidden for snapshot in held]) if held else vectors.NONE
        legs: list[fusion.Leg] = []
        pending = None
        if mode != "dense":
            indexes = [segment.keywords for segment in segments]
            pending = self._legs.submit(keywords.match, indexes, query, depth, hidden)
        if mode != "keyword":
            vector = self._embedder.query(query) if vector is None else vector
            near = vectors.nearest([segment.vectors for segment in segments], vector, depth, hidden)
            trust = self._embedder.grasp(query) if mode == "hybrid" else 1.0
            legs.append(fusion.Leg(near, fusion.dense_evidence(near.scores), trust))
        if pending is not None:
            matched, most = pending.result()
            legs.append(fusion.Leg(matched, fusion.keyword_evidence(matched.scores, most)))
        return fusion.fuse(legs)

    def _snapshot(self, store: Store) -> Snapshot:
        """The newest generation, opened; segments it shares with the one before are reused."""
        held = self._snapshots.get(store.id)
        if held is not None and held.number == store.generation:
            return held
        with self._loading:
            held = self._snapshots.get(store.id)
            if held is not None and held.number >= store.generation:
                return held
            while True:
                generation = self._catalogue.generation(store.id)
                try:
                    snapshot = self._open(store, generation, held)
                except StoreDamaged:
                    # A merge may have removed the folder since: then there is a newer generation.
                    if self._catalogue.generation(store.id).number == generation.number:
                        raise
                    continue
                self._snapshots[store.id] = snapshot
                return snapshot

    def _open(self, store: Store, generation: Generation, held: Snapshot | None) -> Snapshot:
        reused = held.segments if held is not None else {}
        opened = {
            segment.id: reused.get(segment.id) or open_segment(self._catalogue.data, segment, store.dimension)
            for segment in generation.segments
        }
        return Snapshot(generation.number, opened, np.array(sorted(generation.dead), dtype=np.int64))


def _hit(row: sa.RowMapping, score: float) -> Hit:
    return Hit(
        chunk_id=row["key"],
        file_id=row["file_id"],
        external_id=row["external_id"],
        store_id=row["store_id"],
        filename=row["filename"],
        title=row["title"] or row["filename"],
        text=row["text"],
        score=score,
        page_start=row["page_start"],
        page_end=row["page_end"],
        char_start=row["char_start"],
        char_end=row["char_end"],
        attributes=row["attributes"],
    )
