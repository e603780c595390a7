"""Scores → accuracies and calibration errors, each with its interval, and the paired differences.

Intervals: 95 %, bootstrap over items, and over seeds within an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.few_shot import interval
from bench.icl.conditions import Condition
from prompts.calibration import (
    BINS,
    calibrated,
    calibration_error,
    mean_probabilities,
    probabilities,
)
from prompts.calibrator import cross_fitted

ERROR_RESAMPLES = 500
SEED = 7
Table = NDArray[np.float64]


class Measured(NamedTuple):
    """One condition's scores; a row of logprobs for each seed."""

    condition: Condition
    logprobs: Table  # (seeds, items, labels)
    tokens: float  # mean of a prompt
    vote: float | None  # accuracy of the demos' most frequent label; None without demos


def judged(name: str, gold: NDArray[np.int64], measured: Sequence[Measured]) -> dict[str, Any]:
    """The figures of one pack.

    `batch` divides by the mean probabilities of the same questions (no labels are seen), `calibrated`
    moreover has a temperature, fitted on the other items' labels.
    """
    raw = {one.condition.key: probabilities(one.logprobs) for one in measured}
    batch = {
        key: np.stack([calibrated(np.log(seed), mean_probabilities(np.log(seed))) for seed in table])
        for key, table in raw.items()
    }
    whole = {key: np.stack([cross_fitted(seed, gold) for seed in table]) for key, table in batch.items()}
    right = {key: _right(table, gold) for key, table in raw.items()}
    right_batch = {key: _right(table, gold) for key, table in batch.items()}
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    lowered: list[Table] = []  # draws of each condition's calibrated − raw, of the same items in every row
    for one in measured:
        key = one.condition.key
        errors, draws = errors_of(raw[key], {"batch": batch[key], "calibrated": whole[key]}, gold)
        lowered.append(draws["calibrated"] - draws["raw"])
        rows.append(
            {
                "condition": one.condition.name,
                "shots": one.condition.shots,
                "accuracy": interval(right[key]),
                "batch_accuracy": interval(right_batch[key]),
                "batch - raw": interval(right_batch[key], right[key]),
                "per_seed": right[key].mean(axis=1).tolist(),
                "error": errors,
                "tokens": one.tokens,
                "vote": one.vote,
            }
        )
        against = f"random {one.condition.shots}"
        if one.condition.shots and key != against:
            differences.append(
                {
                    "condition": one.condition.name,
                    "shots": one.condition.shots,
                    "raw": interval(right[key], right[against]),
                    "batch": interval(right_batch[key], right_batch[against]),
                    "zero-shot": interval(right[key], right["zero-shot"]),
                }
            )
    gains = {
        way: interval(_over_shots(measured, table, "nearest"), _over_shots(measured, table, "random"))
        for way, table in (("raw", right), ("batch", right_batch))
    }
    change = float(np.mean([row["error"]["calibrated - raw"][0] for row in rows]))
    fall = (change, *_ends(np.mean(lowered, axis=0)))
    return {
        "pack": name,
        "items": len(gold),
        "rows": rows,
        "against_random": differences,
        "nearest - random": gains,
        "calibrated - raw": fall,
        "nearest_beats_random": gains["raw"][1] > 0,
        "calibration_lowers_error": fall[2] < 0,
    }


def _over_shots(measured: Sequence[Measured], right: Mapping[str, Table], condition: str) -> Table:
    """The mean over numbers of demonstrations, of the shape (seeds, items)."""
    keys = [one.condition.key for one in measured if one.condition.name == condition]
    return np.asarray(np.mean([right[key] for key in keys], axis=0))


def errors_of(
    raw: Table, ways: Mapping[str, Table], gold: NDArray[np.int64]
) -> tuple[dict[str, Any], dict[str, Table]]:
    """Expected calibration errors (mean, low, high) of probabilities of the shape (seeds, items, labels).

    Means over seeds; the differences are paired: the same items drawn again for both. Also the draws
    themselves, one error a resample, which draws the same items whatever the probabilities are.
    """
    tables = {"raw": raw, **ways}
    parts = {name: [_confidence(seed, gold) for seed in table] for name, table in tables.items()}
    means = {
        name: float(np.mean([calibration_error(seed, gold) for seed in table]))
        for name, table in tables.items()
    }
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(len(gold), size=(ERROR_RESAMPLES, len(gold)))
    draws = {
        name: np.mean([_errors(confidence[drawn], hit[drawn]) for confidence, hit in seeds], axis=0)
        for name, seeds in parts.items()
    }
    found: dict[str, Any] = {name: (means[name], *_ends(draws[name])) for name in tables}
    for name in ways:
        difference = draws[name] - draws["raw"]
        found[f"{name} - raw"] = (means[name] - means["raw"], *_ends(difference))
    return found, draws


def _confidence(shares: Table, gold: NDArray[np.int64]) -> tuple[Table, Table]:
    return shares.max(axis=-1), (shares.argmax(axis=-1) == gold).astype(np.float64)


def _errors(confidence: Table, hit: Table) -> Table:
    """`calibration_error` of every row at once; both of the shape (resamples, items)."""
    order = np.argsort(confidence, axis=1, kind="stable")
    gaps = np.take_along_axis(hit - confidence, order, axis=1)
    parts = np.array_split(gaps, min(BINS, gaps.shape[1]), axis=1)
    return np.asarray(np.abs([part.sum(axis=1) for part in parts]).sum(axis=0) / gaps.shape[1])


def _right(shares: Table, gold: NDArray[np.int64]) -> Table:
    return np.asarray(shares.argmax(axis=-1) == gold, dtype=np.float64)


def _ends(draws: Table) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def agreement(first: Table, second: Table) -> dict[str, float]:
    """Two scorers on the same prompts, both of the shape (prompts, labels)."""
    return {
        "prompts": len(first),
        "same_argmax": float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
        "largest_difference": float(np.abs(first - second).max()),
    }
