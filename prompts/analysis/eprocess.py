"""The exact test of two success rates (Turner, Ly, Grünwald, arXiv 2106.02693)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def log_e(successes_a: ArrayLike, units_a: ArrayLike, successes_b: ArrayLike, units_b: ArrayLike) -> Floats:
    """The running ln E after each block, against "both arms have one rate"; the last axis is the blocks.

    Counts are those of each block, not running totals. Reject at E ≥ 1/alpha, at any block: with equal rates
    the chance that it ever gets there is at most alpha. Needs no burn-in, and holds for unequal arms, rare
    events, and rates or shares that change between blocks.
    """
    given = (np.asarray(counts, float) for counts in (successes_a, units_a, successes_b, units_b))
    s_a, n_a, s_b, n_b = np.broadcast_arrays(*given)
    p_a, p_b = _learnt(s_a, n_a), _learnt(s_b, n_b)
    units = np.maximum(n_a + n_b, 1)  # an empty block bets nothing
    pooled = (n_a * p_a + n_b * p_b) / units
    pooled = np.where(n_a + n_b > 0, pooled, 0.5)
    gains = _log_likelihood(s_a, n_a, p_a) + _log_likelihood(s_b, n_b, p_b)
    gains -= _log_likelihood(s_a + s_b, n_a + n_b, pooled)
    running: Floats = np.cumsum(gains, axis=-1)
    return running


def _learnt(successes: Floats, units: Floats) -> Floats:
    """The rate as the blocks before each one show it, with half a success and half a failure added."""
    before_s = np.cumsum(successes, axis=-1) - successes
    before_n = np.cumsum(units, axis=-1) - units
    rate: Floats = (before_s + 0.5) / (before_n + 1)
    return rate


def _log_likelihood(successes: Floats, units: Floats, rate: Floats) -> Floats:
    likelihood: Floats = successes * np.log(rate) + (units - successes) * np.log1p(-rate)
    return likelihood
