"""What an experiment file must hold beyond its types; each function yields problems in words."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator

from prompts.checks import NAME
from prompts.experiment_records import Experiment
from prompts.measures import is_yes_or_no

REFERENCE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*@[1-9][0-9]*")
ADAPTER = re.compile(r"[a-z0-9][a-z0-9-]*@[0-9a-f]{1,64}")  # its version is a digest
LEAST_SLICE = 0.1
SALT_CHARS = 16


def problems_of(experiment: Experiment, templates: Collection[str] | None) -> list[str]:
    """Every problem of an experiment whose fields have the right types."""
    return [
        *_identity(experiment),
        *_arms(experiment, templates),
        *_metrics(experiment),
        *_rules(experiment),
    ]


def _identity(experiment: Experiment) -> Iterator[str]:
    if experiment.name and not NAME.fullmatch(experiment.name):
        yield f"name {experiment.name!r} must be lower-case words joined by hyphens"
    if not experiment.salt:
        yield f'salt is missing; here is a fresh one: salt = "{secrets.token_hex(16)}"'
    elif len(experiment.salt) < SALT_CHARS:
        yield f"salt must have at least {SALT_CHARS} characters, and belong to this experiment alone"
    if "\x1f" in experiment.salt:
        yield "salt must not hold the character 0x1f"
    if experiment.mode == "thompson" and experiment.slice < LEAST_SLICE:
        yield f"slice must be at least {LEAST_SLICE} with mode = 'thompson': effects are read from it alone"
    if experiment.mode == "fixed" and experiment.slice:
        yield "slice belongs to mode = 'thompson'"


def _arms(experiment: Experiment, templates: Collection[str] | None) -> Iterator[str]:
    arms = experiment.arms
    if len(arms) < 2:
        yield "arms: give at least two"
    if experiment.control and arms and experiment.control not in {arm.name for arm in arms}:
        yield f"control {experiment.control!r} is none of the arms {', '.join(arm.name for arm in arms)}"
    if arms and abs(sum(arm.weight for arm in arms) - 1) > 1e-9:
        yield f"arms: their weights add up to {sum(arm.weight for arm in arms):g}, not to 1"
    for arm in arms:
        if not NAME.fullmatch(arm.name):
            yield f"arms.{arm.name}: the name must be lower-case words joined by hyphens"
        if not arm.weight:
            yield f"arms.{arm.name}.weight must be above 0"
        if arm.adapter and not ADAPTER.fullmatch(arm.adapter):
            yield f"arms.{arm.name}.adapter must name one version, as `fewshot adapters list` shows it"
        for key, reference in (("template", arm.template), ("pool", arm.pool)):
            if reference and not REFERENCE.fullmatch(reference):
                yield f"arms.{arm.name}.{key} must name one version, like {reference.split('@')[0]}@1"
            elif key == "template" and reference and templates is not None and reference not in templates:
                yield f"arms.{arm.name}.template: there is no {reference}"


def _metrics(experiment: Experiment) -> Iterator[str]:
    if not experiment.metrics:
        yield "metrics: give at least one"
    for name, metric in experiment.metrics.items():
        if metric.kind == "continuous" and metric.cap is None:
            yield f"metrics.{name}.cap is missing: a mean without a cap is ruled by its largest value"
        if metric.kind == "continuous" and metric.cap is not None and metric.cap <= metric.least:
            yield f"metrics.{name}.cap must be above its least ({metric.least:g})"
        if metric.kind == "ratio" and metric.over is None:
            yield f"metrics.{name}.over is missing: a ratio needs its denominator, like request.turns"
        if metric.kind != "ratio" and metric.over is not None:
            yield f"metrics.{name}.over belongs to kind = 'ratio'"
        if metric.kind == "binary" and not is_yes_or_no(metric.source):
            yield f"metrics.{name}.from is a number: compare it with a limit, or use kind = 'continuous'"
        if metric.kind == "binary" and metric.per_unit not in ("last", "any"):
            yield f"metrics.{name}.per_unit must be last or any for kind = 'binary'"
        if metric.kind == "binary" and metric.covariate:
            yield f"metrics.{name}.covariate belongs to continuous and ratio metrics"


def _rules(experiment: Experiment) -> Iterator[str]:
    rules, known = experiment.decide, experiment.metrics
    guards = [guard.metric for guard in rules.guardrails]
    for name in [rules.primary, *guards]:
        if name and name not in known:
            yield f"decide: there is no metric {name!r} among {', '.join(known)}"
    if len({rules.primary, *guards}) < 1 + len(guards):
        yield "decide: the primary metric and each guardrail must be different metrics"
    for guard in rules.guardrails:
        if not guard.margin:
            yield f"decide.guardrails: {guard.metric} needs a margin above 0"
    if rules.most_units < rules.expected_units:
        yield "decide.most_units must not be below expected_units"
    primary = known.get(rules.primary)
    if experiment.mode == "thompson" and primary is not None and primary.kind != "binary":
        yield "mode = 'thompson' needs a binary primary metric"
