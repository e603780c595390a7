"""Label scores become probabilities, freed of what the prompt alone makes likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

CONTENT_FREE = ("N/A", "", "[MASK]")  # the inputs of contextual calibration (arXiv 2102.09690)
BATCH_LEAST = 64  # questions below which a batch mean is too noisy to divide by

Array = NDArray[np.float64]


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


def _normalised(logprobs: Sequence[float] | Sequence[Sequence[float]] | Array) -> Array:
    """Log probabilities among the labels alone; shifted by the largest, so that nothing overflows."""
    scores = np.asarray(logprobs, dtype=np.float64)
    scores = scores - scores.max(axis=-1, keepdims=True)
    return cast(Array, scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
