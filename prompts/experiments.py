"""Which arm a unit meets: a function of salt, name and unit, the same on every replica, with nothing stored.

Neither numpy nor scipy is imported here: this runs in front of every request.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import replace

from prompts.errors import ExperimentChanged
from prompts.experiment_records import Arm, Assignment, Experiment, Frozen, Phase

NEVER_CHANGED = ("name", "salt", "unit", "control", "mode", "slice", "metrics", "decide")


def assign(experiment: Experiment, unit: str, seen: Assignment | None = None) -> Assignment:
    """The arm of a unit. One that is not enrolled is served the control arm, and counts nowhere.

    `seen` is the unit's first exposure, if any: weights that moved since (thompson) do not move the unit.
    """
    if seen is not None:
        return seen
    if position(experiment, "ramp", unit) >= experiment.ramp:
        return Assignment(experiment.control, 1.0, False, False, experiment.phase)
    uniform = experiment.slice > 0 and position(experiment, "slice", unit) < experiment.slice
    even = 1 / len(experiment.arms)
    at, sum_ = position(experiment, "arm", unit), 0.0
    chosen = experiment.arms[-1]  # weights that add up to a hair less than 1 leave a gap at the end
    for arm in experiment.arms:
        sum_ += even if uniform else arm.weight
        if at < sum_:
            chosen = arm
            break
    return Assignment(chosen.name, even if uniform else chosen.weight, True, uniform, experiment.phase)


def position(experiment: Experiment, purpose: str, unit: str) -> float:
    """Where the unit lies in [0, 1): the first 53 of 64 bits of a salted hash, so it never rounds to 1."""
    parts = (experiment.salt, experiment.name, purpose, unicodedata.normalize("NFC", unit))
    hashed = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return float((int.from_bytes(hashed[:8], "big") >> 11) / 2**53)


def freeze(arm: Arm, digests: Mapping[str, str]) -> Frozen:
    """The arm as it will run; `digests` are those of its template, pool, generation, adapter, calibrator."""
    return Frozen(arm.name, arm.weight, {"recipe": arm.digest, **digests})


def next_phase(experiment: Experiment, arms: tuple[Frozen, ...], at: float, current: Phase | None) -> Phase:
    """The phase these arms belong to: the current one, or a new one when a weight or a digest differs.

    Raises ExperimentChanged when an arm came or went: that is a new experiment, with a new salt.
    """
    arms = tuple(sorted(arms, key=lambda arm: arm.name))
    if current is None:
        return Phase(1, at, arms)
    names, were = [arm.name for arm in arms], [arm.name for arm in current.arms]
    if names != were:
        raise ExperimentChanged(
            experiment.name,
            [f"its arms are {', '.join(were)}, not {', '.join(names)}: start another, with a fresh salt"],
        )
    return current if arms == current.arms else Phase(current.number + 1, at, arms)


def in_phase(experiment: Experiment, phase: Phase) -> Experiment:
    """The experiment with the weights and the number of a phase."""
    weights = {arm.name: arm.weight for arm in phase.arms}
    arms = tuple(replace(arm, weight=weights[arm.name]) for arm in experiment.arms)
    return replace(experiment, arms=arms, phase=phase.number)


def check_change(running: Experiment, edited: Experiment) -> None:
    """Raises ExperimentChanged when an edited file would spoil the running experiment, naming every reason.

    Weights and recipes may change (a new phase); the ramp may grow.
    """
    problems = [
        f"{name} cannot change while it runs: start another experiment, with a fresh salt"
        for name in NEVER_CHANGED
        if getattr(running, name) != getattr(edited, name)
    ]
    if [arm.name for arm in running.arms] != [arm.name for arm in edited.arms]:
        problems.append("arms cannot come or go while it runs: start another experiment, with a fresh salt")
    if edited.ramp < running.ramp:
        problems.append(
            f"the ramp may only grow: it is {running.ramp:g}, and units that were enrolled would leave at "
            f"{edited.ramp:g}; `fewshot experiment stop` ends it"
        )
    if problems:
        raise ExperimentChanged(running.name, problems)
