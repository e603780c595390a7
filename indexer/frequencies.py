"""How often the commonest terms stand in each text of a keyword index: a table beside the index.

tantivy's binding scores every text that has any of a question's terms, and half of the texts have "of". With
the table it is asked for the rarer terms alone; what the common ones add is read for the texts that could
still be among the best. The sums are BM25 as tantivy computes it, in 32 bits.
"""

import itertools
import json
import math
import mmap
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from indexer.seams import Ids

TABLE, ABOUT = "frequencies.rows", "frequencies.json"
COMMON = 8  # a term is common if it stands in one text of so many
LEAST = 32_768  # texts of an index that has a table: fewer are searched in half a millisecond
_MOST_TERMS = 48  # of a table, the most frequent
_MOST_TIMES = 255  # that a term of a table stands in one text
_LONGEST = 60_000  # bytes of a term; tantivy leaves out those beyond 65,530
_ROWS = 4096  # texts counted at once
_SHARE = 0.035  # of what all terms weigh: the most that those left to the table may add
# Texts asked for, times those wanted: DEEP · exp(DEEPER · what the terms left to the table may add), so many
# nearly always tell which are the best; AGAIN as many if not. Measured on a million texts of 90 words.
_DEEP, _DEEPER, _AGAIN = 1.5, 0.5, 3
# Texts that a question must spare tantivy (4 ns each), for the use of the table and each text asked for.
_SPARED, _SPARED_EACH = 40_000, 150
_ROUNDED = 1 + 1e-5  # sums of 32 bits

Floats = NDArray[np.float32]
Found = list[tuple[float, Any]]  # (score, an address that its index understands), best first
_K1, _B = np.float32(1.2), np.float32(0.75)  # as tantivy has them


def worth_it(texts: int) -> bool:
    """Whether an index of so many gets a table."""
    return texts >= LEAST


