"""Questions to hits: both legs at once over a held generation, fused, text from the catalogue."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import sqlalchemy as sa

from indexer import fusion, keywords, vectors
from indexer.catalogue import Catalogue, check_embedder
from indexer.records import Hit, Hits
from indexer.seams import Embedder, Vectors
from indexer.snapshots import Snapshot, Snapshots, background

Mode = Literal["hybrid", "dense", "keyword"]
DEPTH = 200  # candidates of a leg, at least


class Searcher:
    """Searches the stores of one data folder. Safe to call from several threads."""

    def __init__(self, data: Path, embedder: Embedder) -> None:
        """Raises `DatabaseRefused` when the catalogue cannot be opened."""
        self._catalogue = Catalogue(data)
        self._embedder = embedder
        self._snapshots = Snapshots(self._catalogue)
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
        held = {store.id: self._snapshots.newest(store) for store in known.values()}
        numbers = {store_id: snapshot.number for store_id, snapshot in held.items()}
        if top < 1 or not query.strip():
            return Hits((), numbers)
        ranked = self._rank(query, list(held.values()), max(DEPTH, 4 * top), mode, vector)
        kept = self._visible(ranked, numbers, top, per_file)
        scores = fusion.calibrate([evidence for _, evidence in kept])
        pairs = zip(kept, scores, strict=True)
        return Hits(tuple(_hit(row, score) for (row, _), score in pairs if score >= threshold), numbers)

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
        hidden = np.concatenate([vectors.NONE, *(snapshot.hidden for snapshot in held)])
        dense = keyword = pending = None
        if mode != "dense":
            indexes = [segment.keywords for segment in segments]
            pending = self._legs.submit(keywords.match, indexes, query, depth, hidden)
        if mode != "keyword":
            vector = self._embedder.query(query) if vector is None else vector
            near = vectors.nearest([segment.vectors for segment in segments], vector, depth, hidden)
            dense = fusion.Dense(near, background(held, vector), self._embedder.grasp(query))
        if pending is not None:
            keyword = fusion.Keyword(*pending.result())
        return fusion.fuse(dense, keyword)

    def _visible(
        self, ranked: Sequence[tuple[int, float]], numbers: Mapping[str, int], top: int, per_file: int | None
    ) -> list[tuple[sa.RowMapping, float]]:
        """The best `top` that the catalogue still has, with their rows."""
        kept: list[tuple[sa.RowMapping, float]] = []
        taken: Counter[int] = Counter()
        for at in range(0, len(ranked), 2 * top):
            some = ranked[at : at + 2 * top]
            rows = self._catalogue.passages([row for row, _ in some], numbers)
            for row, evidence in some:
                if row not in rows or (per_file is not None and taken[rows[row]["document_id"]] >= per_file):
                    continue
                taken[rows[row]["document_id"]] += 1
                kept.append((rows[row], evidence))
                if len(kept) == top:
                    return kept
        return kept


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
        headings=tuple(row["headings"]),
        lead=row["lead"],
    )
