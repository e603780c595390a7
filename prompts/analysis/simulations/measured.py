"""A number that a simulation found, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Measured:
    what: str
    found: float
    target: str  # as it is printed
    least: float
    most: float

    @property
    def fits(self) -> bool:
        return self.least <= self.found <= self.most


def near(what: str, found: float, value: float, tolerance: float, widen: float) -> Measured:
    """`widen` multiplies the tolerance, for fewer runs."""
    spread = tolerance * widen
    return Measured(what, found, f"{value:g} ± {spread:g}", value - spread, value + spread)


def at_most(what: str, found: float, bound: float, widen: float) -> Measured:
    return Measured(what, found, f"≤ {bound * widen:g}", -np.inf, bound * widen)


def at_least(what: str, found: float, bound: float, widen: float) -> Measured:
    """A share; `widen` multiplies its distance from 1."""
    least = 1 - (1 - bound) * widen
    return Measured(what, found, f"≥ {least:g}", least, np.inf)


def ever(rejected: NDArray[np.bool_]) -> float:
    """The share of runs, shape (runs, looks), that reject at any look."""
    return float(rejected.any(axis=1).mean())


def median_stop(rejected: NDArray[np.bool_], units_per_look: int) -> float:
    """Units at the first rejection, in the median; runs that never reject count as endless."""
    first = np.where(rejected.any(axis=1), rejected.argmax(axis=1) + 1.0, np.inf)
    return float(np.median(first) * units_per_look)