class Counted:
    """The terms of texts as they come, for the table at the end."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        self._terms, self._lengths = array("i"), array("i")

    def add(self, terms: Sequence[str]) -> None:
        """The terms of one text more."""
        self._lengths.append(len(terms))
        self._terms.extend([self._numbers[term] for term in terms])

    def write(self, folder: Path, ids: Ids) -> None:
        """The table of the texts so far, whose ids these are; nothing if they share no terms."""
        texts = len(self._lengths)
        if len(np.unique(ids)) < texts:
            return
        if any(len(term.encode()) > _LONGEST for term in self._numbers):
            return
        flat, lengths = np.array(self._terms), np.array(self._lengths)
        total = np.bincount(flat, minlength=1)
        often = np.argsort(-total, kind="stable")[:_MOST_TERMS]
        often = often[total[often] * COMMON >= texts]
        column = np.full(len(total), -1)
        column[often] = np.arange(len(often))
        times = _times(column[flat], lengths, len(often))
        common = (np.count_nonzero(times, axis=0) * COMMON >= texts) & (times.max(axis=0) <= _MOST_TIMES)
        if not common.any():
            return
        names = list(self._numbers)
        rows = np.zeros(texts, _row(int(common.sum())))
        rows["id"], rows["length"] = ids, np.searchsorted(_LENGTHS, lengths, side="right") - 1
        rows["times"] = times[:, common]
        rows = rows[np.argsort(rows["id"], kind="stable")]
        peaks = _parts(rows["times"], _norms(len(flat), texts)[rows["length"]]).max(axis=0)
        (folder / TABLE).write_bytes(rows.tobytes())
        about = {
            "terms": [names[at] for at in often[common].tolist()],
            "peaks": peaks.tolist(),
            "tokens": len(flat),
        }
        (folder / ABOUT).write_text(json.dumps(about))


class Weighed(NamedTuple):
    """Common terms of a question, and the most they can add to the score of a text."""

    terms: dict[str, float]  # idf · (k1 + 1), each times what the question gives it
    most: float
    deep: int  # texts to be asked for by the other terms


def discard(folder: Path) -> None:
    """Remove the table: the index is about to have other texts."""
    for name in (ABOUT, TABLE):  # in this order: without the first there is none
        (folder / name).unlink(missing_ok=True)


class Frequencies:
    """The table, open."""

    def __init__(self, rows: NDArray[np.void], about: Mapping[str, Any]) -> None:
        """Of `rows` as they were written."""
        self._size = len(rows)
        self._bytes = rows.view(np.uint8).reshape(len(rows), -1)  # to pick rows of: records are slow
        self._ids = np.ascontiguousarray(rows["id"])
        self._column = {term: at for at, term in enumerate(about["terms"])}
        self._peaks: list[float] = about["peaks"]
        self._norms = _norms(about["tokens"], len(rows))

    @classmethod
    def opened(cls, folder: Path) -> Self | None:
        """That of the index in the folder, if it has one; raises `ValueError`, `KeyError` and `OSError`."""
        if not (folder / ABOUT).exists():
            return None
        about = json.loads((folder / ABOUT).read_text())
        with (folder / TABLE).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(np.frombuffer(mapped, _row(len(about["terms"]))), about)

    def spared(self, asked: Mapping[str, tuple[float, int]], top: int) -> Weighed | None:
        """Terms to leave out of a question for the best `top`; None where it would not be the faster for it.

        `asked` has of each term what multiplies its own BM25, and how many texts have it.
        """
        known = [term for term in asked if term in self._column]
        if sum(asked[term][1] for term in known) < _SPARED + _SPARED_EACH * _DEEP * top:
            return None
        own = {term: _weight(texts, self._size, times) for term, (times, texts) in asked.items()}
        total = sum(own.values())
        chosen, most, spared = {}, 0.0, 0
        for term in sorted(known, key=lambda term: (-asked[term][1], term)):
            peak = own[term] * self._peaks[self._column[term]]
            if most + peak > _SHARE * total:
                break
            chosen[term] = own[term]
            most, spared = most + peak, spared + asked[term][1]
        deep = math.ceil(_DEEP * math.exp(_DEEPER * most) * top)
        if spared < _SPARED + _SPARED_EACH * deep or len(chosen) == len(asked):
            return None
        return Weighed(chosen, most, deep)

    def best(
        self,
        common: Weighed,
        top: int,
        search: Callable[[int], Found],
        named: Callable[[Found], Sequence[int]],
    ) -> Found | None:
        """The best `top` texts of the index, equal ones by id; None if it cannot be told which they are.

        `search` finds so many by the rarer terms alone, `named` their ids. A text that is not among those
        has at most what the last of them has of the rarer terms, and of the common ones `common.most`.
        """
        for wanted in (common.deep, _AGAIN * common.deep):
            hits = search(min(wanted, self._size))  # tantivy makes room for as many
            if len(hits) < top:
                return None
            rows = np.array(named(hits), dtype=np.int64)
            scores = np.array([score for score, _ in hits], np.float32) + self.added(common, rows)
            first = np.lexsort((rows, -scores))[:top]
            rest = hits[-1][0] if len(hits) == wanted else 0.0
            if scores[first[-1]] > (rest + common.most) * _ROUNDED:
                return [(float(scores[at]), hits[at][1]) for at in first.tolist()]
            if len(hits) < wanted:
                return None
        return None

    def added(self, weighed: Weighed, ids: Ids) -> Floats:
        """What the terms add to the score of each of these texts, which are all in the table."""
        rows = self._bytes.take(self._places(ids), axis=0)
        columns = [_BEFORE + self._column[term] for term in weighed.terms]
        parts = _parts(rows[:, columns], self._norms[rows[:, _LENGTH]])
        total = np.zeros(len(ids), np.float32)
        for weight, part in zip(weighed.terms.values(), parts.T, strict=True):  # in one order for every text
            total += np.float32(weight) * part
        return total

    def _places(self, ids: Ids) -> Ids:
        """The rows of texts with these ids."""
        first = self._ids[0]
        if self._ids[-1] - first + 1 == self._size:  # none is missing
            return np.asarray(ids - first)
        return np.searchsorted(self._ids, ids)


_LENGTH, _BEFORE = 8, 9  # where the length's code is in the bytes of a row, and where the times begin


def _row(terms: int) -> np.dtype[np.void]:
    return np.dtype([("id", "<i8"), ("length", "u1"), ("times", "u1", (terms,))])


def _times(columns: NDArray[np.int64], lengths: NDArray[np.int32], terms: int) -> NDArray[np.uint16]:
    """How often each of the `terms` stands in each text, as far as is told; columns of -1 are of others."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    counts = []
    for start in range(0, len(lengths), _ROWS):
        some = lengths[start : start + _ROWS]
        at = columns[ends[start] : ends[start + len(some)]]
        cells = np.repeat(np.arange(len(some)), some) * terms + at
        found = np.bincount(cells[at >= 0], minlength=len(some) * terms).reshape(len(some), terms)
        counts.append(np.minimum(found, _MOST_TIMES + 1).astype(np.uint16))
    return np.concatenate(counts)


def _parts(times: NDArray[Any], norms: Floats) -> Floats:
    """f / (f + norm) of each text and term."""
    often = times.astype(np.float32)
    return np.asarray(often / (often + norms[:, None]), np.float32)


def _norms(tokens: int, texts: int) -> Floats:
    """k1 · (1 - b + b · length / average) for each code of a length."""
    average = np.float32(tokens) / np.float32(texts)
    return _K1 * (np.float32(1) - _B + _B * _LENGTHS.astype(np.float32) / average)


@lru_cache(65_536)
def _weight(texts: int, size: int, times: float) -> float:
    odds = (np.float32(size - texts) + np.float32(0.5)) / (np.float32(texts) + np.float32(0.5))
    idf = np.float32(math.log(np.float32(1) + odds))
    return float(np.float32(idf * (np.float32(1) + _K1) * np.float32(times)))


def _lengths() -> NDArray[np.int64]:
    """The lengths that tantivy tells apart: all up to 24, then with four bits (Lucene's `SmallFloat`)."""
    found = list(range(24))
    for code in range(256 - 24):
        bits, shift = code & 7, (code >> 3) - 1
        found.append(24 + (bits if shift < 0 else (bits | 8) << shift))
    return np.array(found, np.int64)


_LENGTHS = _lengths()
