"""An arm against control, after every block: difference, interval, bounds, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prompts.analysis import eprocess
from prompts.analysis.blocks import Blocks
from prompts.analysis.sequences import (
    LEAST_COUNT,
    LEAST_UNITS,
    binary_variance,
    half_width,
    one_sided_width,
    p_value,
    rate_bounds,
)
from prompts.analysis.units import Estimate, adjusted, enough, mean_of, ratio_of
from prompts.experiment_records import Experiment, Metric, Outcome

Floats = NDArray[np.float64]
NOTHING = float("nan")
MOST_LOOKS = 200  # at which costly numbers are computed at every block


@dataclass(frozen=True, slots=True)
class Effect:
    """One arm minus control in one metric, higher is better; each array has one value a block.

    NaN: not yet enough units to say it.
    """

    metric: Metric
    arm: str
    at: Floats  # when the block closed
    units: Floats  # of both arms, in closed blocks
    difference: Floats
    lower: Floats  # two-sided, at alpha / (arms − 1)
    upper: Floats
    least: Floats  # one-sided at alpha: above −margin is safe
    most: Floats  # one-sided at alpha / number of looks for harm: below −margin is harm
    log_e: Floats  # binary metrics: ln E against "both have one rate"
    p: Floats  # always valid


def effect(
    experiment: Experiment, metric: Metric, arm: str, blocks: Blocks, outcomes: Sequence[Outcome]
) -> Effect:
    """The whole history of one comparison. Phases are strata; of a bandit only the uniform slice tells."""
    rules = experiment.decide
    others = len(blocks.arms) - 1
    a, b = blocks.arms.index(experiment.control), blocks.arms.index(arm)
    alpha = rules.alpha / others
    looked_for = len(experiment.judged) * others
    expected = max(rules.expected_units * 2 / (others + 1), 2.0)
    sums = blocks.slice_sums if experiment.mode == "thompson" else blocks.sums
    difference, se, units = _differences(metric, blocks, sums, outcomes, a, b)
    at_least = np.maximum(units, 1)
    width = half_width(se, at_least, alpha, expected)
    least = difference - one_sided_width(se, at_least, rules.alpha, expected)
    most = difference + one_sided_width(se, at_least, rules.alpha / looked_for, expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = p_value(difference, se, at_least, alpha, expected)
    log_e = np.full(len(blocks), NOTHING)
    if metric.kind == "binary":
        n, s = blocks.sums[:, :, 0], blocks.sums[:, :, 1]
        log_e = eprocess.log_e(s[:, a], n[:, a], s[:, b], n[:, b])
        p = np.exp(-np.maximum.accumulate(np.maximum(log_e, 0.0))) if len(blocks) else log_e
        exact_least, exact_most = _exact(blocks, sums, a, b, rules.alpha, rules.alpha / looked_for)
        least, most = np.fmax(least, exact_least), np.fmin(most, exact_most)
    return Effect(
        metric=metric,
        arm=arm,
        at=blocks.closed_at,
        units=units,
        difference=difference,
        lower=difference - width,
        upper=difference + width,
        least=least,
        most=most,
        log_e=log_e,
        p=p,
    )


def _differences(
    metric: Metric, blocks: Blocks, sums: Floats, outcomes: Sequence[Outcome], a: int, b: int
) -> tuple[Floats, Floats, Floats]:
    """Difference, standard error and units after each block; NaN where too little is known for it."""
    difference, se = np.full(len(blocks), NOTHING), np.full(len(blocks), NOTHING)
    units = np.cumsum(sums[:, [a, b], 0].sum(axis=1)) if len(blocks) else np.zeros(0)
    running: dict[int, Floats] = {}
    members: dict[int, list[NDArray[np.int64]]] = {}
    for number in range(len(blocks)):
        phase = int(blocks.phase[number])
        running[phase] = running.get(phase, 0) + sums[number]
        if metric.covariate is not None:
            members.setdefault(phase, []).append(blocks.members[number])
            if _skipped(number):
                continue
        strata = []
        for phase_number, of in running.items():
            chosen = members.get(phase_number)
            pair = (
                _covariate_pair(metric, np.concatenate(chosen), outcomes, blocks.arms[a], blocks.arms[b])
                if chosen
                else (_estimate(metric, of[a]), _estimate(metric, of[b]))
            )
            if min(one.units for one in pair) >= 2:
                strata.append(pair)
        total = sum(one.units for pair in strata for one in pair)
        if not total:
            continue
        weights = [(pair[0].units + pair[1].units) / total for pair in strata]
        difference[number] = sum(
            w * (pair[1].mean - pair[0].mean) for w, pair in zip(weights, strata, strict=True)
        )
        variance = sum(
            w * w * (pair[0].squared_error + pair[1].squared_error)
            for w, pair in zip(weights, strata, strict=True)
        )
        if _speaks(metric, np.sum([of[[a, b]] for of in running.values()], axis=0)):
            se[number] = np.sqrt(variance)
    return difference, se, units


def _speaks(metric: Metric, counts: Floats) -> bool:
    """Whether an interval may be shown (4.3, 4.4): rare events and few units say nothing yet."""
    n, s = counts[:, 0], counts[:, 1]
    if metric.kind == "binary":
        return bool(enough(n, "binary") and s.min() >= LEAST_COUNT and (n - s).min() >= LEAST_COUNT)
    return enough(n, metric.kind)


def _estimate(metric: Metric, sums: Floats) -> Estimate:
    """Mean or ratio of one arm in one phase, from its sums."""
    n, y, t, yy, tt, yt = (float(value) for value in sums)
    if n < 2:
        return Estimate(0.0, 0.0, int(n))
    if metric.kind == "binary":
        return Estimate(y / n, float(binary_variance(y, n)), int(n))
    if metric.kind == "continuous":
        return Estimate(y / n, max((yy - y * y / n) / (n - 1), 0.0), int(n))
    if not t:
        return Estimate(0.0, 0.0, int(n))
    ratio = y / t
    spread = yy - 2 * ratio * yt + ratio * ratio * tt
    return Estimate(ratio, max(spread / (n - 1), 0.0) / (t / n) ** 2, int(n))


def _covariate_pair(
    metric: Metric, members: NDArray[np.int64], outcomes: Sequence[Outcome], control: str, arm: str
) -> tuple[Estimate, Estimate]:
    """Control and arm in one phase, with what the covariate explains taken out."""
    chosen = [outcomes[at] for at in members if outcomes[at].arm in (control, arm)]
    names = np.array([one.arm for one in chosen])
    y = np.array([one.value for one in chosen])
    t = np.array([one.over for one in chosen])
    x = np.array([np.nan if one.covariate is None else one.covariate for one in chosen])
    if metric.kind == "ratio":
        # The covariate explains part of the linearised value; the ratio moves as its mean does.
        pair = {name: ratio_of(y[names == name], t[names == name]) for name in (control, arm)}
        z = np.zeros_like(y)
        for name, one in pair.items():
            of = names == name
            z[of] = one.mean + (y[of] - one.mean * t[of]) / max(t[of].mean(), 1e-12)
        y = z
    changed = adjusted(y, x, names)
    return mean_of(changed[names == control]), mean_of(changed[names == arm])


def _exact(blocks: Blocks, sums: Floats, a: int, b: int, safe: float, harm: float) -> tuple[Floats, Floats]:
    """Bounds on the difference from each rate's own exact sequence: they speak also of rare events.

    Each rate gets half of the error. NaN where the other interval speaks, and where there are several
    phases: pooled over other weights, a difference would follow the base rate.
    """
    totals = np.cumsum(sums, axis=0)
    lower, upper = np.full(len(sums), NOTHING), np.full(len(sums), NOTHING)
    if len(set(blocks.phase.tolist())) > 1:
        return lower, upper
    for number, of in enumerate(totals):
        (n_a, s_a), (n_b, s_b) = (of[at, :2].astype(int) for at in (a, b))
        if _skipped(number) or min(s_a, n_a - s_a, s_b, n_b - s_b) >= LEAST_COUNT or not min(n_a, n_b):
            continue
        lower[number] = rate_bounds(s_b, n_b, safe / 2)[0] - rate_bounds(s_a, n_a, safe / 2)[1]
        upper[number] = rate_bounds(s_b, n_b, harm / 2)[1] - rate_bounds(s_a, n_a, harm / 2)[0]
    return lower, upper


def _skipped(number: int) -> bool:
    """Costly looks become rarer; which ones are left out depends on nothing that was seen."""
    return number >= MOST_LOOKS and number % (number // (MOST_LOOKS // 2)) != 0


def arm_means(experiment: Experiment, metric: Metric, blocks: Blocks) -> list[tuple[float, float, float]]:
    """(mean, lower, upper) of each arm over its closed blocks, phases as strata; NaN: not yet known.

    Of a bandit only the uniform slice speaks: pooled means follow the base rate.
    """
    sums = blocks.slice_sums if experiment.mode == "thompson" else blocks.sums
    arms = len(blocks.arms)
    expected = max(experiment.decide.expected_units / max(arms, 1), 2.0)
    found = []
    for arm in range(arms):
        strata = [
            _estimate(metric, sums[blocks.phase == phase, arm].sum(axis=0))
            for phase in np.unique(blocks.phase)
        ]
        strata = [one for one in strata if one.units >= 2]
        units = sum(one.units for one in strata)
        if not units:
            found.append((NOTHING, NOTHING, NOTHING))
            continue
        mean = sum(one.units / units * one.mean for one in strata)
        se = float(np.sqrt(sum((one.units / units) ** 2 * one.squared_error for one in strata)))
        width = float(half_width(se, units, experiment.decide.alpha, expected))
        found.append((mean, mean - width, mean + width) if units >= LEAST_UNITS else (mean, NOTHING, NOTHING))
    return found
