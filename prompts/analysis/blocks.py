"""Looks at an experiment happen when a block closes: a function of the log, so that all looks agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from prompts.experiment_records import Experiment, Outcome, Phase

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LAG_SECONDS = 5.0  # within which every replica has followed to the next phase
NO_ENDS: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Blocks:
    """The closed blocks of one metric, in the order of their closing, with the sums of each.

    `sums` has shape (blocks, arms, 6): units, Σy, Σt, Σy², Σt², Σyt. `slice_sums` are those of the uniform
    slice alone. The outcomes of block b are `members[b]`.
    """

    arms: tuple[str, ...]
    closed_at: Floats  # shape (blocks,), seconds since the epoch
    phase: Ints  # shape (blocks,)
    sums: Floats
    slice_sums: Floats
    members: tuple[Ints, ...]  # indices of the outcomes

    def __len__(self) -> int:
        return len(self.closed_at)


def phase_ends(phases: Sequence[Phase], window_hours: float) -> Mapping[int, float]:
    """When the last window of each phase but the newest has closed for certain."""
    return {
        phase.number: after.started + LAG_SECONDS + window_hours * 3600 for phase, after in pairwise(phases)
    }


def blocks_of(
    experiment: Experiment, outcomes: Sequence[Outcome], now: float, ends: Mapping[int, float] = NO_ENDS
) -> Blocks:
    """A block closes when every arm has `block_units` newly closed units; in a bandit, when its phase does:
    at the time that `ends` gives it.

    Blocks never reach across phases: the arms' shares would then follow the base rate.
    """
    arms = tuple(arm.name for arm in experiment.arms)
    place = {name: at for at, name in enumerate(arms)}
    order = sorted(range(len(outcomes)), key=lambda at: (outcomes[at].closed_at, outcomes[at].unit))
    found: list[tuple[float, int, list[int]]] = []
    if experiment.mode == "thompson":
        by_phase: dict[int, list[int]] = {}
        for at in order:
            by_phase.setdefault(outcomes[at].phase, []).append(at)
        found = [
            (ends[phase], phase, members)
            for phase, members in by_phase.items()
            if ends.get(phase, float("inf")) <= now
        ]
    else:
        least = experiment.decide.block_units
        waiting: dict[int, tuple[list[int], list[int]]] = {}
        for at in order:
            outcome = outcomes[at]
            members, counts = waiting.setdefault(outcome.phase, ([], [0] * len(arms)))
            members.append(at)
            counts[place[outcome.arm]] += 1
            if min(counts) >= least:
                found.append((outcome.closed_at, outcome.phase, members))
                del waiting[outcome.phase]
    found.sort(key=lambda block: (block[0], block[1]))
    sums = np.zeros((len(found), len(arms), 6))
    slice_sums = np.zeros_like(sums)
    for number, (_, _, members) in enumerate(found):
        chosen = [outcomes[at] for at in members]
        arm = np.array([place[one.arm] for one in chosen])
        uniform = np.array([one.slice for one in chosen])
        y = np.array([one.value for one in chosen])
        t = np.array([one.over for one in chosen])
        columns = np.stack([np.ones_like(y), y, t, y * y, t * t, y * t], axis=1)
        np.add.at(sums[number], arm, columns)
        np.add.at(slice_sums[number], arm[uniform], columns[uniform])
    return Blocks(
        arms=arms,
        closed_at=np.array([at for at, _, _ in found]),
        phase=np.array([phase for _, phase, _ in found], dtype=np.int64),
        sums=sums,
        slice_sums=slice_sums,
        members=tuple(np.array(members, dtype=np.int64) for _, _, members in found),
    )
