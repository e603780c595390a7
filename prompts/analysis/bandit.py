"""Thompson weights: more traffic for the arm that is likely to be best, with a floor for each."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
FLOOR = 0.05
DRAWS = 10_000
LEAST_UNITS = 100  # closed units in a phase, before the next one


class Replay(NamedTuple):
    """What another policy would have earned on logged turns."""

    value: float
    effective_units: float


def phase_seed(salt: str, phase: int) -> int:
    """The seed of a phase's draws: every replica computes the same weights."""
    return int.from_bytes(hashlib.sha256(f"{salt}\x1f{phase}".encode()).digest()[:8], "big")


def thompson_weights(
    successes: ArrayLike, units: ArrayLike, *, seed: int, floor: float = FLOOR, draws: int = DRAWS
) -> Floats:
    """Weights of K arms, which add up to 1: f + (1 − K f) × the share of draws that each wins.

    Draws are of Beta(1 + successes, 1 + failures); the last axis is the arms. A floor that is mixed in keeps
    every propensity known and positive; clipping and rescaling would be biased.
    """
    s, n = np.asarray(successes, float), np.asarray(units, float)
    arms = s.shape[-1]
    drawn = np.random.default_rng(seed).beta(1 + s, 1 + n - s, (draws, *s.shape))
    wins = (drawn.argmax(axis=-1)[..., None] == np.arange(arms)).mean(axis=0)
    weights: Floats = floor + (1 - arms * floor) * wins
    return weights


def replay(values: ArrayLike, logged: ArrayLike, wanted: ArrayLike) -> Replay:
    """The self-normalised estimate Σ w r / Σ w, w = wanted / logged probability of the arm served."""
    w = np.asarray(wanted, float) / np.asarray(logged, float)
    return Replay(float((w * np.asarray(values, float)).sum() / w.sum()), float(w.sum() ** 2 / (w**2).sum()))
