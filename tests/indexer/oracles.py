"""The same seams by brute force: what FAISS and tantivy are compared with."""

import math
from collections import Counter

import numpy as np

from indexer.keywords import terms
from indexer.records import Ranked


class NumpyVectors:
    """A `VectorIndex` as a dictionary of rows."""

    def __init__(self) -> None:
        self.rows = {}

    def add(self, ids, vectors):
        self.rows.update(zip(ids.tolist(), vectors, strict=True))

    def remove(self, ids):
        for row in ids.tolist():
            self.rows.pop(row, None)

    def nearest(self, vector, top):
        pairs = sorted((-float(row @ vector), name) for name, row in self.rows.items())[:top]
        return Ranked(tuple(name for _, name in pairs), tuple(-score for score, _ in pairs))


class NaiveKeywords:
    """A `KeywordIndex` that evaluates the BM25 formula, k1 = 1.2, b = 0.75."""

    def __init__(self) -> None:
        self.texts = {}

    def add(self, ids, texts):
        self.texts.update(zip(ids.tolist(), map(terms, texts), strict=True))

    def remove(self, ids):
        for row in ids.tolist():
            self.texts.pop(row, None)

    def match(self, query, top, allowed=None):
        average = np.mean([len(text) for text in self.texts.values()]) if self.texts else 0.0
        scored = []
        for row, text in self.texts.items():
            times = Counter(text)
            score = sum(
                wanted * self._idf(term) * times[term] * 2.2
                / (times[term] + 1.2 * (0.25 + 0.75 * len(text) / average))
                for term, wanted in Counter(terms(query)).items()
                if times[term]
            )  # fmt: skip
            if score > 0 and (allowed is None or row in allowed):
                scored.append((-score, row))
        scored.sort()
        return Ranked(tuple(row for _, row in scored[:top]), tuple(-score for score, _ in scored[:top]))

    def _idf(self, term):
        many = sum(term in text for text in self.texts.values())
        return math.log(1 + (len(self.texts) - many + 0.5) / (many + 0.5))
