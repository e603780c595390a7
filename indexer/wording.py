"""What the keyword leg makes of a question, and how closely chunks follow the question's wording."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from indexer import fusion
from indexer.closeness import Met, Question
from indexer.legs import Told, timed
from indexer.lookup import wordings
from indexer.records import Ranked
from indexer.seams import Embedder


class Wording:
    """One question's reading, in as many goes as it takes, by any threads.

    What is read ahead need only be judged once all candidates are known.
    """

    def __init__(self, engine: sa.Engine, question: str) -> None:
        self._engine, self.text = engine, question
        self._at: dict[int, int] = {}  # of chunks that are there: their row in `_met`
        self._joining = threading.Lock()
        self.awaited = False  # whether the search waits for the keyword leg: all else is there

    @cached_property
    def _question(self) -> Question:  # made by the leg that reads first
        return Question(self.text)

    @cached_property
    def _met(self) -> Met:
        return self._question.met([])

    def read(self, ids: Sequence[int]) -> None:
        """Read those of these chunks that are not read yet."""
        texts = wordings(self._engine, [row for row in ids if row not in self._at])
        if not texts:
            return
        found = self._question.met(list(texts.values()))
        with self._joining:  # what two threads have read at once is there twice, and the same
            first = len(self._met.lengths)
            self._met = Met(*(np.concatenate(both) for both in zip(self._met, found, strict=True)))
            self._at |= {row: at for at, row in enumerate(texts, start=first)}

    def closeness(self, ids: Sequence[int]) -> dict[int, float]:
        """0..1, of those that are there, judged by all of them together."""
        self.read(ids)
        there = [row for row in ids if row in self._at]
        at = [self._at[row] for row in there]
        close = self._question.closeness(Met(self._met.counts[at], self._met.lengths[at]))
        return dict(zip(there, close.tolist(), strict=True))


class ReadAhead(NamedTuple):
    """What is known of a question before its vector is."""

    keyword: fusion.Keyword
    grasp: float  # the embedder's, 0..1; 1 where there is none


def read_ahead(
    match: Callable[[], tuple[Ranked, float]], wording: Wording | None, embedder: Embedder | None, tell: Told
) -> ReadAhead:
    """The keyword leg, which may have time to read its best texts while the question is embedded.

    When the search waits already, what is read then is all that is needed, and no more.
    """
    with timed(tell, "keyword"):
        found = fusion.Keyword(*match())
        if wording is None or embedder is None:
            return ReadAhead(found, 1.0)
        if not wording.awaited:
            wording.read(found.ranked.ids[: fusion.READ])
        return ReadAhead(found, embedder.grasp(wording.text))
