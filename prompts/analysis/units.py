"""Means per unit: caps, the delta method for ratios, variance reduction by what was known before (CUPED)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prompts.analysis.sequences import LEAST_UNITS

Floats = NDArray[np.float64]
LEAST_UNEVEN = 400  # of the smaller arm, when it holds under a third
UNEVEN = 1 / 3
LEAST_CONTINUOUS = 100


class Estimate(NamedTuple):
    """An arm's mean, or ratio, with its variance per unit."""

    mean: float
    variance: float  # the estimate's squared standard error is variance / units
    units: int

    @property
    def squared_error(self) -> float:
        return self.variance / self.units if self.units else float("inf")


def mean_of(values: ArrayLike) -> Estimate:
    x = np.asarray(values, float)
    return Estimate(float(x.mean()) if x.size else 0.0, float(x.var(ddof=1)) if x.size > 1 else 0.0, x.size)


def ratio_of(values: ArrayLike, over: ArrayLike) -> Estimate:
    """Σy / Σt with the delta method's variance, var(z), z_i = (y_i − R t_i) / mean(t).

    Turns of one unit are alike, so a test over turns is wrong; this one's units are the units.
    """
    y, t = np.asarray(values, float), np.asarray(over, float)
    if not y.size or not t.sum():
        return Estimate(0.0, 0.0, y.size)
    ratio = y.sum() / t.sum()
    return Estimate(float(ratio), float(linearised(y, t).var(ddof=1)) if y.size > 1 else 0.0, y.size)


def linearised(values: ArrayLike, over: ArrayLike) -> Floats:
    """z_i of one arm: its mean is 0, and ratio + mean(z) moves as the ratio does."""
    y, t = np.asarray(values, float), np.asarray(over, float)
    z: Floats = (y - y.sum() / t.sum() * t) / t.mean()
    return z


def adjusted(values: ArrayLike, covariates: ArrayLike, arms: ArrayLike) -> Floats:
    """Values with what the covariate explains taken out: Y − θ(X − mean X), θ pooled within arms.

    A missing covariate (NaN) is set to the mean, and being missing is a second covariate. X must be known
    before the exposure, or the adjustment takes away the arm's own effect. Half-widths shrink by √(1 − ρ²).
    """
    y, x, arm = np.asarray(values, float), np.asarray(covariates, float), np.asarray(arms)
    missing = np.isnan(x)
    if missing.all():
        return y
    filled = np.where(missing, x[~missing].mean(), x)
    columns = [filled] if not missing.any() else [filled, missing.astype(float)]
    known = np.column_stack(columns)
    known -= known.mean(axis=0)
    within_y, within_x = y.copy(), known.copy()
    for one in np.unique(arm):
        of_arm = arm == one
        within_y[of_arm] -= y[of_arm].mean()
        within_x[of_arm] -= known[of_arm].mean(axis=0)
    theta = np.linalg.lstsq(within_x, within_y, rcond=None)[0]
    changed: Floats = y - known @ theta
    return changed


def enough(units: ArrayLike, kind: str) -> bool:
    """Whether every arm of a comparison has the units its interval needs."""
    n = np.asarray(units, float)
    if kind == "binary":
        return bool(n.min() >= LEAST_UNITS)
    uneven = kind == "continuous" and n.min() < UNEVEN * n.sum()
    return bool(n.min() >= (LEAST_UNEVEN if uneven else LEAST_CONTINUOUS))
