"""Do the arms get the units they should? A share that is off means that units are lost or misplaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
ALARM = 1000.0  # the chance that E ever gets there with the right shares is at most 1/1000
PRIOR_UNITS = 100.0


def log_e(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """ln E of running counts, shape (…, arms), against `shares`, shape (arms,), which add up to 1.

    Dirichlet prior of 100 units at the shares. Valid at every look; for stretches with different shares, add
    the ln E of each.
    """
    n, theta = np.asarray(counts, float), np.asarray(shares, float)
    prior = PRIOR_UNITS * theta
    value: Floats = _log_beta(prior + n) - _log_beta(prior) - (n * np.log(theta)).sum(axis=-1)
    return value


def chi_square_p(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Pearson's test, for one look at the end; at every look it alarms 15 to 19 times as often as it says."""
    from scipy.special import chdtrc

    n, theta = np.asarray(counts, float), np.asarray(shares, float)
    expected = n.sum(axis=-1, keepdims=True) * theta
    p: Floats = chdtrc(n.shape[-1] - 1, ((n - expected) ** 2 / expected).sum(axis=-1))
    return p


def _log_beta(parameters: Floats) -> Floats:
    log: Floats = gammaln(parameters).sum(axis=-1) - gammaln(parameters.sum(axis=-1))
    return log
