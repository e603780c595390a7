"""Rows 10, 11, 17, 22 and 23: bandits, best arm, racing, assignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis import bandit, eprocess
from prompts.analysis.best_arm import best_rate
from prompts.analysis.sample_ratio import chi_square_p
from prompts.analysis.sequences import LEAST_COUNT, binary_variance, half_width
from prompts.analysis.simulations.counts import ALPHA, Z95, draw
from prompts.analysis.simulations.measured import Measured, at_most, ever, near
from prompts.experiment_records import Arm, Experiment, Rules
from prompts.experiments import assign
from prompts.racing import race

Random = np.random.Generator
Floats = NDArray[np.float64]
DRAWS = 1000  # a tenth of what a server draws: the weights' noise does not show in these rows


class Pulled(NamedTuple):
    """Per phase, shape (runs, phases, 2); the uniform slice is part of the whole."""

    successes: Floats
    units: Floats
    slice_successes: Floats
    slice_units: Floats


def pull(random: Random, runs: int, rates: Floats, per_phase: int, floor: float, slice_: float) -> Pulled:
    """Two arms of one success rate, which may drift from phase to phase, under Thompson weights."""
    s, n, weights = np.zeros((runs, 2)), np.zeros((runs, 2)), np.full((runs, 2), 0.5)
    phases = []
    for rate in rates:
        within = random.binomial(per_phase, slice_, runs)
        uniform = _split(random, within, np.full(runs, 0.5))
        guided = _split(random, per_phase - within, weights[:, 1])
        good_uniform, good_guided = random.binomial(uniform, rate), random.binomial(guided, rate)
        phases.append((good_uniform + good_guided, uniform + guided, good_uniform, uniform))
        s, n = s + phases[-1][0], n + phases[-1][1]
        seed = int(random.integers(2**32))
        weights = bandit.thompson_weights(s, n, seed=seed, floor=floor, draws=DRAWS)
    return Pulled(*(np.stack(kind, axis=1).astype(float) for kind in zip(*phases, strict=True)))


def _split(random: Random, units: NDArray[np.int64], share: Floats) -> NDArray[np.int64]:
    second = random.binomial(units, share)
    return np.stack([units - second, second], axis=1)


def drifting(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 10."""
    seen = pull(random, runs, np.linspace(0.4, 0.7, 20), 100, bandit.FLOOR, 0.2)
    s, n = seen.successes.sum(axis=1), seen.units.sum(axis=1)
    pooled = s.sum(axis=1) / n.sum(axis=1)
    z = np.diff(s / n, axis=1)[:, 0] / np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=1))
    yield near("pooled z", float((np.abs(z) > Z95).mean()), 0.70, 0.05, widen)
    log_e = eprocess.log_e(
        seen.successes[..., 0], seen.units[..., 0], seen.successes[..., 1], seen.units[..., 1]
    )
    yield near("e-process", ever(log_e >= -np.log(ALPHA)), 0.020, 0.015, widen)
    s, n = seen.slice_successes.cumsum(axis=1), np.maximum(seen.slice_units.cumsum(axis=1), 1)
    se = np.sqrt((binary_variance(s, n) / n).sum(axis=-1))
    outside = np.abs(np.diff(s / n, axis=-1)[..., 0]) > half_width(se, n.sum(axis=-1), ALPHA, 2000)
    shown = np.minimum(s, n - s).min(axis=-1) >= LEAST_COUNT
    yield at_most("sequence on the slice", ever(outside & shown), 0.01, widen)


