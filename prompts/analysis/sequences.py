"""Confidence sequences: intervals that hold at every look at once.

Means of arms: the asymptotic sequence of Waudby-Smith et al., arXiv 2103.06476. One mean of values in 0..1:
the empirical-Bernstein sequence with predictable plug-in (Waudby-Smith and Ramdas, arXiv 2010.09686). One
rate: the mixture over a Beta(½, ½) prior (Robbins), exact at any count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEAST_UNITS = 50  # per arm, before anything is said
LEAST_COUNT = 20  # successes and failures per arm, before a binary metric's interval is shown


def tuning(alpha: float, expected_units: float) -> float:
    """r: where the sequence is tightest, namely at about `expected_units` of both arms together."""
    return float(np.sqrt((-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / expected_units))


def half_width(se: ArrayLike, units: ArrayLike, alpha: float, expected_units: float) -> Floats:
    """Of the two-sided sequence around a difference. `se`: its standard error; `units`: of both arms."""
    n, r = np.asarray(units, float), tuning(alpha, expected_units)
    inner = n * r**2 + 1
    width: Floats = np.asarray(se) * np.sqrt(n * 2 * inner / (n * r) ** 2 * np.log(np.sqrt(inner) / alpha))
    return width


def one_sided_width(se: ArrayLike, units: ArrayLike, alpha: float, expected_units: float) -> Floats:
    """How far above (or below) the difference the one-sided bound lies."""
    n, r = np.asarray(units, float), tuning(2 * alpha, expected_units)
    inner = n * r**2 + 1
    log = np.log1p(np.sqrt(inner) / (2 * alpha))
    width: Floats = np.asarray(se) * np.sqrt(n * 2 * inner / (n * r) ** 2 * log)
    return width


def p_value(
    difference: ArrayLike, se: ArrayLike, units: ArrayLike, alpha: float, expected_units: float
) -> Floats:
    """Always valid: the level at which the two-sided sequence tuned for `alpha` just touches zero."""
    n, r = np.asarray(units, float), tuning(alpha, expected_units)
    inner = n * r**2 + 1
    s = np.asarray(difference, float) ** 2 * n / np.asarray(se, float) ** 2
    p: Floats = np.minimum(1.0, np.sqrt(inner) * np.exp(-(r**2) * s / (2 * inner)))
    return p


def binary_variance(successes: ArrayLike, units: ArrayLike) -> Floats:
    """p(1 − p) with one success and one failure added: two perfect starts must not make it zero."""
    rate = (np.asarray(successes, float) + 1) / (np.asarray(units, float) + 2)
    variance: Floats = rate * (1 - rate)
    return variance


def empirical_bernstein(values: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Centre and half-width after each value; values in 0..1 along the last axis, in their order."""
    x = np.asarray(values, float)
    t = np.arange(1, x.shape[-1] + 1)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (t + 1)
    mean_before = _shifted(mean, 0.5)
    variance_before = _shifted(variance, 0.25)
    bet = np.minimum(0.5, np.sqrt(2 * np.log(2 / alpha) / (variance_before * t * np.log1p(t))))
    weight = np.cumsum(bet, axis=-1)
    spread = np.cumsum((x - mean_before) ** 2 * (-np.log1p(-bet) - bet), axis=-1)
    return np.cumsum(bet * x, axis=-1) / weight, (np.log(2 / alpha) + spread) / weight


def rate_bounds(successes: int, units: int, alpha: float) -> tuple[float, float]:
    """The exact two-sided sequence of one success rate: rates whose mixture E stays below 1/alpha."""
    from scipy.special import betaln

    failures = units - successes
    evidence = betaln(successes + 0.5, failures + 0.5) - betaln(0.5, 0.5)
    peak = successes / units if units else 0.5

    threshold = float(evidence) + math.log(alpha)

    def rejected(rate: float) -> bool:
        log = 0.0
        if successes:
            log += successes * math.log(rate) if rate > 0 else -math.inf
        if failures:
            log += failures * math.log1p(-rate) if rate < 1 else -math.inf
        return threshold >= log

    return _edge(rejected, peak, 0.0), _edge(rejected, peak, 1.0)


def _edge(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Between a rate that stays and an end of the scale: the last rate that stays, to 1e-9."""
    if not rejected(outside):
        return outside
    while abs(outside - inside) > 1e-9:
        middle = (inside + outside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _shifted(running: Floats, first: float) -> Floats:
    """What was known before each value."""
    start = np.full((*running.shape[:-1], 1), first)
    return np.concatenate([start, running[..., :-1]], axis=-1)
