"""A TOML file becomes an Experiment, or a list of everything that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from prompts import sections
from prompts.errors import ExperimentInvalid
from prompts.experiment_checks import problems_of
from prompts.experiment_records import (
    Arm,
    Better,
    Experiment,
    Failing,
    Guardrail,
    Measure,
    Metric,
    MetricKind,
    Missing,
    Mode,
    PerUnit,
    Retrieval,
    Rules,
    UnitKind,
)
from prompts.fields import Fields
from prompts.measures import parse_measure

FORMAT = 1
FILE_BYTES = 256 * 1024


def load(path: Path, templates: Collection[str] | None = None) -> Experiment:
    """The experiment of a file; `templates`, if given, are the references that exist."""
    return parse_experiment(path.read_bytes(), str(path), templates)


def parse_experiment(content: bytes, where: str, templates: Collection[str] | None = None) -> Experiment:
    """Raises ExperimentInvalid with every problem at once."""
    if len(content) > FILE_BYTES:
        raise ExperimentInvalid(where, [f"the file is larger than {FILE_BYTES} bytes"])
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentInvalid(where, [str(error)]) from error
    problems: list[str] = []
    experiment = _experiment(Fields(table, "", problems), table)
    problems += problems_of(experiment, templates)
    if problems:
        raise ExperimentInvalid(where, problems)
    return experiment


def _experiment(root: Fields, table: Mapping[str, Any]) -> Experiment:
    if root.integer("format", required=True) not in (FORMAT, None):
        root.complain(f"format must be {FORMAT}, the only one there is")
    arms, metrics = root.table("arms"), root.table("metrics")
    ramp = root.number("ramp", least=0, most=1)
    experiment = Experiment(
        name=root.text("name"),
        question=root.text("question", ""),
        salt=root.text("salt", ""),
        unit=root.choice("unit", UnitKind, "user"),
        control=root.text("control"),
        arms=tuple(_arm(name, arms.table(name), given) for name, given in sorted(arms.rest())),
        metrics={name: _metric(name, metrics.table(name)) for name, _ in metrics.rest()},
        decide=_decide(root.table("decide")),
        ramp=0.0 if ramp is None else ramp,
        mode=root.choice("mode", Mode, "fixed"),
        slice=root.number("slice", least=0, most=1) or 0.0,
        digest=_digest(table),
    )
    root.close()
    return experiment


def _arm(name: str, fields: Fields, given: Any) -> Arm:
    recipe = (
        {key: value for key, value in given.items() if key != "weight"} if isinstance(given, dict) else {}
    )
    fewshot, retrieval = fields.table("fewshot"), fields.table("retrieval")
    kinds = recipe.get("fewshot", {})
    arm = Arm(
        name=name,
        weight=fields.number("weight", least=0, most=1) or 0.0,
        template=fields.text("template"),
        static=sections.policy(fewshot.table("static")) if "static" in kinds else None,
        dynamic=sections.policy(fewshot.table("dynamic")) if "dynamic" in kinds else None,
        pool=fields.text("pool", "") or None,
        retrieval=_retrieval(retrieval, recipe.get("retrieval", {})),
        adapter=fields.text("adapter", ""),
        sampling=sections.sampling(fields.table("sampling")),
        on_failure=fields.choice("on_failure", Failing, "fail"),
        digest=_digest(recipe),
    )
    for table in (fewshot, fields):
        table.close()
    return arm


def _retrieval(fields: Fields, given: Mapping[str, Any]) -> Retrieval:
    read = Retrieval(
        store=fields.text("store", "") or None,
        top=fields.integer("top"),
        rerank=fields.flag("rerank") if "rerank" in given else None,
        generation=fields.text("generation", "") or None,
    )
    fields.close()
    return read


def _metric(name: str, fields: Fields) -> Metric:
    source = _measure(fields, "from", fields.text("from"))
    over = fields.text("over", "")
    window = fields.number("window_hours", least=0, most=24 * 365)
    metric = Metric(
        name=name,
        kind=fields.choice("kind", MetricKind, "binary"),
        source=source or Measure("request", "turns"),
        over=_measure(fields, "over", over) if over else None,
        per_unit=fields.choice("per_unit", PerUnit, "last"),
        missing=fields.choice("missing", Missing, "failure"),
        window_hours=24.0 if window is None else window,
        better=fields.choice("better", Better, "higher"),
        least=fields.number("least", least=-1e12, most=1e12) or 0.0,
        cap=fields.number("cap", least=-1e12, most=1e12),
        covariate=fields.text("covariate", "") or None,
    )
    fields.close()
    return metric


def _measure(fields: Fields, key: str, text: str) -> Measure | None:
    read = parse_measure(text) if text else None
    if isinstance(read, str):
        fields.complain(f"{fields.where}.{key}: {read}")
        return None
    return read


def _decide(fields: Fields) -> Rules:
    usual = Rules("")
    guards = []
    for row in fields.tables("guardrails"):
        margin = row.number("margin", least=0, most=1e12)
        guards.append(Guardrail(row.text("metric"), margin or 0.0))
        row.close()
    alpha = fields.number("alpha", least=1e-6, most=0.5)
    days = fields.number("least_days", least=0, most=3650)
    rules = Rules(
        primary=fields.text("primary"),
        guardrails=tuple(guards),
        alpha=usual.alpha if alpha is None else alpha,
        expected_units=fields.integer("expected_units", least=100) or usual.expected_units,
        equivalent_within=fields.number("equivalent_within", least=0, most=1e12),
        block_units=fields.integer("block_units", least=10) or usual.block_units,
        most_units=fields.integer("most_units", least=100) or usual.most_units,
        least_days=usual.least_days if days is None else days,
    )
    fields.close()
    return rules


def _digest(table: Mapping[str, Any]) -> str:
    canonical = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
