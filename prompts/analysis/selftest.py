"""Simulated experiments against the error rates that the documentation promises.

Rows called "contrast" show what the product must not do; the others are its own tests. Targets: the table in
docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import starmap

import numpy as np

from prompts.analysis.simulations import allocation, means, rates
from prompts.analysis.simulations.counts import draw, e_rejects, sequence_rejects
from prompts.analysis.simulations.measured import Measured, ever, median_stop

RUNS = 4000
SLOW_RUNS = 1000  # at most, in rows that cost more
RACES = 300
SETTINGS = {
    1: ("equal arms, z at every look", "contrast"),
    2: ("equal arms, z once at the end", "≈ α"),
    3: ("equal arms, sequence N* = 5000", "≤ .05"),
    4: ("equal arms, sequence N* = 500", "≤ .05"),
    5: ("equal arms, e-process", "≤ .05"),
    6: (".60 vs .66", "peeking: contrast; wrong sign ≤ .002"),
    7: ("equal arms at 90/10, p = .01", "raw: contrast; ≤ .05"),
    8: (".60 vs .66 at 90/10, 10 000 in all", "why ramp, not weight"),
    9: ("four equal arms, α/3, e-process", "≤ .05"),
    10: ("Thompson, equal arms, base rate .4 → .7, 20 × 100", "pooled: contrast; ≤ .05"),
    11: ("Thompson, equal arms .5, 50 × 20, no floor: least-pulled arm", "contrast"),
    12: ("400 users with unequal turns, once", "per turn: contrast; ≈ α"),
    13: ("2 000 such users, 20 looks", "z: contrast; ≤ .05"),
    14: ("lognormal σ = 2 at 90/10", "raw: contrast; ≤ .05"),
    15: ("sample ratio, 50/50, 10 000 units, look every 100", "e-value ≤ .001"),
    16: ("sample ratio, 54/46", "power"),
    17: ("best arm, ε = .05", "raw: contrast; ≤ δ"),
    18: ("equivalence ±.05", "≤ .05"),
    19: ("harm stop, margin .02", "≤ .05"),
    20: ("CUPED", "√(1 − ρ²)"),
    21: ("empirical-Bernstein misses", "≤ .05"),
    22: ("racing, 16 candidates .60 to .80", "≤ δ"),
    23: ("assignment of units", "assignment"),
}
POWER = ((0.02, 0.03), (0.30, 0.33), (0.30, 0.36), (0.60, 0.63), (0.60, 0.66), (0.60, 0.70), (0.90, 0.93))

Simulation = Callable[[np.random.Generator, int, float], Iterable[Measured]]


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    setting: str
    law: str
    measured: tuple[Measured, ...]

    @property
    def fits(self) -> bool:
        return all(one.fits for one in self.measured)


@dataclass(frozen=True, slots=True)
class Power:
    """The chance that the e-process finds a difference within so many units per arm."""

    control: float
    arm: float
    within: tuple[tuple[int, float], ...]
    median: float  # units per arm at the finding; infinite when most runs find nothing
    sequence_median: float


FAST: dict[int, Simulation] = {
    6: rates.better_arm,
    7: rates.uneven,
    8: rates.uneven_power,
    9: rates.four_arms,
    15: rates.even_shares,
    16: rates.lost_units,
    18: rates.equivalence,
    19: rates.harm,
}
SLOW: dict[int, Simulation] = {
    10: allocation.drifting,
    11: allocation.least_pulled,
    12: means.ratio_once,
    13: means.ratio_looks,
    14: means.heavy_tails,
    17: allocation.leaders,
    20: means.covariates,
    21: means.bounded_mean,
}


def rows(runs: int = RUNS, *, units: int = 1_000_000) -> Iterator[Row]:
    """Every row in order, as it is measured; fewer runs than 4000 widen the tolerances twofold."""
    widen = 1.0 if runs >= RUNS else 2.0
    equal = rates.equal_arms(np.random.default_rng(1), runs, widen)
    yield from starmap(_row, equal.items())
    for number in range(6, 22):
        simulate = FAST.get(number) or SLOW[number]
        many = runs if number in FAST else min(runs, SLOW_RUNS)
        yield _row(number, simulate(np.random.default_rng(number), many, widen))
    yield _row(22, allocation.races(np.random.default_rng(22), max(1, RACES * runs // RUNS), widen))
    yield _row(23, allocation.assignments(units))


def power_table(runs: int = RUNS) -> Iterator[Power]:
    """For planning: 20 000 units per arm at most, a look every 50."""
    random, limits = np.random.default_rng(99), (1000, 2500, 5000, 10_000, 20_000)
    for control, arm in POWER:
        counts = draw(random, min(runs, SLOW_RUNS), (control, arm), looks=400)
        found = e_rejects(counts)
        within = tuple((limit, ever(found[:, : limit // 50])) for limit in limits)
        sequence = sequence_rejects(counts, 5000)
        yield Power(control, arm, within, median_stop(found, 50), median_stop(sequence, 50))


def _row(number: int, measured: Iterable[Measured]) -> Row:
    return Row(number, *SETTINGS[number], tuple(measured))
