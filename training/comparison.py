"""Intervals of rungs and of differences between them: the bootstrap over seeds and test items.

All rungs are scored on the same items, so a resample draws the same items for all of them (paired), and for
each rung its own seeds. Simultaneous bounds are of the studentised maximum over all differences (Romano and
Wolf 2005): with 95 % probability every one of them holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis.paired import Interval, holm, mean_interval, sign_flip
from training.records import Row, Run

DRAWS = 4_000
ALPHA = 0.05
Floats = NDArray[np.float64]


class Resamples(NamedTuple):
    """Mean scores of every rung in every draw, shape (draws, rungs), and as observed, shape (rungs,)."""

    rungs: tuple[str, ...]
    seen: Floats
    drawn: Floats


def resample(runs: Mapping[str, Sequence[Run]], *, draws: int = DRAWS, seed: int = 0) -> Resamples:
    """`runs` by rung, all over the same test items; a draw takes items and seeds with replacement."""
    scores = {rung: np.array([run.test for run in some], dtype=np.float64) for rung, some in runs.items()}
    return resample_scores(scores, draws=draws, seed=seed)


def resample_scores(scores: Mapping[str, Floats], *, draws: int = DRAWS, seed: int = 0) -> Resamples:
    """The same for graded scores: one matrix (seeds, items) per rung."""
    rungs = tuple(scores)
    items = next(iter(scores.values())).shape[1]
    if any(one.shape[1] != items for one in scores.values()):
        raise ValueError("rungs are compared on the same test items only")
    draw = np.random.default_rng(seed)
    drawn = np.empty((draws, len(rungs)))
    for number in range(draws):
        weight = np.bincount(draw.integers(0, items, items), minlength=items) / items
        for at, rung in enumerate(rungs):
            one = scores[rung]
            seeds = np.bincount(draw.integers(0, len(one), len(one)), minlength=len(one)) / len(one)
            drawn[number, at] = seeds @ (one @ weight)
    seen = np.array([scores[rung].mean() for rung in rungs])
    return Resamples(rungs, seen, drawn)


def interval(found: Resamples, rung: str, alpha: float = ALPHA) -> Interval:
    """Percentile interval of one rung's mean."""
    at = found.rungs.index(rung)
    low, high = np.quantile(found.drawn[:, at], [alpha / 2, 1 - alpha / 2])
    return Interval(float(found.seen[at]), float(low), float(high))


def against(found: Resamples, other: str, alpha: float = ALPHA) -> dict[str, Interval]:
    """rung − `other` for every other rung, with bounds that hold for all of them together."""
    at = found.rungs.index(other)
    rest = [number for number in range(len(found.rungs)) if number != at]
    if not rest:
        return {}
    seen = found.seen[rest] - found.seen[at]
    drawn = found.drawn[:, rest] - found.drawn[:, [at]]
    spread = drawn.std(axis=0, ddof=1)
    scaled = np.divide(np.abs(drawn - seen), spread, out=np.zeros_like(drawn), where=spread > 0)
    reach = float(np.quantile(scaled.max(axis=1), 1 - alpha)) * spread
    return {
        found.rungs[number]: Interval(float(mean), float(mean - wide), float(mean + wide))
        for number, mean, wide in zip(rest, seen, reach, strict=True)
    }


def paired_p(runs: Sequence[Run], others: Sequence[Run]) -> float:
    """Two-sided p that both score the same items alike, each item by its mean over seeds (`sign_flip`)."""
    return sign_flip(*(np.array([run.test for run in some], dtype=float).mean(0) for some in (runs, others)))


def items_needed(seen: Interval, limit: float, items: int) -> float:
    """Test items after which a difference like this one is told from `limit`; infinite where it is the limit.

    An interval narrows with the square root of the items, and must end before it reaches the limit.
    """
    reach, away = (seen.high - seen.low) / 2, abs(seen.mean - limit)
    return items * (reach / away) ** 2 if away else math.inf


def best_prompt(rows: Sequence[Row]) -> Row | None:
    """The rung without anything learned whose validation score is highest; None when none ran."""
    prompts = [row for row in rows if row.runs and not row.runs[0].cost.trainable]
    return max(prompts, key=lambda row: np.mean([run.valid for run in row.runs]), default=None)


def against_prompt(rows: Sequence[Row], prompt: Row) -> dict[str, dict[str, Any]]:
    """Each trained rung against that prompt on the same items: difference, interval, p (Holm's)."""
    trained = [row for row in rows if row.runs and row.runs[0].cost.trainable]
    corrected = holm([paired_p(row.runs, prompt.runs) for row in trained])
    found = {}
    for row, p in zip(trained, corrected, strict=True):
        mine, theirs = (np.array([run.test for run in one.runs]).mean(0) for one in (row, prompt))
        found[row.rung] = {"difference": mean_interval(mine, theirs), "p": p}
    return found
