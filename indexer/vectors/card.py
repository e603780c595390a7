"""Indexes on an accelerator card: a segment has a number there, and a question asks for many."""

import itertools
import logging
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from indexer.seams import Vectors
from indexer.vectors.calibration import calibrate, questions
from indexer.vectors.card_thread import Asked, CardThread, Engine, Placed
from indexer.vectors.choice import Choice, Wanted, choose
from indexer.vectors.scan import Best, Rows, counted_on, scan
from indexer.vectors.selection import Chosen, count
from indexer.vectors.several import Part, Seat
from indexer.vectors.stored import StoredVectors

MOST = 2048  # answers to a question that a card can select
LEAST = 20_000  # rows: fewer are scanned by the processor before the card is asked
_SPARE = 1.2  # more answers than a filter is expected to need

log = logging.getLogger("fewshot")


class Card:
    """Segments on a card. Safe to use from several threads."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Raises what `engine` raises: it is called on the thread that will own it."""
        self.thread = CardThread(engine)
        self._numbers = itertools.count()

    def place(self, vectors: StoredVectors, wanted: Wanted) -> StoredVectors:
        """The same vectors, searched on the card; let go of there when no longer used here.

        Raises `IndexOptionRefused` when they do not fit.
        """
        if len(vectors.ids) < LEAST or vectors.about["kind"] == "milvus":
            return vectors
        rows, key = vectors.stored, next(self._numbers)

        def put(engine: Engine) -> Choice:
            chosen = choose(len(rows), rows.shape[1], wanted, engine.memory_bytes, "cuda")
            self.thread.placed[key] = Placed(engine.place(rows, chosen), len(rows))
            return chosen

        choice = self.thread.order(put)
        index = OnCard(self, key, choice.kind)
        weakref.finalize(index, self.thread.let_go, key)
        found = 1.0 if choice.kind == "flat" else calibrate(index, rows, wanted.recall, questions(rows))
        about = {**choice._asdict(), "recall": found}
        log.info("%d rows on the card: %s, %s, recall@10 %.3f", len(rows), choice.kind, choice.why, found)
        return replace(vectors, about=about, shortcut=index)

    def search_all(self, parts: Sequence[Part], queries: Vectors, top: int) -> Best:
        """The best `top` chosen rows of all parts: more than `top` are found, and the others left out."""
        asked = tuple(Asked(part.key, part.effort) for part in parts)
        if all(part.chosen is None for part in parts):
            return self.thread.ask(asked, queries, top)
        some, rows = sum(part.some for part in parts), sum(len(part.rows) for part in parts)
        most = min(MOST, rows)
        fetched = min(most, _needed(top, some / rows))
        while True:
            best = self.thread.ask(asked, queries, fetched)
            seen = _seen(best.positions, parts)
            if seen.sum(axis=1).min(initial=top) >= min(top, some):
                return _first(best, seen, top)
            if fetched >= most:  # what is allowed lies far from the question, in some of them at least
                return self._apart(parts, queries, top)
            fetched = min(2 * fetched, most)

    def _apart(self, parts: Sequence[Part], queries: Vectors, top: int) -> Best:
        """As `search_all`, each part by itself; one that is alone already is scanned by the processor."""
        if len(parts) == 1:
            return scan(parts[0].rows, queries, top, parts[0].chosen)
        found = [self.search_all([part], queries, top) for part in parts]
        return counted_on(found, [len(part.rows) for part in parts], top)

    def close(self) -> None:
        """Let go of the card once what waits is answered."""
        self.thread.close()


@dataclass(eq=False)
class OnCard:
    """One segment's index on the card: a `Shortcut`."""

    card: Card
    key: int
    kind: str
    effort: int = 1

    @property
    def knob(self) -> str:
        """What `effort` counts."""
        return "probes" if self.kind == "ivf" else "candidates"

    @property
    def seat(self) -> Seat:
        """The card, which searches this segment together with others."""
        return Seat(self.card, self.key)

    def visits(self, rows: int, top: int, share: float) -> float:
        """None of the processor's time, unless the card cannot select as many answers as a filter needs."""
        return 0.0 if _needed(top, share) <= MOST else math.inf

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows of this segment."""
        part = Part(self.key, self.effort, rows, chosen, count(chosen, len(rows)))
        return self.card.search_all([part], queries, top)


def _needed(top: int, share: float) -> int:
    return math.ceil(_SPARE * top / max(share, 1e-9)) + 16


def _seen(positions: Any, parts: Sequence[Part]) -> Any:
    """Which positions, counted on from each part to the next, are of chosen rows."""
    seen, start = np.zeros(positions.shape, dtype=np.bool_), 0
    for part in parts:
        here = (positions >= start) & (positions < start + len(part.rows))
        at = positions[here] - start
        if part.chosen is None:
            seen[here] = True
        else:
            seen[here] = part.chosen[at] if part.chosen.dtype == np.bool_ else np.isin(at, part.chosen)
        start += len(part.rows)
    return seen


def _first(best: Best, seen: Any, top: int) -> Best:
    """The first `top` seen of each row; they stay in order."""
    order = np.argsort(~seen, axis=1, kind="stable")[:, :top]
    kept = np.take_along_axis(seen, order, 1)
    positions = np.where(kept, np.take_along_axis(best.positions, order, 1), -1)
    return Best(np.take_along_axis(best.scores, order, 1), positions)
