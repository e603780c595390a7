"""Demos that are near the question and unlike each other: MMR and a determinantal point process.

Both are greedy over candidate rows that the guards let through, so that a guard never costs a demo. Ties
break by demo id: candidates come in the order of their ids, and the first of equals is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prompts.records import Demo

MMR_FROM = 20
MMR_BALANCE = 0.5  # the weight of nearness; the rest is for being unlike what was taken
DPP_FROM = 100
DPP_SHARPNESS = 0.1  # s: small goes by nearness, large by diversity
LEAST_VOLUME = 1e-10  # a candidate that adds less is a copy of what was taken

Vectors = NDArray[np.float32]


class LabelCap:
    """How many more demos of each label may be taken."""

    def __init__(self, demos: Sequence[Demo], per_label: int | None) -> None:
        self._demos = demos
        self._per_label = per_label
        self._taken: Counter[str] = Counter()

    def free(self, at: int) -> bool:
        label = self._demos[at].label
        return self._per_label is None or label is None or self._taken[label] < self._per_label

    def take(self, at: int) -> None:
        label = self._demos[at].label
        if label is not None:
            self._taken[label] += 1


def by_mmr(rows: Sequence[int], vectors: Vectors, cosines: Vectors, count: int, cap: LabelCap) -> list[int]:
    """argmax λ c_i − (1−λ) max_{j taken} e_i·e_j, repeated (Carbonell & Goldstein 1998).

    `rows` are the candidates in the order of their demos' ids; `vectors` and `cosines` are the pool's.
    """
    among, taken = vectors[list(rows)], list[int]()
    worth = MMR_BALANCE * cosines[list(rows)].astype(np.float64)
    likeness = np.full(len(rows), -np.inf)
    open_ = np.ones(len(rows), dtype=bool)
    while len(taken) < count:
        gains = worth - (1 - MMR_BALANCE) * np.where(np.isfinite(likeness), likeness, 0.0)
        place = _best(gains, open_, rows, cap)
        if place is None:
            break
        taken.append(rows[place])
        cap.take(rows[place])
        open_[place] = False
        likeness = np.maximum(likeness, among @ among[place])
    return taken


def dpp_kernel(vectors: Vectors, cosines: Vectors) -> NDArray[np.float64]:
    """L_ij = w_i (e_i·e_j + 1)/2 w_j with w_i = exp((r_i − max r) / 2s), r_i = (c_i + 1)/2."""
    among = vectors.astype(np.float64)
    relevance = (cosines.astype(np.float64) + 1) / 2
    weight = np.exp((relevance - relevance.max()) / (2 * DPP_SHARPNESS))
    kernel: NDArray[np.float64] = weight[:, None] * ((among @ among.T + 1) / 2) * weight
    return kernel


def by_dpp(rows: Sequence[int], vectors: Vectors, cosines: Vectors, count: int, cap: LabelCap) -> list[int]:
    """Greedy MAP of det L_S by incremental Cholesky, O(n k²) (Chen et al., arXiv 1709.05135).

    `rows` are the candidates in the order of their demos' ids; `vectors` and `cosines` are the pool's.
    """
    if not rows:
        return []
    kernel = dpp_kernel(vectors[list(rows)], cosines[list(rows)])
    volume = np.diag(kernel).copy()  # by how much each candidate multiplies the determinant
    factors = np.zeros((count, len(rows)))
    open_, taken = np.ones(len(rows), dtype=bool), list[int]()
    while len(taken) < count:
        place = _best(volume, open_, rows, cap)
        if place is None or volume[place] < LEAST_VOLUME:
            break
        step = len(taken)
        known = factors[:step, place] @ factors[:step]
        factors[step] = (kernel[place] - known) / np.sqrt(volume[place])
        volume = volume - np.square(factors[step])
        open_[place] = False
        taken.append(rows[place])
        cap.take(rows[place])
    return taken


def _best(
    gains: NDArray[np.float64], open_: NDArray[np.bool_], rows: Sequence[int], cap: LabelCap
) -> int | None:
    free = open_ & np.array([cap.free(at) for at in rows], dtype=bool)
    return int(np.where(free, gains, -np.inf).argmax()) if free.any() else None
