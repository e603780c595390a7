"""The sample-ratio check on a log: do the arms get, and do they hear from, the units they should?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prompts.analysis.sample_ratio import ALARM, chi_square_p, log_e
from prompts.experiment_records import Experiment, Phase

LOOK_UNITS = 100


@dataclass(frozen=True, slots=True)
class Shares:
    """Counts of units by phase and arm, and the evidence that they do not follow the weights."""

    counts: Mapping[int, tuple[int, ...]]  # phase → units of each arm, in the experiment's order
    at: NDArray[np.float64]  # of each look, seconds since the epoch
    log_e: NDArray[np.float64]  # of each look; the last is of all units
    p: float  # chi-square of all units, for one look at the end; the smallest of the phases

    @property
    def alarm(self) -> bool:
        return self.alarm_at is not None

    @property
    def alarm_at(self) -> float | None:
        over = np.flatnonzero(self.log_e >= np.log(ALARM))
        return float(self.at[over[0]]) if over.size else None

    @property
    def e_value(self) -> float:
        return float(np.exp(min(self.log_e[-1], 700.0))) if self.log_e.size else 1.0

    @property
    def totals(self) -> tuple[int, ...]:
        return tuple(sum(column) for column in zip(*self.counts.values(), strict=True))


def shares_of(
    experiment: Experiment, phases: Sequence[Phase], seen: Iterable[tuple[float, int, str]]
) -> Shares:
    """`seen` is (when, phase, arm) of every unit, in time order. One E for each phase, multiplied."""
    names = [arm.name for arm in experiment.arms]
    place = {name: at for at, name in enumerate(names)}
    theta = {phase.number: _expected(experiment, phase) for phase in phases}
    counts: dict[int, NDArray[np.float64]] = {}
    ats: list[float] = []
    logs: list[float] = []
    number, at = 0, 0.0
    for number, (at, phase_number, arm) in enumerate(seen, 1):
        counts.setdefault(phase_number, np.zeros(len(names)))[place[arm]] += 1
        if number % LOOK_UNITS == 0:
            ats.append(at)
            logs.append(_evidence(counts, theta))
    if number % LOOK_UNITS:
        ats.append(at)
        logs.append(_evidence(counts, theta))
    p = min((float(chi_square_p(of, theta[one])) for one, of in counts.items()), default=1.0)
    told = {one: tuple(int(count) for count in of) for one, of in sorted(counts.items())}
    return Shares(told or {1: (0,) * len(names)}, np.array(ats), np.array(logs), p)


def _evidence(counts: Mapping[int, NDArray[np.float64]], theta: Mapping[int, NDArray[np.float64]]) -> float:
    return float(sum(log_e(of, theta[phase]) for phase, of in counts.items()))


def _expected(experiment: Experiment, phase: Phase) -> NDArray[np.float64]:
    """The share of each arm among the enrolled: its weight, and evenly within the uniform slice."""
    weights = {arm.name: arm.weight for arm in phase.arms}
    own = np.array([weights[arm.name] for arm in experiment.arms])
    return experiment.slice / len(own) + (1 - experiment.slice) * own
