"""What a pool's labels teach about its vectors: how likely each label is, by linear discriminant analysis.

Sentence vectors put texts side by side that share a topic. Where the labels cut across topics, as moods do,
such neighbours show labels at random; two texts that are as likely to carry each label are the better pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

LEAST = 16  # demos of every label below which there is nothing to learn from

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


class Discriminant:
    """Class-conditional Gaussians with one covariance, so that ln p(label | x) is linear in x."""

    def __init__(self, vectors: Vectors, labels: Sequence[str]) -> None:
        """`vectors` has the shape (n, d); `labels` names each row's, at least two different ones."""
        self.labels = tuple(sorted(set(labels)))
        rows = np.searchsorted(np.array(self.labels), np.array(labels))
        points = vectors.astype(np.float64)
        means = np.stack([points[rows == at].mean(axis=0) for at in range(len(self.labels))])
        shares = np.bincount(rows) / len(rows)
        self._weights = np.linalg.solve(_covariance(points - means[rows]), means.T)
        self._bias = np.log(shares) - 0.5 * np.einsum("cd,dc->c", means, self._weights)

    def probabilities(self, vectors: Vectors) -> Array:
        """p(label | x), shape (n, labels), in the order of `labels`; rows sum to 1."""
        scores = vectors @ self._weights + self._bias
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return cast(Array, scores / scores.sum(axis=-1, keepdims=True))


class LabelNearness:
    """How near a pool's demos are to a question, by text and by what their labels say about the vectors."""

    def __init__(self, discriminant: Discriminant, vectors: Vectors, weight: float) -> None:
        """`vectors` are the pool's, shape (n, d); `weight` is the labels' part, 0..1."""
        self._discriminant = discriminant
        self._roots = np.sqrt(discriminant.probabilities(vectors))
        self._weight = weight

    def __call__(self, vector: Vectors, cosines: Vectors) -> Vectors:
        """(1 - weight) cos + weight sum sqrt(p q): never above 1, and 1 for the demo that is the question.

        The sum is the Bhattacharyya coefficient of the two texts' label probabilities. `cosines` are those
        of the question's `vector`, shape (d,), with the pool, shape (n,).
        """
        agreement = self._roots @ np.sqrt(self._discriminant.probabilities(vector[None])[0])
        nearness = (1 - self._weight) * cosines + self._weight * agreement
        return cast(Vectors, nearness.astype(np.float32))


def label_nearness(vectors: Vectors, labels: Sequence[str | None], weight: float) -> LabelNearness | None:
    """Learnt from the rows that carry a label; None when `weight` is 0 or the labels are too few.

    Too few: one label only, or fewer than LEAST rows of any, whose mean would be noise.
    """
    known = [at for at, label in enumerate(labels) if label is not None]
    names = [label for label in labels if label is not None]
    counts = Counter(names).values()
    if weight == 0 or len(counts) < 2 or min(counts) < LEAST:
        return None
    return LabelNearness(Discriminant(vectors[known], names), vectors, weight)


def _covariance(residuals: Array) -> Array:
    """Of rows of mean 0, shape (n, d), shrunk to a multiple of the identity (Ledoit & Wolf 2004)."""
    n, d = residuals.shape
    sample = residuals.T @ residuals / n
    level = float(np.trace(sample)) / d
    spread = float(np.square(sample).sum()) - d * level**2  # ‖sample - level·I‖²
    fourth = float(np.square(np.square(residuals).sum(axis=1)).mean())
    noise = (fourth - float(np.square(sample).sum())) / n
    share = min(1.0, noise / spread) if spread > 0 else 1.0
    return cast(Array, (1 - share) * sample + (share * level + 1e-9) * np.eye(d))
