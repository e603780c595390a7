"""BM25 over a pool's inputs: nearness by shared words, where no embedder is at hand or wanted."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SATURATION = 1.5  # k1: how soon a repeated word stops counting
LENGTH = 0.75  # b: how far long texts are held against their length
WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Lower-case words of the text in Unicode's compatibility form."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


class Bm25:
    """The texts' words, counted once."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words_of(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        mean = float(lengths.mean()) if len(lengths) and lengths.any() else 1.0
        self._rows = len(texts)
        self._postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        places: dict[str, list[int]] = {}
        for at, count in enumerate(counts):
            for word in count:
                places.setdefault(word, []).append(at)
        for word, rows in places.items():
            often = np.array([counts[at][word] for at in rows], dtype=np.float64)
            held = SATURATION * (1 - LENGTH + LENGTH * lengths[rows] / mean)
            idf = math.log(1 + (self._rows - len(rows) + 0.5) / (len(rows) + 0.5))
            self._postings[word] = np.array(rows), idf * often * (SATURATION + 1) / (often + held)

    def scores(self, question: str) -> NDArray[np.float32]:
        """Σ_t idf_t f_t (k1+1) / (f_t + k1 (1−b+b len/avg)) over the question's different words, shape (n,).

        idf_t = ln(1 + (n−df+0.5)/(df+0.5)): Robertson & Zaragoza 2009, never negative.
        """
        scores = np.zeros(self._rows)
        for word in sorted(set(words_of(question))):
            if word in self._postings:
                rows, worth = self._postings[word]
                scores[rows] += worth
        return scores.astype(np.float32)
