"""How closely chunks follow a question's wording: read from the catalogue in as many goes as it takes."""

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from indexer.closeness import Met, Question
from indexer.lookup import wordings


class Wording:
    """One question's reading. What is read ahead need only be judged once all candidates are known."""

    def __init__(self, engine: sa.Engine, question: str) -> None:
        self._engine = engine
        self._question = Question(question)
        self._at: dict[int, int] = {}  # of chunks that are there: their row in `_met`
        self._met = self._question.met([])

    def read(self, ids: Sequence[int]) -> None:
        """Read those of these chunks that are not read yet."""
        texts = wordings(self._engine, [row for row in ids if row not in self._at])
        if not texts:
            return
        self._at |= {row: at for at, row in enumerate(texts, start=len(self._at))}
        found = self._question.met(list(texts.values()))
        self._met = Met(*(np.concatenate(both) for both in zip(self._met, found, strict=True)))

    def closeness(self, ids: Sequence[int]) -> dict[int, float]:
        """0..1, of those that are there, judged by all of them together."""
        self.read(ids)
        there = [row for row in ids if row in self._at]
        at = [self._at[row] for row in there]
        close = self._question.closeness(Met(self._met.counts[at], self._met.lengths[at]))
        return dict(zip(there, close.tolist(), strict=True))
