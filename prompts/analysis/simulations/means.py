"""Rows 12 to 14, 20 and 21: ratios, heavy tails, covariates, one mean in 0..1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis.sequences import empirical_bernstein, half_width
from prompts.analysis.simulations.counts import ALPHA, Z95
from prompts.analysis.simulations.measured import Measured, ever, near
from prompts.analysis.units import LEAST_UNEVEN, adjusted, mean_of, ratio_of

Random = np.random.Generator
Floats = NDArray[np.float64]


class Users(NamedTuple):
    """Per user, shape (runs, users)."""

    good: Floats
    turns: Floats
    arm: NDArray[np.int64]


def users(random: Random, runs: int, number: int) -> Users:
    """max(1, geometric(.15)) turns, each good with the user's own rate, Beta(1.5, 1.5)."""
    turns = np.maximum(1, random.geometric(0.15, (runs, number)))
    good = random.binomial(turns, random.beta(1.5, 1.5, (runs, number)))
    return Users(good.astype(float), turns.astype(float), random.integers(0, 2, (runs, number)))


def judge(seen: Users, first: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Per-turn z, delta-method z and the sequence, on each run's first users."""
    rejects = []
    for good, turns, arm in zip(*(field[:, :first] for field in seen), strict=True):
        a, b = arm == 0, arm == 1
        one, two = ratio_of(good[a], turns[a]), ratio_of(good[b], turns[b])
        difference = abs(two.mean - one.mean)
        pooled = good.sum() / turns.sum()
        naive = np.sqrt(pooled * (1 - pooled) * (1 / turns[a].sum() + 1 / turns[b].sum()))
        se = np.sqrt(one.squared_error + two.squared_error)
        width = float(half_width(se, first, ALPHA, 2000))
        rejects.append((difference > Z95 * naive, difference > Z95 * se, difference > width))
    naive_z, delta_z, sequence = np.array(rejects).T
    return naive_z, delta_z, sequence


def ratio_once(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 12."""
    naive, delta, _ = judge(users(random, runs, 400), 400)
    yield near("per-turn z", float(naive.mean()), 0.32, 0.03, widen)
    yield near("delta method", float(delta.mean()), 0.053, 0.015, widen)


def ratio_looks(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 13."""
    seen = users(random, runs, 2000)
    looks = [judge(seen, first) for first in range(100, 2001, 100)]
    naive, delta, sequence = (np.stack(kind, axis=1) for kind in zip(*looks, strict=True))
    yield near("per-turn z", ever(naive), 0.83, 0.04, widen)
    yield near("delta z", ever(delta), 0.23, 0.04, widen)
    yield near("sequence on z_i", ever(sequence), 0.010, 0.009, widen)


def heavy_tails(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 14: 10 000 units, a look every 100."""
    values = random.lognormal(0, 2, (runs, 10_000))
    small = random.random(values.shape) < 0.1
    capped = np.minimum(values, np.exp(2 * 2.3263478740408408))  # the 99th percentile
    yield near("raw", ever(_mean_rejects(values, small, 2)), 0.12, 0.03, widen)
    found = ever(_mean_rejects(capped, small, LEAST_UNEVEN))
    yield near(f"capped at p99, with ≥ {LEAST_UNEVEN}", found, 0.022, 0.015, widen)


def _mean_rejects(values: Floats, small: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    looks = np.arange(99, values.shape[1], 100)
    means, errors, units = [], [], []
    for arm in (small, ~small):
        n = np.maximum(arm.cumsum(axis=1)[:, looks], 1)
        mean = (values * arm).cumsum(axis=1)[:, looks] / n
        square = (values**2 * arm).cumsum(axis=1)[:, looks] / n
        means.append(mean)
        errors.append((square - mean**2) / np.maximum(n - 1, 1))
        units.append(n)
    width = half_width(np.sqrt(errors[0] + errors[1]), looks + 1, ALPHA, 10_000)
    rejects: NDArray[np.bool_] = (np.abs(means[0] - means[1]) > width) & (units[0] >= least)
    return rejects


def covariates(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 20: 500 units, half in each arm, judged once."""
    arm = np.arange(500) % 2
    for rho, ratio in ((0.30, 0.954), (0.57, 0.821), (0.80, 0.600)):
        widths, wrong = [], []
        for _ in range(runs):
            x = random.standard_normal(500)
            y = rho * x + np.sqrt(1 - rho**2) * random.standard_normal(500)
            plain = [mean_of(y[arm == k]) for k in (0, 1)]
            less = adjusted(y, x, arm)
            better = [mean_of(less[arm == k]) for k in (0, 1)]
            se = np.sqrt(sum(one.squared_error for one in better))
            widths.append(se / np.sqrt(sum(one.squared_error for one in plain)))
            wrong.append(abs(better[1].mean - better[0].mean) > Z95 * se)
        yield near(f"ρ = {rho:.2f}, half-width ratio", float(np.mean(widths)), ratio, 0.01, widen)
        yield near(f"ρ = {rho:.2f}, error", float(np.mean(wrong)), 0.05, 0.02, widen)


def bounded_mean(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 21: how often the truth is outside at any of 2 000 values."""
    for name, values, truth, target in (
        ("uniform", random.random((runs, 2000)), 0.5, 0.009),
        ("Beta(8, 2)", random.beta(8, 2, (runs, 2000)), 0.8, 0.004),
        ("Bernoulli(.9)", random.binomial(1, 0.9, (runs, 2000)), 0.9, 0.014),
    ):
        centre, width = empirical_bernstein(values, ALPHA)
        yield near(name, ever(np.abs(centre - truth) > width), target, 0.008, widen)
