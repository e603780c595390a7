"""Which rows of a segment a search may return: tombstones and filters as positions."""

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.seams import Ids

Chosen = NDArray[np.bool_] | NDArray[np.int64] | None
"""Rows that may be found: all (None), a mask over the rows, or few of them as sorted positions."""

NONE: Ids = np.empty(0, dtype=np.int64)
MANY = 16_384  # rows of a segment from which on a choice is worth remembering
REMEMBERED_BYTES = 64 * 2**20  # of choices and what they were made of, in the whole process
SPARSE = 16  # below one row in so many, rows are visited one by one instead of passing all by


def chosen(ids: Ids, hidden: Ids, allowed: Ids | None) -> Chosen:
    """The rows of sorted `ids` that are in sorted `allowed` (None: all) and not in sorted `hidden`."""
    if allowed is None:
        gone = positions(ids, hidden)
        if not len(gone):
            return None
        mask = np.ones(len(ids), dtype=np.bool_)
    else:
        at = positions(ids, allowed)
        if len(at) * SPARSE < len(ids):
            gone = positions(ids[at], hidden)
            return np.delete(at, gone) if len(gone) else at
        gone = positions(ids, hidden)
        mask = np.zeros(len(ids), dtype=np.bool_)
        mask[at] = True
    mask[gone] = False
    return mask


def positions(ids: Ids, wanted: Ids) -> Ids:
    """Where in sorted, unique `ids` the sorted `wanted` stand, those that are there; increasing."""
    if not len(ids) or not len(wanted):
        return NONE
    first, last = ids[0], ids[-1]
    low, high = np.searchsorted(wanted, (first, last + 1))
    wanted = wanted[low:high]
    if last - first + 1 == len(ids):  # as ingest hands them out: no gaps
        return np.asarray(wanted - first)
    at = np.searchsorted(ids, wanted)
    return np.asarray(at[ids[at] == wanted])


def count(selected: Chosen, rows: int) -> int:
    """How many of `rows` rows are chosen."""
    if selected is None:
        return rows
    return int(np.count_nonzero(selected)) if selected.dtype == np.bool_ else len(selected)


def masked(selected: Chosen, rows: int) -> NDArray[np.bool_]:
    """The choice as a mask over all rows."""
    if selected is None:
        return np.ones(rows, dtype=np.bool_)
    if selected.dtype == np.bool_:
        return np.asarray(selected, dtype=np.bool_)
    mask = np.zeros(rows, dtype=np.bool_)
    mask[selected] = True
    return mask


def part(selected: Chosen, start: int, stop: int) -> Chosen:
    """The choice among rows `start` to `stop`, counted from `start`."""
    if selected is None or selected.dtype == np.bool_:
        return None if selected is None else selected[start:stop]
    low, high = np.searchsorted(selected, (start, stop))
    return selected[low:high] - start


class Selected(NamedTuple):
    """Rows that may be found, and how many they are."""

    rows: Chosen
    some: int


class Remembered:
    """Choices by the arrays that they were made of: who asks again with the same filter has the same arrays.

    Filters and tombstones stay the same arrays while nothing is published (indexer/attributes.py). An entry
    keeps its arrays alive, so that no other array can take the place of one. Least used ones go first.
    """

    def __init__(self, most_bytes: int = REMEMBERED_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[int, ...], tuple[Selected, tuple[Ids | None, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def selected(self, ids: Ids, hidden: Ids, allowed: Ids | None) -> Selected:
        """`chosen` of the same arrays, none of which may change; nor may what is returned."""
        if len(ids) < MANY or (allowed is None and not len(hidden)):
            return _selected(ids, hidden, allowed)
        name = (id(ids), id(hidden), id(allowed))
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name][0]
        made = _selected(ids, hidden, allowed)
        with self._lock:
            if name not in self._known:
                self._known[name] = made, (ids, hidden, allowed)
                self._bytes += _size(made, hidden, allowed)
            while self._bytes > self._most:
                _, (gone, (_, *others)) = self._known.popitem(last=False)
                self._bytes -= _size(gone, *others)
        return made


def _selected(ids: Ids, hidden: Ids, allowed: Ids | None) -> Selected:
    rows = chosen(ids, hidden, allowed)
    return Selected(rows, count(rows, len(ids)))


def _size(selected: Selected, *others: Ids | None) -> int:
    """Bytes; a segment's own ids live as long as it does."""
    return sum(array.nbytes for array in (selected.rows, *others) if array is not None)
