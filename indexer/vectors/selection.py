"""Which rows of a segment a search may return: tombstones and filters as positions."""

import numpy as np
from numpy.typing import NDArray

from indexer.seams import Ids

Chosen = NDArray[np.bool_] | NDArray[np.int64] | None
"""Rows that may be found: all (None), a mask over the rows, or few of them as sorted positions."""

NONE: Ids = np.empty(0, dtype=np.int64)
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
