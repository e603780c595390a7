"""Which logged questions to annotate next, so that few labels serve many questions (vote-k)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.listing import same_text

NEIGHBOURS = 10
BASE = 10.0


class Annotate(NamedTuple):
    pool: tuple[str, ...]  # to be labelled for the demonstration pool
    evaluation: tuple[str, ...]  # to be labelled for judging: none of them in the pool


def vote_k(vectors: NDArray[np.float32], count: int, neighbours: int = NEIGHBOURS) -> list[int]:
    """Rows in the order in which they are picked (arXiv 2209.01975).

    Each row votes for its nearest `neighbours`; argmax_u Σ_{v unpicked, u∈N(v)} 10^(−|picked ∩ N(v)|), ties
    by row. `vectors` are unit rows, shape (n, d).
    """
    n = len(vectors)
    k = min(neighbours, n - 1)
    if k < 1:
        return list(range(min(count, n)))
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    voters: list[list[int]] = [[] for _ in range(n)]
    for at, row in enumerate(near):
        for neighbour in row:
            voters[neighbour].append(at)
    picked: list[int] = []
    open_, served = np.ones(n, dtype=bool), np.zeros(n)
    while len(picked) < min(count, n):
        vote = np.where(open_, BASE**-served, 0.0)
        scores = np.array([vote[one].sum() for one in voters])
        best = int(np.where(open_, scores, -np.inf).argmax())
        picked.append(best)
        open_[best] = False
        served[voters[best]] += 1
    return picked


def annotate_next(questions: Sequence[str], vectors: NDArray[np.float32], count: int) -> Annotate:
    """`count` questions for the pool and as many for the evaluation set, none in both.

    Questions that say the same count once. Every other pick goes to the evaluation set, so that both cover
    the same ground.
    """
    once = list({same_text(question): at for at, question in reversed(list(enumerate(questions)))}.values())
    rows = sorted(once)
    picked = [questions[rows[at]] for at in vote_k(vectors[rows], 2 * count)]
    return Annotate(tuple(picked[::2]), tuple(picked[1::2]))
