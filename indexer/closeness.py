"""How closely texts follow a question's wording, character by character.

BM25 over runs of four characters, across words: an inflected form still shares most of its runs
(Russian, Arabic), and words in the question's order share those that span two. The texts are the
few candidates of one search and are read as they are, so this needs no index of its own.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.words import CJK

RUN = 4  # characters (McNamee, Mayfield 2004: best for most European languages)
LONGEST = 4096  # characters of a question or a text that are read
_K1, _B = 1.2, 0.75
_SPACE, _END = 32, 0
_PLAIN = 0x20000  # characters from here on are Han, or none
_WORD, _HAN, _LONG = 1, 2, 3  # long: compatibility forms of several letters, as ligatures are
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_TWICE = np.uint64(0x9E3779B97F4A7C15**2 % 2**64)
_BUCKETS = 16  # bits

Codes = NDArray[np.uint32 | np.uint8]


class Met(NamedTuple):
    """How often each text meets each run of a question, and how many runs each text has."""

    counts: NDArray[np.intp]  # (texts, runs)
    lengths: NDArray[np.intp]  # (texts,)


class _Letters(NamedTuple):
    """What becomes of each character below `_PLAIN`; arrays by code point."""

    folded: Codes  # lower case, compatibility form; a space for what is in no word
    plain: bytes  # the same of those below 128, for `bytes.translate`
    kind: NDArray[np.uint8]  # 0 between words, _WORD, _HAN for scripts without spaces, or _LONG


class Question:
    """A question's runs, sought in texts as they come; judged when all of them are there."""

    def __init__(self, text: str) -> None:
        self._runs, self._times = np.unique(_runs(_spelled([text])[:-1]), return_counts=True)

    def met(self, texts: Sequence[str]) -> Met:
        """What these texts meet of the question."""
        plain = [text.isascii() for text in texts]
        if any(plain) and not all(plain):  # apart, for they cost a fraction of the others
            parts = [self._met([text for text, one in zip(texts, plain, strict=True) if one is kind])
                     for kind in (True, False)]  # fmt: skip
            back = np.argsort(np.argsort(np.logical_not(plain), kind="stable"))
            return Met(*(np.concatenate(both)[back] for both in zip(*parts, strict=True)))
        return self._met(texts)

    def _met(self, texts: Sequence[str]) -> Met:
        many = len(self._runs)
        if not many or not texts:
            return Met(np.zeros((len(texts), many), dtype=np.intp), np.ones(len(texts), dtype=np.intp))
        spelled = _spelled(texts)
        ends = np.flatnonzero(spelled == _END)
        met, at = _found(_runs(spelled), self._runs)
        of = np.repeat(np.arange(len(texts)), np.diff(np.searchsorted(at, ends), prepend=0))
        counts = np.bincount(of * many + met, minlength=len(texts) * many)
        return Met(counts.reshape(len(texts), many), np.maximum(1, np.diff(ends, prepend=-1) - RUN))

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


def _spelled(texts: Sequence[str]) -> Codes:
    """Code points, folded; one space between words and around each Han character; a zero ends a text.

    A character is folded alone: NFKC over all of a Chinese text takes longer than the search.
    """
    line = "".join([f" {text[:LONGEST]} \0" if "\0" not in text else _without_ends(text) for text in texts])
    letters = _letters()
    if line.isascii():
        codes: Codes = np.frombuffer(line.encode().translate(letters.plain), dtype=np.uint8)
    else:
        line = unicodedata.normalize("NFC", line)
        codes = _codes(line)
        low = np.minimum(codes, _PLAIN - 1)
        kind = letters.kind[low]
        if (kind == _LONG).any():
            for letter in {chr(code) for code in np.unique(codes[kind == _LONG])}:
                line = line.replace(letter, unicodedata.normalize("NFKC", letter))
            codes = _codes(line)
            low = np.minimum(codes, _PLAIN - 1)
            kind = letters.kind[low]
        codes = np.where(codes < _PLAIN, letters.folded[low], codes)
        han = kind == _HAN
        if han.any():
            room = np.where(han, 3, 1)
            wide = np.full(room.sum(), _SPACE, dtype=np.uint32)
            wide[np.cumsum(room) - room + han] = codes
            codes = wide
    gap = codes == _SPACE
    gap[1:] &= gap[:-1]
    gap[:1] = False
    return np.compress(~gap, codes)


def _without_ends(text: str) -> str:
    return f" {text[:LONGEST]} ".replace("\0", " ") + "\0"


def _runs(codes: Codes) -> NDArray[np.uint64]:
    """A number for each run of characters; one that spans two texts is met by no question: it has a zero."""
    count = max(0, len(codes) - RUN + 1)
    pairs = codes[:-1] * _MIX + codes[1:]  # in 64 bits, as _MIX is
    return np.asarray(pairs[:count] * _MIX_TWICE + pairs[2 : 2 + count], dtype=np.uint64)


def _found(runs: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of the sorted `wanted` is met, and where in `runs`, for each place where one is."""
    # A table by leading bits passes over nearly all places, and says which one the others can be only;
    # where two share a bucket, a search says it.
    shift = np.uint64(64 - _BUCKETS)
    buckets = wanted * _MIX >> shift
    table = np.zeros(1 << _BUCKETS, dtype=np.uint16)
    table[buckets] = np.arange(1, len(wanted) + 1)
    candidates = table[(runs * _MIX >> shift).view(np.int64)]
    places = np.flatnonzero(candidates != 0)
    if len(np.unique(buckets)) == len(wanted):
        which = candidates[places].astype(np.intp) - 1
    else:
        which = np.minimum(np.searchsorted(wanted, runs[places]), len(wanted) - 1)
    same = wanted[which] == runs[places]
    return which[same], places[same]


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@cache
def _letters() -> _Letters:
    forms = [unicodedata.normalize("NFKC", chr(code)) for code in range(_PLAIN)]
    words = np.array([form[0].isalnum() for form in forms])
    first = np.array([ord(form[0].lower()[0]) for form in forms], dtype=np.uint32)
    long = np.array([len(form) > 1 and any(map(str.isalnum, form)) for form in forms])
    han = re.compile(f"[{CJK}]").match
    kind = words.astype(np.uint8)
    kind[[code for code, form in enumerate(forms) if words[code] and han(form)]] = _HAN
    kind[long] = _LONG
    kind[-1] = _HAN  # the last one is no character: it stands for all beyond
    folded = np.where(words, first, np.uint32(_SPACE))
    folded[_END] = _END
    return _Letters(folded, bytes(folded[:128].astype(np.uint8)) + bytes(128), kind)
