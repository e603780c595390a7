"""Rows 1 to 9, 15, 16, 18 and 19: success rates and sample ratios."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from prompts.analysis import sample_ratio
from prompts.analysis.simulations.counts import (
    ALPHA,
    Counts,
    draw,
    e_rejects,
    interval,
    raw_sequence_rejects,
    sequence_rejects,
    z_rejects,
)
from prompts.analysis.simulations.measured import Measured, at_least, at_most, ever, median_stop, near

Random = np.random.Generator
EXPECTED = 5000  # N*


def equal_arms(random: Random, runs: int, widen: float) -> dict[int, list[Measured]]:
    """Rows 1 to 5."""
    rows: dict[int, list[Measured]] = {row: [] for row in range(1, 6)}
    for rate, peeking, once, wide, narrow, exact in (
        (0.5, 0.381, 0.050, 0.020, 0.023, 0.023),
        (0.03, 0.362, 0.051, 0.015, 0.009, 0.025),
    ):
        counts, p = draw(random, runs, (rate, rate)), f"p = {rate:g}"
        z = z_rejects(counts)
        rows[1].append(near(p, ever(z), peeking, 0.031, widen))
        rows[2].append(near(p, float(z[:, -1].mean()), once, 0.014, widen))
        rows[3].append(near(p, ever(sequence_rejects(counts, 5000)), wide, 0.009, widen))
        rows[4].append(near(p, ever(sequence_rejects(counts, 500)), narrow, 0.010, widen))
        rows[5].append(near(p, ever(e_rejects(counts)), exact, 0.010, widen))
    return rows


def better_arm(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 6."""
    counts = draw(random, runs, (0.60, 0.66))
    s, n = counts.running
    wrong = s[..., 1] / n[:, 1] < s[..., 0] / n[:, 0]
    for name, rejects, median, power, wrong_sign in (
        ("z peeking", z_rejects(counts), 350, 0.995, 0.008),
        ("sequence", sequence_rejects(counts, EXPECTED), 1150, 0.995, 0.002),
        ("e-process", e_rejects(counts), 1200, 0.99, 0.002),
    ):
        yield near(f"{name}, median units per arm", median_stop(rejects, 50), median, 100, widen)
        yield at_least(f"{name}, power", ever(rejects), power, widen)
        first = rejects.argmax(axis=1)
        flipped = rejects.any(axis=1) & wrong[np.arange(runs), first]
        found = float(flipped.mean())
        if name == "z peeking":
            yield near(f"{name}, wrong sign", found, wrong_sign, 0.006, widen)
        else:
            yield at_most(f"{name}, wrong sign", found, wrong_sign, widen)


def uneven(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 7."""
    counts = draw(random, runs, (0.01, 0.01), (90, 10))
    yield near("raw sequence", ever(raw_sequence_rejects(counts, EXPECTED)), 0.29, 0.03, widen)
    yield at_most("guarded sequence", ever(sequence_rejects(counts, EXPECTED)), 0.005, widen)
    yield near("e-process", ever(e_rejects(counts)), 0.021, 0.010, widen)


def uneven_power(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 8."""
    counts = draw(random, runs, (0.60, 0.66), (90, 10))
    yield near("e-process", ever(e_rejects(counts)), 0.70, 0.03, widen)
    yield near("sequence", ever(sequence_rejects(counts, EXPECTED)), 0.84, 0.03, widen)


def four_arms(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 9."""
    counts = draw(random, runs, (0.5,) * 4, (50,) * 4)
    pairs = [e_rejects(counts.pair(0, arm), ALPHA / 3).any(axis=1) for arm in (1, 2, 3)]
    yield near("any of three against control", float(np.any(pairs, axis=0).mean()), 0.020, 0.009, widen)


def _arrivals(random: Random, runs: int, share: float) -> np.ndarray:
    """Running counts of two arms, a look every 100 of 10,000 units."""
    first = draw(random, runs, (share,), (100,)).successes[..., 0].cumsum(axis=1)
    return np.stack([first, 100 * np.arange(1, 101) - first], axis=-1)


def even_shares(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 15."""
    counts, shares = _arrivals(random, runs, 0.5), (0.5, 0.5)
    p = sample_ratio.chi_square_p(counts, shares) < 1 / sample_ratio.ALARM
    e = sample_ratio.log_e(counts, shares) >= np.log(sample_ratio.ALARM)
    yield near("χ² once", float(p[:, -1].mean()), 0.001, 0.002, widen)
    yield near("χ² at every look", ever(p), 0.015, 0.008, widen)
    yield at_most("e-value", ever(e), 0.001, widen)


def lost_units(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 16."""
    e = sample_ratio.log_e(_arrivals(random, runs, 0.54), (0.5, 0.5)) >= np.log(sample_ratio.ALARM)
    yield near("alarm by 5 000 units", ever(e[:, :50]), 0.94, 0.02, widen)
    yield at_least("alarm by 10 000 units", ever(e), 0.999, widen)
    yield near("median units", median_stop(e, 100), 2600, 300, widen)


def equivalence(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 18, over 10 000 units per arm."""

    def inside(counts: Counts) -> np.ndarray:
        difference, width, shown = interval(counts, EXPECTED)
        return (np.abs(difference) + width < 0.05) & shown

    yield near("truth at .05", ever(inside(draw(random, runs, (0.5, 0.55), looks=200))), 0.008, 0.006, widen)
    equal = inside(draw(random, runs, (0.5, 0.5), looks=200))
    yield at_least("truth at 0", ever(equal), 0.99, widen)
    yield near("truth at 0, median units per arm", median_stop(equal, 50), 2550, 200, widen)


def harm(random: Random, runs: int, widen: float) -> Iterator[Measured]:
    """Row 19: E ≥ 1/α and the arm worse than control by more than .02."""

    def stopped(control: float, arm: float) -> np.ndarray:
        counts = draw(random, runs, (control, arm))
        s, n = counts.running
        return e_rejects(counts) & (s[..., 1] / n[:, 1] - s[..., 0] / n[:, 0] < -0.02)

    yield near("no harm", ever(stopped(0.30, 0.30)), 0.012, 0.007, widen)
    for control, arm, median in ((0.30, 0.24, 1000), (0.99, 0.70, 100)):
        stop, name = stopped(control, arm), f"{control:.2f} → {arm:.2f}"
        yield at_least(name, ever(stop), 0.99, widen)
        yield near(f"{name}, median units per arm", median_stop(stop, 50), median, median / 10, widen)
