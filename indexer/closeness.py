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
_WORD, _HAN = 1, 2
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BUCKETS = 16  # bits

Codes = NDArray[np.uint32]


class _Letters(NamedTuple):
    """What becomes of each character below `_PLAIN`; arrays by code point."""

    folded: Codes  # lower case, compatibility form; a space for what is in no word
    kind: NDArray[np.uint8]  # 0 between words, _WORD, or _HAN for scripts without spaces
    long: NDArray[np.bool_]  # compatibility forms of several letters, as ligatures are


def closeness(query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """Share of the question's runs, by weight, that each text meets: 0..1, shape (len(texts),).

    A run weighs its inverse document frequency among these texts, so what all of them share says little.
    """
    runs, wanted = np.unique(_runs(_spelled([query])[:-1]), return_counts=True)
    if not len(runs) or not texts:
        return np.zeros(len(texts))
    spelled = _spelled(texts)
    ends = spelled == _END
    met, at = _found(_runs(spelled), runs)
    of = np.cumsum(ends)[at]
    counts = np.bincount(of * len(runs) + met, minlength=len(texts) * len(runs))
    counts = counts.reshape(len(texts), len(runs))
    lengths = np.maximum(1, np.diff(np.flatnonzero(ends), prepend=-1) - RUN)
    having = np.count_nonzero(counts, axis=0)
    weights = wanted * np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
    saturation = _K1 * (1 - _B + _B * lengths / lengths.mean())
    # A sum, not a product of matrices: BLAS would wake a team for a millisecond's work.
    parts = counts / (counts + saturation[:, None]) * (weights / weights.sum())
    return np.asarray(parts.sum(axis=1), dtype=np.float64)


def _spelled(texts: Sequence[str]) -> Codes:
    """Code points, folded; one space between words and around each Han character; a zero ends a text.

    A character is folded alone: NFKC over all of a Chinese text takes longer than the search.
    """
    parts = (text[:LONGEST].replace("\0", " ") for text in texts)
    line = unicodedata.normalize("NFC", "".join(f" {part} \0" for part in parts))
    letters = _letters()
    codes = _codes(line)
    long = {chr(code) for code in np.unique(codes[letters.long[np.minimum(codes, _PLAIN - 1)]])}
    for letter in long:
        line = line.replace(letter, unicodedata.normalize("NFKC", letter))
    if long:
        codes = _codes(line)
    low = np.minimum(codes, _PLAIN - 1)
    codes = np.where(codes < _PLAIN, letters.folded[low], codes)
    han = letters.kind[low] == _HAN
    if han.any():
        room = np.where(han, 3, 1)
        wide = np.full(room.sum(), _SPACE, dtype=np.uint32)
        wide[np.cumsum(room) - room + han] = codes
        codes = wide
    gap = codes == _SPACE
    gap[1:] &= gap[:-1]
    gap[:1] = False
    return np.asarray(codes[~gap], dtype=np.uint32)


def _runs(codes: Codes) -> NDArray[np.uint64]:
    """A number for each run of characters; one that spans two texts is met by no question: it has a zero."""
    count = max(0, len(codes) - RUN + 1)
    wide = codes.astype(np.uint64)
    runs = np.zeros(count, dtype=np.uint64)
    for at in range(RUN):
        runs = runs * _MIX + wide[at : at + count]
    return runs


def _found(runs: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of the sorted `wanted` is met, and where in `runs`, for each place where one is."""
    # A table of leading bits passes over nearly all places; a binary search settles the rest.
    shift = np.uint64(64 - _BUCKETS)
    table = np.zeros(1 << _BUCKETS, dtype=np.bool_)
    table[wanted * _MIX >> shift] = True
    places = np.flatnonzero(table[runs * _MIX >> shift])
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
    kind[-1] = _HAN  # the last one is no character: it stands for all beyond
    folded = np.where(words, first, np.uint32(_SPACE))
    folded[_END] = _END
    return _Letters(folded, kind, long)
