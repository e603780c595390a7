"""The exact scan: every chosen row against every query, straight from the rows' memory.

A row is 32 or 16 bits a number and stays where it is, mapped or not: faiss is given its address.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.seams import Vectors
from indexer.vectors.selection import Chosen

Rows = NDArray[np.float32 | np.float16]  # shape (n, dimension), contiguous
APART = 4  # queries that are cheaper one by one than as a matrix product
BLOCK = 8192  # rows that are widened or picked out at a time: 12 MiB of 384 numbers

_faiss: Any = faiss  # its stubs do not know the functions that take addresses


class Best(NamedTuple):
    """Per query, best first; where there are too few, position -1."""

    scores: NDArray[np.float32]  # (queries, top)
    positions: NDArray[np.int64]


class Whole(NamedTuple):
    """Several indexes of a card in one."""

    index: Any
    copied_bytes: int  # that it takes of the card beside them; 0: it asks them


def scan(rows: Rows, queries: Vectors, top: int, chosen: Chosen = None) -> Best:
    """The best `top` chosen rows for each of `queries`, shape (q, dimension); on the calling thread."""
    faiss.omp_set_num_threads(1)  # the setting is the calling thread's own
    if chosen is not None and chosen.dtype != np.bool_:
        return _picked(rows, queries, top, np.asarray(chosen, dtype=np.int64))
    if len(queries) < APART:
        one = _one_half if rows.dtype == np.float16 else _one
        if len(queries) == 1:
            return one(rows, queries, top, chosen)
        found = [one(rows, query[None, :], top, chosen) for query in queries]
        return Best(np.concatenate([best.scores for best in found]),
                    np.concatenate([best.positions for best in found]))  # fmt: skip
    return _blocks(rows, queries, top, chosen)


def widen(rows: Rows) -> Vectors:
    """Contiguous rows in 32 bits; the same array if they are."""
    if rows.dtype == np.float32:
        return np.asarray(rows, dtype=np.float32)
    wide = np.empty(rows.shape, dtype=np.float32)
    if len(rows):  # numpy converts a number at a time, faiss sixteen
        _halves(rows.shape[1]).decode_c(_bytes(rows), _faiss.swig_ptr(wide), len(rows))
    return wide


def merged(parts: list[Best], top: int) -> Best:
    """The best `top` of several answers to the same queries."""
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([part.scores for part in parts], axis=1)
    positions = np.concatenate([part.positions for part in parts], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return Best(np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1))


def counted_on(found: Sequence[Best], rows: Sequence[int], top: int) -> Best:
    """Answers of several indexes as one of them all, positions counting on from each to the next."""
    starts = itertools.accumulate(rows, initial=0)
    moved = [
        Best(best.scores, np.where(best.positions < 0, -1, best.positions + start))
        for best, start in zip(found, starts, strict=False)
    ]
    return merged(moved, top)


def _empty(queries: int, top: int) -> Best:
    return Best(np.full((queries, top), -np.inf, np.float32), np.full((queries, top), -1, np.int64))


def _product(rows: Vectors, queries: Vectors, top: int, selector: Any = None) -> Best:
    best = Best(np.empty((len(queries), top), np.float32), np.empty((len(queries), top), np.int64))
    _faiss.knn_inner_product(
        _faiss.swig_ptr(queries),
        _faiss.swig_ptr(rows),
        rows.shape[1],
        len(queries),
        len(rows),
        top,
        _faiss.swig_ptr(best.scores),
        _faiss.swig_ptr(best.positions),
        selector,
    )
    return best


def _one(rows: Rows, query: Vectors, top: int, mask: Chosen) -> Best:
    bits, selector = _selector(mask)
    best = _product(np.asarray(rows, dtype=np.float32), query, top, selector)
    del bits  # the selector reads them until here
    return best


def _one_half(rows: Rows, query: Vectors, top: int, mask: Chosen) -> Best:
    bits, selector = _selector(mask)
    quantizer = _halves(rows.shape[1])
    scanner = quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, True, selector, False)
    scanner.set_query(_faiss.swig_ptr(query))
    scanner.set_list(0, 0.0)  # its answers are list << 32 | position
    best = _empty(1, top)  # a heap whose worst entry is first
    scores, positions = _faiss.swig_ptr(best.scores), _faiss.swig_ptr(best.positions)
    scanner.scan_codes(len(rows), _bytes(rows), None, scores, positions, top)
    del bits
    order = np.lexsort((best.positions[0], -best.scores[0]))
    return Best(best.scores[:, order], best.positions[:, order])


def _picked(rows: Rows, queries: Vectors, top: int, at: NDArray[np.int64]) -> Best:
    if rows.dtype == np.float32 and len(queries) < APART:  # read where they stand
        selector = _faiss.IDSelectorArray(len(at), _faiss.swig_ptr(at))
        return _product(np.asarray(rows, dtype=np.float32), queries, top, selector)
    parts = [_empty(len(queries), top)]
    for start in range(0, len(at), BLOCK):
        some = at[start : start + BLOCK]
        parts = [merged([*parts, _back(scan(rows.take(some, axis=0), queries, top), some)], top)]
    return parts[0]


def _blocks(rows: Rows, queries: Vectors, top: int, mask: Chosen) -> Best:
    """A matrix product per block with numpy's BLAS, all cores: twice to three times faiss's own."""
    best = _empty(len(queries), top)
    for start in range(0, len(rows), BLOCK):
        some = np.arange(start, min(start + BLOCK, len(rows)))
        block = rows[start : start + BLOCK]
        if mask is not None:
            some = some[mask[start : start + BLOCK]]
            if not len(some):
                continue
            block = rows[some]
        scores = queries @ widen(block).T
        entering = np.flatnonzero((scores > best.scores[:, -1:]).any(axis=1))
        if not len(entering):
            continue
        scores = scores[entering]
        if top < scores.shape[1]:
            kept = np.argpartition(scores, -top, axis=1)[:, -top:]
            found = Best(np.take_along_axis(scores, kept, 1), some[kept])
        else:
            found = Best(scores, np.broadcast_to(some, scores.shape))
        before = Best(best.scores[entering], best.positions[entering])
        best.scores[entering], best.positions[entering] = merged([before, found], top)
    return best


def _back(best: Best, at: NDArray[np.int64]) -> Best:
    """Positions among picked rows -> positions among all."""
    return Best(best.scores, np.where(best.positions < 0, -1, at[best.positions]))


def _selector(mask: Chosen) -> tuple[NDArray[np.uint8] | None, Any]:
    if mask is None:
        return None, None
    bits = np.packbits(mask, bitorder="little")
    return bits, _faiss.IDSelectorBitmap(len(bits), _faiss.swig_ptr(bits))


def _halves(dimension: int) -> Any:
    return _faiss.ScalarQuantizer(dimension, _faiss.ScalarQuantizer.QT_fp16)


def _bytes(rows: Rows) -> Any:
    return _faiss.swig_ptr(rows.view(np.uint8).reshape(-1))
