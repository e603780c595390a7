"""Is a series of vectors as good as it should be? Measured before it is searched."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer import vectors
from indexer.catalogue import Catalogue
from indexer.gathering import texts
from indexer.records import Ranked, Series, Store
from indexer.seams import Embedder, Ids, Vectors
from indexer.segments import OpenSegment, open_segment

TOP = 10
WORDS = 12  # of a chunk, that stand for a question about it
_ALMOST = 1e-3  # cosines nearer than this are equal: half precision has three digits
_SAME = 0.99  # cosine of a stored vector with the one the model gives now


class Measured(NamedTuple):
    """What sampled questions found, as shares 0..1."""

    queries: int
    recall: float  # of the exact ten nearest, by the index
    faithful: float  # of sampled chunks, whose stored vector is what the model says of their text
    overlap: float | None  # of the ten that the old vectors find; None where their model is not at hand


def measure(
    catalogue: Catalogue, store: Store, series: Series, embedder: Embedder, queries: int, old: Embedder | None
) -> Measured:
    """Ask the series sampled questions: a run of words from a chunk. The sample is the same every time.

    Raises `StoreDamaged`.
    """
    opened = [
        open_segment(catalogue.data, segment, series.dimension) for segment in catalogue.segments(series)
    ]
    dead = catalogue.dead(store.id)
    live = np.setdiff1d(np.concatenate([vectors.NONE, *(each.vectors.ids for each in opened)]), dead)
    sample = sorted(random.Random(series.id).sample(live.tolist(), min(queries, len(live))))
    if not sample:
        return Measured(0, 1.0, 1.0, None)
    said = texts(catalogue, np.array(sample, dtype=np.int64), embedder)
    asked = [_question(said[row], row) for row in sample if row in said]
    new = np.stack([embedder.query(question) for question in asked])
    found = vectors.nearest_each([each.vectors for each in opened], new, TOP, dead)
    exact = _exact(opened, new, dead)
    overlap = None
    if old is not None and old.digest == store.embedder_digest:
        before = [
            open_segment(catalogue.data, segment, store.dimension).vectors
            for segment in catalogue.segments(store.current)
        ]
        known = vectors.nearest_each(before, np.stack([old.query(each) for each in asked]), TOP, dead)
        overlap = float(np.mean([_shared(one, other) for one, other in zip(found, known, strict=True)]))
    recalls = [_recalled(ranked, scores) for ranked, scores in zip(found, exact, strict=True)]
    return Measured(len(asked), float(np.mean(recalls)), _faithful(opened, said, embedder), overlap)


def _question(text: str, seed: int) -> str:
    words = text.split()
    start = random.Random(seed).randrange(max(1, len(words) - WORDS))
    return " ".join(words[start : start + WORDS])


def _exact(opened: Sequence[OpenSegment], queries: Vectors, dead: Ids) -> Vectors:
    """The ten best cosines of each question by brute force, shape (q, at most TOP), falling."""
    best = np.empty((len(queries), 0), dtype=np.float32)
    for each in opened:
        scores = queries @ each.vectors.rows()[~np.isin(each.vectors.ids, dead)].T
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :TOP]
    return best


def _recalled(ranked: Ranked, exact: Vectors) -> float:
    """Share of the exact ten that were found; one as good as the tenth counts, whichever it is."""
    return min(1.0, float(np.sum(np.array(ranked.scores) >= exact[-1] - _ALMOST)) / max(1, len(exact)))


def _shared(one: Ranked, other: Ranked) -> float:
    return len(set(one.ids) & set(other.ids)) / max(1, len(other.ids))


def _faithful(opened: Sequence[OpenSegment], said: dict[int, str], embedder: Embedder) -> float:
    rows = list(said)
    now = dict(zip(rows, embedder.passages([said[row] for row in rows]), strict=True))
    same = 0
    for each in opened:
        for place in np.flatnonzero(np.isin(each.vectors.ids, rows)).tolist():
            stored = np.asarray(each.vectors.stored[place], dtype=np.float32)
            same += float(stored @ now[int(each.vectors.ids[place])]) >= _SAME
    return same / len(rows)
