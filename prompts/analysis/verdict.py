"""What an experiment says: a function of its log, the same at whatever time somebody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from prompts.analysis.best_arm import best_rate
from prompts.analysis.blocks import Blocks, blocks_of, phase_ends
from prompts.analysis.effects import Effect, effect
from prompts.analysis.shares import Shares, shares_of
from prompts.experiment_records import Experiment, Outcome, Phase
from prompts.measures import TEXTS
from prompts.outcomes import UnitLog, answered, outcome

Finding = Literal["invalid", "harmful", "winner", "equivalent", "undecided", "running"]
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Verdict:
    finding: Finding
    reason: str
    at: float | None = None  # when the block closed, or the unit came, that brought it
    arm: str | None = None  # the winner, or the arm that does harm
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything computed from a log, for the verdict and for reports."""

    experiment: Experiment
    phases: tuple[Phase, ...]
    now: float
    outcomes: Mapping[str, Sequence[Outcome]]  # by metric, all that have closed
    blocks: Mapping[str, Blocks]
    effects: Mapping[tuple[str, str], Effect]  # (metric, arm) against control
    assigned: Shares
    answered: Mapping[str, Shares]  # by metric that reads feedback: units that have some
    verdict: Verdict


class Seen(NamedTuple):
    """One unit, as the sample-ratio check knows it."""

    at: float  # seconds since the epoch
    phase: int
    arm: str


def judge(
    experiment: Experiment, phases: Sequence[Phase], units: Mapping[str, UnitLog], now: float
) -> Judgement:
    """Judge every metric by the units whose windows have closed."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in experiment.metrics}
    heard: dict[str, list[Seen]] = {name: [] for name in heard_of(experiment)}
    for log in units.values():
        for name, metric in experiment.metrics.items():
            found = outcome(metric, log, now)
            if found is not None:
                outcomes[name].append(found)
            closes = log.first_at + metric.window_hours * 3600
            if name in heard and closes <= now and answered(metric, log):
                heard[name].append(Seen(closes, log.phase, log.arm))
    exposed = [Seen(log.first_at, log.phase, log.arm) for log in units.values()]
    return judge_outcomes(experiment, phases, exposed, outcomes, heard, now)


def heard_of(experiment: Experiment) -> tuple[str, ...]:
    """The metrics that some units may leave unanswered."""
    return tuple(
        name
        for name, metric in experiment.metrics.items()
        if metric.source.source == "feedback" and metric.source.field not in TEXTS
    )


def judge_outcomes(
    experiment: Experiment,
    phases: Sequence[Phase],
    exposed: Sequence[Seen],
    outcomes: Mapping[str, Sequence[Outcome]],
    heard: Mapping[str, Sequence[Seen]],
    now: float,
) -> Judgement:
    """The same for what is known already: `exposed` are all units, `heard` those that gave feedback."""
    phases = tuple(phases)
    blocks = {
        name: blocks_of(experiment, outcomes[name], now, phase_ends(phases, metric.window_hours))
        for name, metric in experiment.metrics.items()
    }
    rivals = [arm.name for arm in experiment.arms if arm.name != experiment.control]
    effects = {
        (name, arm): effect(experiment, metric, arm, blocks[name], outcomes[name])
        for name, metric in experiment.metrics.items()
        for arm in rivals
    }
    assigned = shares_of(experiment, phases, sorted(exposed))
    hears = {name: shares_of(experiment, phases, sorted(seen)) for name, seen in heard.items()}
    verdict = _verdict(experiment, phases, outcomes, blocks, effects, assigned, hears)
    return Judgement(experiment, phases, now, outcomes, blocks, effects, assigned, hears, verdict)


def _verdict(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    outcomes: Mapping[str, Sequence[Outcome]],
    blocks: Mapping[str, Blocks],
    effects: Mapping[tuple[str, str], Effect],
    assigned: Shares,
    heard: Mapping[str, Shares],
) -> Verdict:
    """The first finding at any closed block of a judged metric, in the order of time."""
    looks = sorted(
        (float(at), order, number, metric.name)
        for order, metric in enumerate(experiment.judged)
        for number, at in enumerate(blocks[metric.name].closed_at)
    )
    lost = assigned.alarm_at
    for at, _, number, name in looks:
        if lost is not None and lost <= at:
            break
        found = _harm(experiment, effects, name, number, at)
        if found is None and name == experiment.decide.primary:
            found = _decision(experiment, phases, outcomes[name], effects, blocks, heard, number, at)
        if found is not None:
            return found
    if lost is not None:
        return Verdict(
            "invalid",
            "the arms did not get the units they should have: assignment or logging is broken",
            lost,
        )
    return Verdict("running", _waiting(experiment, phases, blocks[experiment.decide.primary], effects))


def _harm(
    experiment: Experiment, effects: Mapping[tuple[str, str], Effect], name: str, number: int, at: float
) -> Verdict | None:
    rules = experiment.decide
    margin = next((guard.margin for guard in rules.guardrails if guard.metric == name), 0.0)
    looked_for = len(experiment.judged) * (len(experiment.arms) - 1)
    for (metric, arm), one in effects.items():
        if metric != name:
            continue
        proven = one.log_e[number] >= np.log(looked_for / rules.alpha)
        worse = bool(proven and one.difference[number] < -margin)
        if worse or one.most[number] < -margin:
            return Verdict(
                "harmful",
                f"{arm} is worse than {experiment.control} in {name} by more than {margin:g}",
                at,
                arm,
                name,
            )
    return None


def _decision(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    outcomes: Sequence[Outcome],
    effects: Mapping[tuple[str, str], Effect],
    blocks: Mapping[str, Blocks],
    heard: Mapping[str, Shares],
    number: int,
    at: float,
) -> Verdict | None:
    """Winner, equivalent or undecided at one block of the primary metric; None: go on."""
    rules, primary = experiment.decide, experiment.metrics[experiment.decide.primary]
    rivals = [arm.name for arm in experiment.arms if arm.name != experiment.control]
    own = [effects[primary.name, arm] for arm in rivals]
    better = [one.arm for one in own if _better(experiment, one, number)]
    safe = [arm for arm in better if _safe(experiment, effects, arm, at)]
    old_enough = at - phases[0].started >= rules.least_days * DAY_SECONDS
    deaf = heard.get(primary.name) if primary.missing == "exclude" else None
    hears = deaf is None or deaf.alarm_at is None or deaf.alarm_at > at
    if safe and old_enough and hears:
        return _won(experiment, effects, blocks[primary.name], safe, number, at)
    width = rules.equivalent_within
    if width is not None and all(one.lower[number] > -width and one.upper[number] < width for one in own):
        return Verdict("equivalent", f"every arm is within {width:g} of {experiment.control}", at)
    if blocks[primary.name].sums[: number + 1, :, 0].sum() >= rules.most_units:
        return Verdict("undecided", f"{rules.most_units} units were not enough to tell", at)
    return None


def _better(experiment: Experiment, one: Effect, number: int) -> bool:
    if one.metric.kind == "binary":
        rivals = len(experiment.arms) - 1
        enough = one.log_e[number] >= np.log(rivals / experiment.decide.alpha)
        return bool(enough and one.difference[number] > 0)
    return bool(one.lower[number] > 0)


def _safe(experiment: Experiment, effects: Mapping[tuple[str, str], Effect], arm: str, at: float) -> bool:
    """Every guardrail's lower bound, of its newest block by then, is above minus the margin."""
    for guard in experiment.decide.guardrails:
        one = effects[guard.metric, arm]
        known = int(np.searchsorted(one.at, at, side="right")) - 1
        if known < 0 or not one.least[known] > -guard.margin:
            return False
    return True


