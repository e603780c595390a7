"""How closely texts follow a question's wording, character by character.

BM25 over runs of four characters, across words: an inflected form still shares most of its runs
(Russian, Arabic), and words in the question's order share those that span two. The texts are the
few candidates of one search and are read as they are, so this needs no index of its own.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.letters import END, Alphabet, Codes, spelled

RUN = 4  # characters (McNamee, Mayfield 2004: best for most European languages)
_K1, _B = 1.2, 0.75
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_TWICE = np.uint64(0x9E3779B97F4A7C15**2 % 2**64)
_SPREAD = np.uint32(0x9E3779B1)
_BUCKETS = 16  # bits


class Met(NamedTuple):
    """How often each text meets each run of a question, and how many runs each text has."""

    counts: NDArray[np.intp]  # (texts, runs)
    lengths: NDArray[np.intp]  # (texts,)


class Question:
    """A question's runs, sought in texts as they come; judged when all of them are there."""

    def __init__(self, text: str) -> None:
        codes = spelled([text])[:-1]
        self._runs, first, self._times = np.unique(_runs(codes), return_index=True, return_counts=True)
        self._long: _Sought | None = None  # made when a text asks for it
        self._alphabet: Alphabet | None = None
        with suppress(ValueError):  # of a question with hundreds of letters, texts are spelled out
            self._alphabet = Alphabet(codes)
            self._short = _Sought(_short_runs(self._alphabet.of(codes))[first])

    def met(self, texts: Sequence[str]) -> Met:
        """What these texts meet of the question."""
        if self._alphabet is None or not len(self._runs) or not texts:
            return self.spelled_out(texts)
        codes, odd = self._alphabet.spelled(texts)
        if len(odd) == len(texts):
            return self.spelled_out(texts)
        met = self._met(codes, *self._short.found(_short_runs(codes)))
        if not odd:
            return met
        parts = met, self.spelled_out([texts[at] for at in odd])
        back = np.argsort(np.append(np.delete(np.arange(len(texts)), odd), odd))
        return Met(*(np.concatenate(both)[back] for both in zip(*parts, strict=True)))

    def spelled_out(self, texts: Sequence[str]) -> Met:
        """The same, of texts in any letters, by their code points: slower."""
        if not len(self._runs) or not texts:
            none = np.zeros((len(texts), len(self._runs)), dtype=np.intp)
            return Met(none, np.ones(len(texts), dtype=np.intp))
        codes = spelled(texts)
        self._long = self._long or _Sought(self._runs)
        return self._met(codes, *self._long.found(_runs(codes)))

    def _met(self, codes: Codes, which: NDArray[np.intp], at: NDArray[np.intp]) -> Met:
        """Of the runs met, and where in the texts' codes."""
        ends, many = np.flatnonzero(codes == END), len(self._runs)
        of = np.repeat(np.arange(len(ends)), np.diff(np.searchsorted(at, ends), prepend=0))
        counts = np.bincount(of * many + which, minlength=len(ends) * many)
        return Met(counts.reshape(len(ends), many), np.maximum(1, np.diff(ends, prepend=-1) - RUN))

    def closeness(self, met: Met) -> NDArray[np.float64]:
        """Share of the question's runs, by weight, that each text meets: 0..1, shape (len(texts),).

        A run weighs its inverse document frequency among these texts, so what all of them share says little.
        """
        counts, lengths = met
        if not counts.size:
            return np.zeros(len(counts))
        having = np.count_nonzero(counts, axis=0)
        weights = self._times * np.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
        saturation = _K1 * (1 - _B + _B * lengths / lengths.mean())
        # A sum, not a product of matrices: BLAS would wake a team for a millisecond's work.
        parts = counts / (counts + saturation[:, None]) * (weights / weights.sum())
        return np.asarray(parts.sum(axis=1), dtype=np.float64)


def closeness(query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """`Question.closeness` of texts that are all there."""
    question = Question(query)
    return question.closeness(question.met(texts))


def _runs(codes: Codes) -> NDArray[np.uint64]:
    """A number for each run of characters; one that spans two texts is met by no question: it has a zero."""
    count = max(0, len(codes) - RUN + 1)
    pairs = codes[:-1] * _MIX + codes[1:]  # in 64 bits, as _MIX is
    return np.asarray(pairs[:count] * _MIX_TWICE + pairs[2 : 2 + count], dtype=np.uint64)


def _short_runs(codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The same of bytes, which are their own number."""
    count = max(0, len(codes) - RUN + 1)
    pairs = codes[:-1] * np.uint16(256) + codes[1:]
    return np.asarray(pairs[:count] * np.uint32(65536) + pairs[2 : 2 + count], dtype=np.uint32)


class _Sought:
    """Runs that are looked for: a table by some of their bits passes over nearly all others."""

    def __init__(self, runs: NDArray[np.uint64] | NDArray[np.uint32]) -> None:
        """`runs` differ from each other."""
        self._order = np.argsort(runs)
        self._runs, self._sorted = runs, runs[self._order]
        buckets = self._buckets(runs)
        self._table = np.zeros(1 << _BUCKETS, dtype=np.uint16)
        self._table[buckets] = np.arange(1, len(runs) + 1)
        self._alone = len(np.unique(buckets)) == len(runs)  # so a bucket says which run it can be only

    def found(
        self, runs: NDArray[np.uint64] | NDArray[np.uint32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which one is met, and where in `runs`, for each place where one is."""
        candidates = self._table.take(self._buckets(runs), mode="clip")
        places = np.flatnonzero(candidates != 0)  # of booleans it is four times as fast
        there = runs[places]
        if self._alone:
            which = candidates[places].astype(np.intp) - 1
        else:
            which = self._order[np.minimum(np.searchsorted(self._sorted, there), len(self._sorted) - 1)]
        same = self._runs[which] == there
        return which[same], places[same]

    @staticmethod
    def _buckets(runs: NDArray[np.uint64] | NDArray[np.uint32]) -> NDArray[np.intp]:
        if runs.dtype == np.uint32:
            return (runs * _SPREAD >> np.uint32(32 - _BUCKETS)).astype(np.intp)
        return (runs * _MIX >> np.uint64(64 - _BUCKETS)).view(np.intp)
