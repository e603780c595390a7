"""Generations opened for searching: shared segments, a background sample, and who is hidden."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexer.catalogue import Catalogue
from indexer.errors import StoreDamaged
from indexer.fusion import Background
from indexer.records import Generation, Store
from indexer.seams import Ids, Vectors
from indexer.segments import OpenSegment, open_segment

SAMPLE = 2048  # vectors per store that stand for all of them


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A generation with its segments open. Whoever searches holds it; a newer one does not disturb it."""

    number: int
    segments: Mapping[str, OpenSegment]
    hidden: Ids
    sample: Vectors  # evenly spaced rows, shape (at most SAMPLE, dimension)
    chunks: int


class Snapshots:
    """The newest snapshot of each store, opened when first asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._held: dict[str, Snapshot] = {}
        self._opening = threading.Lock()

    def newest(self, store: Store) -> Snapshot:
        """A snapshot of `store.generation` or a later one; raises `StoreDamaged`."""
        held = self._held.get(store.id)
        if held is not None and held.number >= store.generation:
            return held
        with self._opening:
            held = self._held.get(store.id)
            while held is None or held.number < store.generation:
                generation = self._catalogue.generation(store.id)
                try:
                    held = self._open(store, generation, held)
                except StoreDamaged:
                    # A merge may have removed a folder since; then there is a newer generation.
                    if self._catalogue.generation(store.id).number == generation.number:
                        raise
            self._held[store.id] = held
            return held

    def clear(self) -> None:
        """Let go of all of them."""
        self._held.clear()

    def _open(self, store: Store, generation: Generation, held: Snapshot | None) -> Snapshot:
        reused = held.segments if held is not None else {}
        opened = {
            segment.id: reused.get(segment.id) or open_segment(self._catalogue.data, segment, store.dimension)
            for segment in generation.segments
        }
        chunks = sum(segment.chunks for segment in generation.segments)
        hidden = np.array(sorted(generation.dead), dtype=np.int64)
        return Snapshot(generation.number, opened, hidden, _sample(opened, chunks, store.dimension), chunks)


def background(held: Sequence[Snapshot], vector: Vectors) -> Background:
    """How a question's cosines are distributed over what these snapshots hold."""
    # einsum stays on this thread; BLAS would wake a team for a millisecond's work.
    cosines = np.concatenate([np.einsum("ij,j->i", snapshot.sample, vector) for snapshot in held])
    chunks = sum(snapshot.chunks for snapshot in held)
    if not len(cosines):
        return Background(0.0, 0.0, 0)
    return Background(float(cosines.mean()), float(cosines.std()), chunks)


def _sample(opened: Mapping[str, OpenSegment], chunks: int, dimension: int) -> Vectors:
    step = max(1, chunks // SAMPLE)
    rows = [segment.vectors.rows(step) for segment in opened.values()]
    return np.concatenate(rows) if rows else np.empty((0, dimension), dtype=np.float32)
