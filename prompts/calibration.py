"""Label scores become probabilities, freed of what the prompt alone makes likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

CONTENT_FREE = ("N/A", "", "[MASK]")  # the inputs of contextual calibration (arXiv 2102.09690)
BATCH_LEAST = 64  # questions below which a batch mean is too noisy to divide by
BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # the temperatures that are looked at

Array = NDArray[np.float64]
Columns = NDArray[np.int64]


def probabilities(logprobs: Sequence[float] | Sequence[Sequence[float]] | Array) -> Array:
    """Softmax over the last axis: p(y) = exp s(y) / sum exp s; rows sum to 1."""
    return cast(Array, np.exp(_normalised(logprobs)))


def mean_probabilities(logprobs: Sequence[Sequence[float]] | Array) -> Array:
    """p-bar, shape (labels,): the mean of p over prompts, shape (n, labels).

    Over the CONTENT_FREE inputs this is contextual calibration (arXiv 2102.09690); over at least
    BATCH_LEAST real questions, batch calibration (arXiv 2309.17249).
    """
    return cast(Array, probabilities(logprobs).mean(axis=0))


def calibrated(
    logprobs: Sequence[float] | Sequence[Sequence[float]] | Array,
    mean: Sequence[float] | Array,
    shares: Sequence[float] | Array | None = None,
) -> Array:
    """softmax(ln p(y) - ln p-bar(y) + ln pi(y)) over the last axis.

    `mean` is p-bar; `shares` is pi, the share of each label where it is known, uniform by default. Without
    it a skewed stream is pulled towards uniform.
    """
    scores = _normalised(logprobs) - np.log(np.asarray(mean, dtype=np.float64))
    if shares is not None:
        scores = scores + np.log(np.asarray(shares, dtype=np.float64))
    return probabilities(scores)


def tempered(shares: Sequence[Sequence[float]] | Array, temperature: float) -> Array:
    """softmax(ln p / T) over the last axis: above 1 less sure, below 1 surer; the ranking stays."""
    return probabilities(_logs(shares) / temperature)


def best_temperature(shares: Sequence[Sequence[float]] | Array, gold: Sequence[int] | Columns) -> float:
    """The T at which `tempered(shares, T)` gives the labels `gold` the least negative log likelihood.

    `shares` has the shape (n, labels), `gold` (n,) holds columns (Guo et al., arXiv 1706.04599). The
    likelihood is convex in 1/T, so its slope is bisected; T stays within COLDEST..HOTTEST, and is 1 without
    items.
    """
    logs, right = _logs(shares), np.asarray(gold, dtype=np.int64)
    if not len(right):
        return 1.0
    picked = logs[np.arange(len(right)), right]

    def slope(sharpness: float) -> float:
        return float(((probabilities(logs * sharpness) * logs).sum(axis=-1) - picked).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(1 / (low * high) ** 0.5)


def calibration_error(
    shares: Sequence[Sequence[float]] | Array, gold: Sequence[int] | Columns, bins: int = BINS
) -> float:
    """ECE = Σ_b (n_b/n)·|accuracy_b − confidence_b| over bins of equal count, by confidence.

    `shares` are probabilities, shape (n, labels); the confidence is that of the likeliest label. Items fill
    the bins in order of confidence, ties in their own order. NaN without items.
    """
    table = np.asarray(shares, dtype=np.float64)
    confidence = table.max(axis=-1)
    right = (table.argmax(axis=-1) == np.asarray(gold)).astype(np.float64)
    if not len(right):
        return float("nan")
    order = np.argsort(confidence, kind="stable")
    gaps = [part.sum() for part in np.array_split((right - confidence)[order], min(bins, len(right)))]
    return float(np.abs(gaps).sum() / len(right))


def _logs(shares: Sequence[Sequence[float]] | Array) -> Array:
    return cast(Array, np.log(np.maximum(np.asarray(shares, dtype=np.float64), np.finfo(np.float64).tiny)))


def _normalised(logprobs: Sequence[float] | Sequence[Sequence[float]] | Array) -> Array:
    """Log probabilities among the labels alone; shifted by the largest, so that nothing overflows."""
    scores = np.asarray(logprobs, dtype=np.float64)
    scores = scores - scores.max(axis=-1, keepdims=True)
    return cast(Array, scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
