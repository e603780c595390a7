"""Which worked examples to show, and in which order. Every strategy is a function of its arguments.

Each strategy ranks candidate rows best first; the guards of `take` then apply to all of them alike. Ties
break by demo id.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from prompts.records import Demo, Order


def in_order(demos: Sequence[Demo]) -> list[int]:
    """`fixed`: as the pool lists them."""
    return list(range(len(demos)))


def by_hash(demos: Sequence[Demo], seed: int, digest: str) -> list[int]:
    """`random`: one draw for all questions, in order of sha256(seed, pool digest, demo id)."""

    def key(at: int) -> tuple[str, str]:
        demo_id = demos[at].id
        return hashlib.sha256(f"{seed}\n{digest}\n{demo_id}".encode()).hexdigest(), demo_id

    return sorted(range(len(demos)), key=key)


def by_nearness(cosines: NDArray[np.float32], id_ranks: NDArray[np.int64]) -> list[int]:
    """`nearest` (KATE, arXiv 2101.06804): most similar first; `id_ranks` are the rows' places by demo id."""
    ranked: list[int] = np.lexsort((id_ranks, -cosines)).tolist()
    return ranked


def take(
    ranked: Iterable[int],
    demos: Sequence[Demo],
    count: int,
    *,
    allowed: Callable[[int], bool],
    per_label: int | None,
) -> list[int]:
    """The first `count` rows that are allowed, with at most `per_label` of each label."""
    taken: list[int] = []
    labels: Counter[str | None] = Counter()
    for at in ranked:
        if len(taken) >= count:
            break
        label = demos[at].label
        full = per_label is not None and label is not None and labels[label] >= per_label
        if not full and allowed(at):
            labels[label] += 1
            taken.append(at)
    return taken


def arranged(taken: Sequence[int], order: Order) -> list[int]:
    """Rows ranked best first, in the order in which they are to be read."""
    if order == "nearest_first":
        return list(taken)
    return list(reversed(taken)) if order == "nearest_last" else sorted(taken)