def _won(
    experiment: Experiment,
    effects: Mapping[tuple[str, str], Effect],
    blocks: Blocks,
    safe: Sequence[str],
    number: int,
    at: float,
) -> Verdict:
    name = experiment.decide.primary
    if len(safe) == 1:
        return Verdict(
            "winner", f"{safe[0]} is better than {experiment.control} in {name}", at, safe[0], name
        )
    leader = max(safe, key=lambda arm: effects[name, arm].difference[number])
    said = f"{', '.join(safe)} are better than {experiment.control} in {name}; {leader} leads"
    if experiment.metrics[name].kind == "binary" and len(set(blocks.phase.tolist())) == 1:
        totals = blocks.sums[: number + 1].sum(axis=0)
        best = best_rate(totals[:, 1], totals[:, 0], 0.01, experiment.decide.alpha)
        proven = bool(best.proven) and blocks.arms[int(best.leader)] == leader
        said += ", and is proven to be within 0.01 of the best" if proven else ", not proven to be the best"
    return Verdict("winner", said, at, leader, name)


def _waiting(
    experiment: Experiment,
    phases: Sequence[Phase],
    blocks: Blocks,
    effects: Mapping[tuple[str, str], Effect],
) -> str:
    """What is still missing for a verdict."""
    units = int(blocks.sums[:, :, 0].sum()) if len(blocks) else 0
    said = [f"{units} units judged of {experiment.decide.expected_units} expected"]
    if not len(blocks):
        return said[0]
    at = float(blocks.closed_at[-1])
    for arm in (arm.name for arm in experiment.arms if arm.name != experiment.control):
        if not _better(experiment, effects[experiment.decide.primary, arm], len(blocks) - 1):
            continue
        if not _safe(experiment, effects, arm, at):
            said.append(f"{arm} is better, but its guardrails are not yet known to be safe")
        elif at - phases[0].started < experiment.decide.least_days * DAY_SECONDS:
            said.append(f"{arm} is better; {experiment.decide.least_days:g} days must pass")
        else:
            said.append(f"{arm} is better, but who gives feedback differs between the arms")
    return "; ".join(said)
