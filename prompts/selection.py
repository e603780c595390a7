"""Which worked examples to show, and in which order. Every strategy is a function of its arguments.

Each strategy ranks candidate rows best first; the guards of `take` then apply to all of them alike. Ties
break by demo id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from prompts.diversity import LabelCap
from prompts.records import Demo

FIRST = 256  # far more than any prompt shows


def in_order(demos: Sequence[Demo]) -> list[int]:
    """`fixed`: as the pool lists them."""
    return list(range(len(demos)))


def by_hash(demos: Sequence[Demo], seed: int, digest: str) -> list[int]:
    """`random`: one draw for all questions, in order of sha256(seed, pool digest, demo id)."""

    def key(at: int) -> tuple[str, str]:
        demo_id = demos[at].id
        return hashlib.sha256(f"{seed}\n{digest}\n{demo_id}".encode()).hexdigest(), demo_id

    return sorted(range(len(demos)), key=key)


def by_nearness(
    scores: NDArray[np.float32], id_ranks: NDArray[np.int64], rows: NDArray[np.int64]
) -> Iterator[int]:
    """`nearest` (KATE, arXiv 2101.06804) and `bm25`: the best of `rows` first.

    `id_ranks` are all rows' places by demo id. The first few are found without sorting the rest.
    """
    if len(rows) > 2 * FIRST:
        bound = np.partition(scores[rows], len(rows) - FIRST)[len(rows) - FIRST]
        above = scores[rows] >= bound
        yield from _sorted(scores, id_ranks, rows[above])
        rows = rows[~above]
    yield from _sorted(scores, id_ranks, rows)


def _sorted(scores: NDArray[np.float32], id_ranks: NDArray[np.int64], rows: NDArray[np.int64]) -> list[int]:
    ranked: list[int] = rows[np.lexsort((id_ranks[rows], -scores[rows]))].tolist()
    return ranked


def round_robin(ranked: Iterable[int], demos: Sequence[Demo]) -> list[int]:
    """`balanced`: the best of each label in turn, the label of the best demo first.

    Demos without a label are one group.
    """
    groups: dict[str | None, list[int]] = {}
    for at in ranked:
        groups.setdefault(demos[at].label, []).append(at)
    rounds = zip_longest(*groups.values())
    return [at for one in rounds for at in one if at is not None]


def take(
    ranked: Iterable[int], demos: Sequence[Demo], count: int, *, closed: Set[int], per_label: int | None
) -> list[int]:
    """The first `count` rows that are not closed, with at most `per_label` of each label."""
    taken: list[int] = []
    cap = LabelCap(demos, per_label)
    for at in ranked:
        if len(taken) >= count:
            break
        if at not in closed and cap.free(at):
            cap.take(at)
            taken.append(at)
    return taken
