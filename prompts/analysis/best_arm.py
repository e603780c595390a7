"""Which of several arms is within a hair of the best, with equal allocation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prompts.analysis.sequences import LEAST_UNITS, binary_variance

Floats = NDArray[np.float64]


class Best(NamedTuple):
    leader: NDArray[np.int64]  # the largest mean; ties go to the first
    proven: NDArray[np.bool_]  # within epsilon of the best, with probability 1 − delta


def best_arm(means: ArrayLike, variances: ArrayLike, units: ArrayLike, epsilon: float, delta: float) -> Best:
    """The leader by generalised likelihood ratio, after any number of looks; the last axis is the arms.

    The threshold ln((K − 1)(1 + ln t) / delta) is customary, K − 1 a union bound (t = all units). Never with
    the raw variance of a binary metric: two perfect starts make it zero, and then the list's order decides.
    """
    m, v, n = (np.asarray(given, float) for given in (means, variances, units))
    leader = m.argmax(axis=-1)
    at = np.expand_dims(leader, -1)
    best_m, best_v, best_n = (np.take_along_axis(x, at, -1) for x in (m, v, n))
    spread = 2 * (best_v / best_n + v / n)
    gaps = np.maximum(0, best_m - m + epsilon) ** 2 / np.where(spread > 0, spread, 1e-300)
    np.put_along_axis(gaps, at, np.inf, axis=-1)
    threshold = np.log((m.shape[-1] - 1) * (1 + np.log(n.sum(axis=-1))) / delta)
    return Best(leader, (gaps.min(axis=-1) > threshold) & (n.min(axis=-1) >= LEAST_UNITS))


def best_rate(successes: ArrayLike, units: ArrayLike, epsilon: float, delta: float) -> Best:
    """The same for success rates, with one success and one failure added to the variances."""
    s, n = np.asarray(successes, float), np.asarray(units, float)
    return best_arm(s / np.maximum(n, 1), binary_variance(s, n), n, epsilon, delta)
