"""What counting words says of an answer, without a network: the baselines of a reward model.

Length is what a reward model learns first and should not stop at (Singhal et al. 2023, arXiv 2310.03716); the
share of an answer's words and word groups that stand in its prompt says how grounded it is (extractive
coverage and density, Grusky et al. 2018).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.preferences import Question

Floats = NDArray[np.float64]
FEATURES = ("log words", "words found", "pairs found", "triples found", "words not found", "repeated triples")
RIDGE = 1.0  # of the weights of standardised features
NEWTON_STEPS = 25


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def overlap(prompt: str, answer: str) -> Floats:
    """`FEATURES` of one answer, shape (6,); shares of an empty answer are 0."""
    said, given = words(answer), words(prompt)
    found = np.zeros(len(FEATURES))
    found[0] = np.log1p(len(said))
    for n in (1, 2, 3):
        groups = _groups(said, n)
        there = set(_groups(given, n))
        inside = sum(one in there for one in groups)
        found[n] = inside / len(groups) if groups else 0.0
        if n == 1:
            found[4] = np.log1p(len(groups) - inside)
        if n == 3 and groups:
            found[5] = 1 - len(set(groups)) / len(groups)
    return found


def of_questions(questions: Sequence[Question]) -> list[Floats]:
    """One matrix (answers, 6) a question."""
    return [np.array([overlap(one.asked, answer) for answer in one.answers]) for one in questions]


def fitted(features: Sequence[Floats], questions: Sequence[Question]) -> Floats:
    """Weights w, shape (6,), of P(a before b) = σ(w·(x_a − x_b)) (Bradley and Terry), ridge, by Newton."""
    differences = np.array(
        [
            table[better] - table[worse]
            for table, one in zip(features, questions, strict=True)
            for better, worse in one.pairs
        ]
    )
    weights = np.zeros(differences.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(differences @ weights, -500, 500)))
        gradient = differences.T @ (1 - chance) - RIDGE * weights
        curvature = (differences * (chance * (1 - chance))[:, None]).T @ differences
        weights += np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
    return weights


def _groups(said: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(said[at:] for at in range(n)), strict=False))
