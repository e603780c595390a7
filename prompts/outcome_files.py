"""`outcomes.jsonl`: an experiment's file and phases in the first line, then a line for each logged turn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prompts.errors import ExperimentInvalid, OutcomesInvalid
from prompts.experiment_files import parse_experiment
from prompts.experiment_records import Experiment, Frozen, Phase
from prompts.experiments import in_phase
from prompts.outcomes import UnitLog, units_of

NEEDED = ("turn", "at", "unit", "arm", "phase", "propensity")  # of every turn
MOST_PROBLEMS = 20


class Exported(NamedTuple):
    """An experiment's log at one moment."""

    experiment: Experiment  # with the weights of its newest phase
    phases: tuple[Phase, ...]
    units: Mapping[str, UnitLog]
    at: float  # seconds since the epoch


def header(experiment: Experiment, text: str, phases: Iterable[Phase], at: float) -> dict[str, Any]:
    """The first line."""
    return {
        "kind": "experiment",
        "name": experiment.name,
        "exported_at": at,
        "file": text,
        "phases": [
            {
                "number": phase.number,
                "started": phase.started,
                "arms": [
                    {"name": arm.name, "weight": arm.weight, "digests": dict(arm.digests)}
                    for arm in phase.arms
                ],
            }
            for phase in phases
        ],
    }


def read_outcomes(path: Path) -> Exported:
    """Raises OutcomesInvalid with line numbers."""
    with path.open(encoding="utf-8") as lines:
        return parse_outcomes(lines, str(path))


def parse_outcomes(lines: Iterable[str], where: str) -> Exported:
    """Raises OutcomesInvalid with line numbers, at most 20 of them."""
    problems: list[str] = []
    rows = _rows(lines, problems)
    first = next(rows, None)
    if first is None or first.get("kind") != "experiment":
        raise OutcomesInvalid(
            where, problems or ["line 1: not an experiment; `fewshot export outcomes` writes such files"]
        )
    try:
        phases = tuple(
            Phase(one["number"], one["started"], tuple(Frozen(**arm) for arm in one["arms"]))
            for one in first["phases"]
        )
        experiment = in_phase(parse_experiment(first["file"].encode(), where), phases[-1])
        at = float(first["exported_at"])
    except (KeyError, TypeError, IndexError, ValueError, ExperimentInvalid) as problem:
        raise OutcomesInvalid(where, [f"line 1: {problem}"]) from problem
    units = units_of(_turns(rows, experiment, phases, problems))
    if problems:
        raise OutcomesInvalid(where, problems)
    return Exported(experiment, phases, units, at)


def _rows(lines: Iterable[str], problems: list[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if len(problems) >= MOST_PROBLEMS:
            return
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as problem:
            problems.append(f"line {number}: {problem}")
            continue
        if isinstance(row, dict):
            yield {**row, "line": number}
        else:
            problems.append(f"line {number}: not a JSON object")


def _turns(
    rows: Iterable[dict[str, Any]], experiment: Experiment, phases: tuple[Phase, ...], problems: list[str]
) -> Iterator[dict[str, Any]]:
    arms, numbers = {arm.name for arm in experiment.arms}, {phase.number for phase in phases}
    for row in rows:
        number = row.pop("line")
        missing = [name for name in NEEDED if row.get(name) is None]
        if missing:
            problems.append(f"line {number}: {', '.join(missing)} missing")
        elif row["arm"] not in arms or row["phase"] not in numbers:
            problems.append(f"line {number}: no arm {row['arm']!r} in phase {row['phase']!r}")
        else:
            yield row
