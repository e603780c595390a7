"""A judgement as one JSON object, which the terminal, the page with plots and the API all show."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prompts.analysis.effects import Effect, arm_means
from prompts.analysis.shares import Shares
from prompts.analysis.verdict import Judgement
from prompts.experiment_records import Metric
from prompts.outcomes import UnitLog

MOST_POINTS = 400  # of a curve
Object = dict[str, Any]


def report_of(judgement: Judgement, units: Mapping[str, UnitLog]) -> Object:
    """openai-surface §11 `experiment.report`, and what the plots need. Differences are arm minus control in
    the metric's own direction: negative is less of it. NaN becomes null.
    """
    experiment, verdict = judgement.experiment, judgement.verdict
    rules = experiment.decide
    control = experiment.control
    rivals = [arm.name for arm in experiment.arms if arm.name != control]
    comparisons = [comparison(judgement, name, arm) for name in experiment.metrics for arm in rivals]
    made: Object = plain(
        {
            "object": "experiment.report",
            "experiment": experiment.name,
            "question": experiment.question,
            "generated_at": judgement.now,
            "started_at": judgement.phases[0].started,
            "method": method(judgement),
            "alpha": rules.alpha,
            "unit": experiment.unit,
            "mode": experiment.mode,
            "ramp": experiment.ramp,
            "control": control,
            "primary": rules.primary,
            "expected_units": rules.expected_units,
            "phases": [
                {
                    "number": phase.number,
                    "started_at": phase.started,
                    "weights": {arm.name: arm.weight for arm in phase.arms},
                    "digests": {arm.name: dict(arm.digests) for arm in phase.arms},
                }
                for phase in judgement.phases
            ],
            "arms": arm_rows(judgement, units),
            "comparisons": comparisons,
            "sample_ratio": {
                "assigned": ratio_object(judgement.assigned, experiment.arms),
                "with_feedback": {
                    name: ratio_object(one, experiment.arms) for name, one in judgement.answered.items()
                },
            },
            "guardrails": [
                guard_object(judgement, guard, arm) for guard in rules.guardrails for arm in rivals
            ],
            "crossed_units": sum(log.crossed for log in units.values()),
            "verdict": verdict.finding,
            "winner": verdict.arm if verdict.finding == "winner" else None,
            "harmful_arm": verdict.arm if verdict.finding == "harmful" else None,
            "decided_at": verdict.at,
            "reason": verdict.reason,
            "series": {
                "effects": [curve(one) for one in judgement.effects.values()],
                "sample_ratio": ratio_curve(judgement.assigned),
                "allocation": allocation(judgement, units),
            },
        }
    )
    return made


def digest_of(report: Object) -> str:
    """SHA-256 of what was found, whenever it was looked at."""
    found = {key: value for key, value in report.items() if key != "generated_at"}
    return hashlib.sha256(json.dumps(found, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def method(judgement: Judgement) -> str:
    primary = judgement.experiment.metrics[judgement.experiment.decide.primary]
    if primary.kind == "binary":
        return (
            "e-process over blocks of two rates (arXiv 2106.02693); intervals: confidence sequence of means"
        )
    return "asymptotic confidence sequence of means (arXiv 2103.06476)"


def comparison(judgement: Judgement, name: str, arm: str) -> Object:
    """One arm against control in one metric, at the newest closed block."""
    experiment = judgement.experiment
    metric, one = experiment.metrics[name], judgement.effects[name, arm]
    names = [judged.name for judged in experiment.judged]
    role = "primary" if names[0] == name else "guardrail" if name in names else "watched"
    found: Object = {
        "metric": name,
        "arm": arm,
        "versus": experiment.control,
        "role": role,
        "kind": metric.kind,
        "better": metric.better,
        "blocks": len(one.at),
        "units": _last(one.units),
        "difference": None,
        "lower": None,
        "upper": None,
        "e_value": None,
        "p_anytime": None,
    }
    if len(one.at):
        lower, upper = _natural_interval(metric, one.lower[-1], one.upper[-1])
        found |= {
            "difference": _natural(metric, one.difference[-1]),
            "lower": lower,
            "upper": upper,
            "e_value": math.exp(min(one.log_e[-1], 700.0)),
            "p_anytime": one.p[-1],
        }
    return found


def guard_object(judgement: Judgement, guard: Any, arm: str) -> Object:
    """`bound`: how much worse at most (a loss is negative), one-sided at alpha."""
    one = judgement.effects[guard.metric, arm]
    bound, worst = _last(one.least), _last(one.most)
    verdict = judgement.verdict
    return {
        "metric": guard.metric,
        "arm": arm,
        "bound": bound,
        "margin": guard.margin,
        "safe": bound is not None and bound > -guard.margin,
        "breached": (verdict.finding, verdict.metric, verdict.arm) == ("harmful", guard.metric, arm)
        or (worst is not None and worst < -guard.margin),
    }


def arm_rows(judgement: Judgement, units: Mapping[str, UnitLog]) -> list[Object]:
    """Per arm: its units, its mean of the primary metric, and how its turns went."""
    experiment = judgement.experiment
    primary = experiment.metrics[experiment.decide.primary]
    blocks = judgement.blocks[primary.name]
    means = arm_means(experiment, primary, blocks)
    rows = []
    for at, arm in enumerate(experiment.arms):
        own = [log for log in units.values() if log.arm == arm.name]
        turns = [turn for log in own for turn in log.turns]
        mean, lower, upper = means[at]
        low, high = _natural_interval(primary, lower, upper, level=True)
        rows.append(
            {
                "name": arm.name,
                "weight": arm.weight,
                "units": len(own),
                "closed": sum(one.arm == arm.name for one in judgement.outcomes[primary.name]),
                "with_feedback": _heard(judgement, primary.name, at),
                "mean": _natural(primary, mean, level=True),
                "lower": low,
                "upper": high,
                "turns": len(turns),
                **{name: _share(turns, name) for name in ("failed", "refused", "cancelled", "fell_back")},
                "ttft_ms": _middle([turn["ttft_ms"] for turn in turns if turn.get("ttft_ms") is not None]),
                "total_ms": _middle([turn["total_ms"] for turn in turns if turn.get("total_ms") is not None]),
                "prompt_tokens": _mean(turns, "prompt_tokens"),
                "completion_tokens": _mean(turns, "completion_tokens"),
                "cached_share": _ratio(turns, "cached_tokens", "prompt_tokens"),
                "cited_share": _ratio(turns, "cited", "sources"),
                "citations_dropped": _mean(turns, "citations_dropped"),
            }
        )
    return rows


def ratio_object(shares: Shares, arms: Sequence[Any]) -> Object:
    return {
        "e_value": shares.e_value,
        "alarm": shares.alarm,
        "alarm_at": shares.alarm_at,
        "p_chi_square": shares.p,
        "counts": dict(zip((arm.name for arm in arms), shares.totals, strict=True)),
    }


def curve(one: Effect) -> Object:
    """An effect over time, thinned to what a plot can show; the newest point is always there."""
    keep = _thinned(len(one.at))
    pairs = [
        _natural_interval(one.metric, low, high)
        for low, high in zip(one.lower[keep], one.upper[keep], strict=True)
    ]
    return {
        "metric": one.metric.name,
        "arm": one.arm,
        "at": one.at[keep].tolist(),
        "units": one.units[keep].tolist(),
        "difference": [_natural(one.metric, value) for value in one.difference[keep]],
        "lower": [low for low, _ in pairs],
        "upper": [high for _, high in pairs],
        "log_e": one.log_e[keep].tolist(),
        "least": one.least[keep].tolist(),
    }


def ratio_curve(shares: Shares) -> Object:
    keep = _thinned(len(shares.at))
    return {"at": shares.at[keep].tolist(), "log_e": shares.log_e[keep].tolist()}


def allocation(judgement: Judgement, units: Mapping[str, UnitLog]) -> Object:
    """Units enrolled so far, by arm, at up to MOST_POINTS moments."""
    names = [arm.name for arm in judgement.experiment.arms]
    logs = sorted(units.values(), key=lambda log: log.first_at)
    keep = set(_thinned(len(logs)).tolist())
    counts = dict.fromkeys(names, 0)
    at: list[float] = []
    lines: dict[str, list[int]] = {name: [] for name in names}
    for number, log in enumerate(logs):
        counts[log.arm] += 1
        if number in keep:
            at.append(log.first_at)
            for name in names:
                lines[name].append(counts[name])
    return {"at": at, "units": lines}


def plain(value: Any) -> Any:
    """JSON's own types; what is no finite number becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _natural(metric: Metric, value: float, *, level: bool = False) -> float:
    """In the metric's own direction; a level of a binary metric turns round at 1, a difference at 0."""
    if metric.better == "higher":
        return value
    return 1.0 - value if level and metric.kind == "binary" else -value


def _natural_interval(
    metric: Metric, lower: float, upper: float, *, level: bool = False
) -> tuple[float, float]:
    low, high = (_natural(metric, value, level=level) for value in (lower, upper))
    return (low, high) if metric.better == "higher" else (high, low)


def _thinned(length: int) -> Any:
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, MOST_POINTS)).astype(int))


def _last(values: Any) -> float | None:
    return float(values[-1]) if len(values) and not np.isnan(values[-1]) else None


def _heard(judgement: Judgement, name: str, at: int) -> int | None:
    shares = judgement.answered.get(name)
    return shares.totals[at] if shares else None


def _share(turns: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return sum(bool(turn.get(name)) for turn in turns) / len(turns) if turns else None


def _mean(turns: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [turn[name] for turn in turns if turn.get(name) is not None]
    return sum(known) / len(known) if known else None


def _ratio(turns: Sequence[Mapping[str, Any]], part: str, whole: str) -> float | None:
    known = [turn for turn in turns if turn.get(part) is not None and turn.get(whole)]
    return sum(turn[part] for turn in known) / sum(turn[whole] for turn in known) if known else None


def _middle(values: Sequence[float]) -> Object | None:
    if not values:
        return None
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}