def least_pulled(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 11."""
    seen = pull(random, runs, np.full(50, 0.5), 20, 0.0, 0.0)
    s, n = seen.successes.sum(axis=1), seen.units.sum(axis=1)
    at = n.argmin(axis=1)[:, None]
    units = np.take_along_axis(n, at, 1)[:, 0]
    mean = np.take_along_axis(s, at, 1)[:, 0] / np.maximum(units, 1)
    half = Z95 * np.sqrt(mean * (1 - mean) / np.maximum(units, 1))
    yield near("bias of its mean", float((mean - 0.5)[units > 0].mean()), -0.041, 0.006, widen)
    yield near("coverage of its 95 % interval", float((np.abs(mean - 0.5) <= half).mean()), 0.87, 0.03, widen)


def leaders(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 17: a wrong leader (more than ε below the best) at the stop, a look every 10 units per arm."""
    for rates, target in (((0.90, 0.99), 0.32), ((0.92, 0.98), 0.36), ((0.02, 0.08), 0.36)):
        s, n = draw(random, runs, rates, (10, 10), 100).running
        n = np.broadcast_to(n, s.shape)
        rate = s / n
        spread = 2 * (rate * (1 - rate) / n).sum(axis=-1)
        gap = (np.abs(np.diff(rate, axis=-1)[..., 0]) + 0.05) ** 2
        raw = gap > spread * np.log((1 + np.log(n.sum(axis=-1))) / ALPHA)
        best = best_rate(s, n, 0.05, ALPHA)
        name = f"{rates[0]:.2f}, {rates[1]:.2f}"
        yield near(f"{name}, raw variance", _wrong(raw, rate.argmax(axis=-1)), target, 0.03, widen)
        yield at_most(f"{name}, smoothed from 50", _wrong(best.proven, best.leader), 0.003, widen)


def _wrong(stopped: NDArray[np.bool_], leader: NDArray[np.int64]) -> float:
    runs = np.arange(len(stopped))
    return float((stopped.any(axis=1) & (leader[runs, stopped.argmax(axis=1)] == 0)).mean())


def races(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 22: 16 candidates, accuracies .60 to .80, latent correlation .7."""
    from scipy.special import ndtri

    limits = ndtri(np.linspace(0.60, 0.80, 16))
    lost, costs = 0, {500: 0.0, 1000: 0.0}
    for items in costs:
        for _ in range(runs):
            latent = np.sqrt(0.7) * random.standard_normal((items, 1))
            latent = latent + np.sqrt(0.3) * random.standard_normal((items, 16))
            right = (latent < limits).astype(float)
            done = race(partial(_scores, right), 16, range(items))
            lost += 15 not in done.live
            costs[items] += done.asked / (items * 16 * runs)
    yield at_most("best dropped", lost / (2 * runs), 0.01, widen)
    yield near("cost share, 500 items", costs[500], 0.55, 0.05, widen)
    yield near("cost share, 1000 items", costs[1000], 0.42, 0.05, widen)


def _scores(right: Floats, candidates: Sequence[int], items: Sequence[int]) -> Floats:
    shown: Floats = right[np.ix_(items, candidates)]
    return shown


def assignments(units: int) -> Iterator[Measured]:
    """Row 23: arm shares, and arms under two salts."""
    arms = tuple(Arm(name, weight, "plain@1") for name, weight in (("a", 0.2), ("b", 0.3), ("c", 0.5)))
    one = Experiment(
        "selftest", "", "3f9a1c64e0b7258d9c41f6a27be05d18", "user", "a", arms, {}, Rules(""), 1.0
    )
    two = replace(one, salt="d2b7258d9c41f6a27be05d183f9a1c64")
    met = np.array([("abc".index(assign(one, f"user-{at}").arm)) for at in range(units)])
    other = np.array([("abc".index(assign(two, f"user-{at}").arm)) for at in range(units)])
    shares = np.array([0.2, 0.3, 0.5])
    both = np.bincount(met * 3 + other, minlength=9)
    for name, counts, expected in (
        ("arm shares, χ² p", np.bincount(met, minlength=3), shares),
        ("arms under two salts, χ² p", both, np.outer(shares, shares).ravel()),
    ):
        yield Measured(name, float(chi_square_p(counts, expected)), "> 0.0001", 1e-4, 1.0)
