"""Texts of alike length go together, so that little of a batch is padding; the seed decides the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.records import Batch

Lengths = NDArray[np.int64]
WIDTH = (
    32  # rows are padded to a multiple: few shapes, or a card's allocator asks for new memory at every step
)
_POOL = 50  # batches are sorted by length within so many of them, and mixed otherwise


def batches(
    rows: Sequence[Sequence[int]], batch_tokens: int, pad_id: int, *, batch_texts: int = 4096
) -> Iterator[Batch]:
    """Every row once, longest first (a memory too small shows at once)."""
    lengths = np.array([len(row) for row in rows])
    for at in plan(lengths, batch_tokens, batch_texts, None):
        yield padded([rows[one] for one in at], pad_id, at)


def plan(lengths: Lengths, batch_tokens: int, batch_texts: int, seed: int | None) -> list[tuple[int, ...]]:
    """Which rows go together; `lengths` in tokens, shape (rows,). Every row once.

    A batch holds at most `batch_texts` rows, as many as fit in `batch_tokens` when padded to its longest, and
    one at least. With a seed in random order, without one from long to short.
    """
    if seed is None:
        return _cut(np.argsort(-lengths, kind="stable"), lengths, batch_tokens, batch_texts)
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(lengths))
    per_batch = min(batch_texts, batch_tokens / max(1.0, float(lengths.mean())))
    pool = max(1, int(_POOL * per_batch))
    cut: list[tuple[int, ...]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        longest_first = part[np.argsort(-lengths[part], kind="stable")]
        cut += _cut(longest_first, lengths, batch_tokens, batch_texts)
    return [cut[at] for at in draw.permutation(len(cut))]


def padded(rows: Sequence[Sequence[int]], pad_id: int, at: tuple[int, ...]) -> Batch:
    longest = width(max(len(row) for row in rows))
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), at)


def width(tokens: int) -> int:
    """What a row of so many tokens is padded to, in a batch whose longest it is."""
    return -(-tokens // WIDTH) * WIDTH if tokens > 1 else tokens


def _cut(order: Lengths, lengths: Lengths, batch_tokens: int, batch_texts: int) -> list[tuple[int, ...]]:
    """`order` runs from long to short, so the first of a batch is its longest."""
    cut: list[tuple[int, ...]] = []
    start = 0
    while start < len(order):
        longest = width(max(1, int(lengths[order[start]])))
        count = max(1, min(batch_texts, batch_tokens // longest))
        cut.append(tuple(int(one) for one in order[start : start + count]))
        start += count
    return cut
