"""Generations opened for searching: shared segments, a background sample, and who is hidden."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from indexer.attributes import Attributes
from indexer.catalogue import Catalogue
from indexer.errors import IndexOptionRefused, StoreDamaged
from indexer.fusion import Background
from indexer.lookup import described
from indexer.records import Generation, Segment, Store
from indexer.seams import Ids, Vectors
from indexer.segments import OpenSegment, open_segment
from indexer.vectors import wanted
from indexer.vectors.card import Card
from indexer.vectors.selection import positions

log = logging.getLogger("fewshot")

SAMPLE = 2048  # vectors that stand for all of a store
LEAST = 32  # of them from each segment


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A generation with its segments open. Whoever searches holds it; a newer one does not disturb it."""

    store_id: str
    number: int
    series: str
    embedder: str  # the one that made these vectors
    embedder_digest: str
    segments: Mapping[str, OpenSegment]
    samples: Mapping[str, Vectors]  # by segment: evenly spaced rows, shape (n, dimension)
    hidden: Ids  # sorted
    described: int = 0  # the generation in which attributes of files were last changed

    @property
    def chunks(self) -> int:
        """Chunks in the segments, dead ones included."""
        return sum(len(segment.vectors.ids) for segment in self.segments.values())


class Snapshots:
    """The newest snapshot of each store, opened when first asked for."""

    def __init__(self, catalogue: Catalogue, card: Card | None = None) -> None:
        self._catalogue = catalogue
        self._card = card
        self._held: dict[str, Snapshot] = {}
        self._attributes: dict[str, tuple[int, Attributes]] = {}  # with the generation last taken in
        self._opening = threading.Lock()
        self._describing = threading.Lock()

    def newest(self, store: Store) -> Snapshot:
        """A snapshot of `store.generation` or a later one; raises `StoreDamaged`."""
        held = self._held.get(store.id)
        if held is not None and held.number >= store.generation:
            return held
        with self._opening:
            held = self._held.get(store.id)
            while held is None or held.number < store.generation:
                known = (None, ()) if held is None else (held.number, held.segments.keys())
                generation = self._catalogue.generation(store.id, *known)
                try:
                    held = self._open(generation, held, store)
                except StoreDamaged:
                    # A merge may have removed a folder since; then there is a newer generation.
                    if self._catalogue.generation(store.id).number == generation.number:
                        raise
            self._held[store.id] = held
            return held

    def attributes(self, snapshot: Snapshot) -> Attributes:
        """The columns of the snapshot's documents; they may hold later ones as well."""
        with self._describing:
            number, columns = self._attributes.get(snapshot.store_id, (-1, Attributes()))
            if number < snapshot.described:
                number, columns = -1, Attributes()
            if number < snapshot.number:
                columns.add(described(self._catalogue.engine, snapshot.store_id, columns.last))
                self._attributes[snapshot.store_id] = (snapshot.number, columns)
            return columns

    def clear(self) -> None:
        """Let go of all of them."""
        self._held.clear()
        self._attributes.clear()

    def _opened(self, segment: Segment, dimension: int, store: Store) -> OpenSegment:
        opened = open_segment(self._catalogue.data, segment, dimension)
        if self._card is None:
            return opened
        asked = wanted(cast(Mapping[str, object], store.options.get("index", {})))
        try:
            return opened._replace(vectors=self._card.place(opened.vectors, asked))
        except IndexOptionRefused as problem:  # it can be searched here all the same
            log.warning("segment %s of store %s: %s", segment.id, store.name, problem)
            return opened

    def _open(self, generation: Generation, held: Snapshot | None, store: Store) -> Snapshot:
        hidden = np.array(sorted(generation.dead), dtype=np.int64)
        if held is not None and generation.since is not None:
            hidden = np.union1d(held.hidden, hidden)
        elif held is not None and not generation.dead.issuperset(held.hidden.tolist()):
            # The dead were purged, so what they said must not stay in memory either.
            self._attributes.pop(generation.store_id, None)
        reused = held.segments if held is not None else {}
        opened = {
            segment.id: reused.get(segment.id) or self._opened(segment, generation.dimension, store)
            for segment in generation.segments
        }
        sampled = held.samples if held is not None else {}
        chunks = sum(segment.chunks for segment in generation.segments)
        return Snapshot(
            store_id=generation.store_id,
            number=generation.number,
            series=generation.series,
            embedder=generation.embedder,
            embedder_digest=generation.embedder_digest,
            segments=opened,
            samples={
                name: sampled[name] if name in sampled else _sample(segment, chunks)
                for name, segment in opened.items()
            },
            hidden=hidden,
            described=generation.described,
        )


def background(held: Sequence[Snapshot], vector: Vectors) -> Background:
    """How a question's cosines are distributed over what these snapshots hold.

    Each segment is judged by its sample and weighs what it holds, so a publication samples no more
    than its own segment.
    """
    weights, means, squares = [], [], []
    for snapshot in held:
        for name, sample in snapshot.samples.items():
            # einsum stays on this thread; BLAS would wake a team for a millisecond's work.
            cosines = np.einsum("ij,j->i", sample, vector)
            weights.append(len(snapshot.segments[name].vectors.ids))
            means.append(float(cosines.mean()))
            squares.append(float(cosines @ cosines) / len(cosines))
    if not sum(weights):
        return Background(0.0, 0.0, 0)
    mean = float(np.average(means, weights=weights))
    spread = float(np.average(squares, weights=weights)) - mean * mean
    return Background(mean, max(0.0, spread) ** 0.5, sum(weights))


def vectors_of(held: Sequence[Snapshot], ids: Sequence[int]) -> Vectors:
    """The stored vectors of chunks in these snapshots, of one model or of equal length; a row per id.

    Vectors of another length than the first one's, of another model, are zero: nothing is like them.
    """
    rows: dict[int, Vectors] = {}
    wanted = np.unique(np.array(ids, dtype=np.int64))
    for snapshot in held:
        for segment in snapshot.segments.values():
            at = positions(segment.vectors.ids, wanted)
            found = np.asarray(segment.vectors.stored[at], dtype=np.float32)
            rows.update(zip(segment.vectors.ids[at].tolist(), found, strict=True))
    if not ids:
        return np.empty((0, 1), dtype=np.float32)
    length = len(rows[ids[0]])
    none = np.zeros(length, dtype=np.float32)
    return np.stack([rows[row] if len(rows[row]) == length else none for row in ids])


def _sample(segment: OpenSegment, chunks: int) -> Vectors:
    held = len(segment.vectors.ids)
    wanted = max(LEAST, SAMPLE * held // max(1, chunks))
    return segment.vectors.rows(max(1, held // wanted))
