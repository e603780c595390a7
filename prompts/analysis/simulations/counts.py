"""Simulated binary outcomes, look by look, and the ways to judge them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis import eprocess
from prompts.analysis.sequences import LEAST_COUNT, binary_variance, half_width

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Z95 = 1.959963984540054
ALPHA = 0.05


class Counts(NamedTuple):
    """Per look and arm, shape (runs, looks, arms); `per_look`: units, the same in each run."""

    successes: Floats
    per_look: Floats  # (arms,)

    def pair(self, a: int, b: int) -> Counts:
        return Counts(self.successes[..., [a, b]], self.per_look[[a, b]])

    @property
    def running(self) -> tuple[Floats, Floats]:
        looks = np.arange(1, self.successes.shape[1] + 1)[:, None]
        return self.successes.cumsum(axis=1), looks * self.per_look


def draw(
    random: np.random.Generator,
    runs: int,
    rates: Sequence[float],
    per_look: Sequence[int] = (50, 50),
    looks: int = 100,
) -> Counts:
    columns = [
        random.binomial(units, rate, (runs, looks)) for rate, units in zip(rates, per_look, strict=True)
    ]
    return Counts(np.stack(columns, axis=-1).astype(float), np.asarray(per_look, float))


def z_rejects(counts: Counts) -> Flags:
    """The textbook test of two shares, at every look: for contrast only."""
    s, n = counts.running
    pooled = s.sum(axis=-1) / n.sum(axis=-1)
    variance = pooled * (1 - pooled) * (1 / n).sum(axis=-1)
    difference = s[..., 1] / n[:, 1] - s[..., 0] / n[:, 0]
    rejects: Flags = np.abs(difference) > Z95 * np.sqrt(variance)
    rejects &= variance > 0
    return rejects


def e_rejects(counts: Counts, alpha: float = ALPHA) -> Flags:
    s, n = counts.successes, counts.per_look
    rejects: Flags = eprocess.log_e(s[..., 0], n[0], s[..., 1], n[1]) >= -np.log(alpha)
    return rejects


def interval(counts: Counts, expected_units: float, alpha: float = ALPHA) -> tuple[Floats, Floats, Flags]:
    """Difference, half-width and whether it may be shown, at every look."""
    s, n = counts.running
    se = np.sqrt((binary_variance(s, n) / n).sum(axis=-1))
    width = half_width(se, n.sum(axis=-1), alpha, expected_units)
    shown: Flags = np.minimum(s, n - s).min(axis=-1) >= LEAST_COUNT
    return s[..., 1] / n[:, 1] - s[..., 0] / n[:, 0], width, shown


def sequence_rejects(counts: Counts, expected_units: float, alpha: float = ALPHA) -> Flags:
    difference, width, shown = interval(counts, expected_units, alpha)
    rejects: Flags = (np.abs(difference) > width) & shown
    return rejects


def raw_sequence_rejects(counts: Counts, expected_units: float) -> Flags:
    """Without smoothing and without the least counts: for contrast only."""
    s, n = counts.running
    rate = s / n
    se = np.sqrt((rate * (1 - rate) / n).sum(axis=-1))
    width = half_width(se, n.sum(axis=-1), ALPHA, expected_units)
    rejects: Flags = np.abs(rate[..., 1] - rate[..., 0]) > width
    return rejects
