"""Texts of like length together: a batch costs its longest text times its size."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from indexer.seams import Ids, Vectors


class Replica(Protocol):
    """A model on one device, for one thread at a time."""

    @property
    def device(self) -> str:
        """As torch names it."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included, that this device takes best."""
        ...

    def embed(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Vectors:
        """Unit rows of passages; `tokens` are theirs, special ones included, cut to the window."""
        ...

    def query(self, text: str, tokens: Sequence[int]) -> Vectors:
        """One unit vector."""
        ...


def batched(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of the lengths, longest first, in groups whose size times longest is at most `budget`.

    A text longer than the budget is a group of its own.
    """
    groups: list[list[int]] = []
    room = 0
    for at in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if room < 1:
            groups.append([])
            room = max(1, budget // max(1, lengths[at]))
        groups[-1].append(at)
        room -= 1
    return groups


def padded(tokens: Sequence[Sequence[int]], padding: int) -> tuple[Ids, Ids]:
    """Ids and mask, both of shape (texts, longest)."""
    shape = len(tokens), max(map(len, tokens))
    ids, mask = np.full(shape, padding, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, some in enumerate(tokens):
        ids[row, : len(some)] = some
        mask[row, : len(some)] = 1
    return ids, mask
