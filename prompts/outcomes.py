"""Logged turns become one number per unit and metric, once the unit's window has closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prompts.experiment_records import Metric, Outcome
from prompts.measures import reading

Row = Mapping[str, Any]  # a logged turn, see docs/experiments.md


@dataclass(slots=True)
class UnitLog:
    """A unit from its first exposure on. What it met first is what it counts for, whatever it met later."""

    unit: str
    arm: str
    phase: int
    slice: bool
    propensity: float
    first_at: float  # seconds since the epoch
    covariates: Mapping[str, float] = field(default_factory=dict)  # known at the first exposure
    turns: list[Row] = field(default_factory=list)  # oldest first
    crossed: bool = False  # it met another arm in the same phase: assignment or logging is broken


def units_of(rows: Iterable[Row]) -> dict[str, UnitLog]:
    """The units of an experiment's turns, in the order of their first exposures."""
    units: dict[str, UnitLog] = {}
    for row in sorted(rows, key=lambda row: (row["at"], row["turn"])):
        add_turn(units, row)
    return units


def add_turn(units: dict[str, UnitLog], row: Row) -> UnitLog:
    """One turn more; turns of a unit come in their order."""
    log = units.get(row["unit"])
    if log is None:
        log = units[row["unit"]] = UnitLog(
            unit=row["unit"],
            arm=row["arm"],
            phase=row["phase"],
            slice=bool(row.get("slice")),
            propensity=row["propensity"],
            first_at=row["at"],
            covariates=row.get("covariates") or {},
        )
    log.turns.append(row)
    log.crossed = log.crossed or (row["arm"] != log.arm and row["phase"] == log.phase)
    return log


def outcome(metric: Metric, log: UnitLog, now: float) -> Outcome | None:
    """The unit's number, higher is better. None: its window is open, or it has none and counts for nothing.

    A turn that failed reads as the metric's failure value: an arm that fails must not look better for it.
    """
    closes = log.first_at + metric.window_hours * 3600
    if closes > now:
        return None
    readings = [_turn_reading(metric, row, closes) for row in log.turns if row["at"] <= closes]
    known = [value for value in readings if value is not None]
    over = 1.0
    if metric.over is not None:
        over = sum(
            reading(metric.over, row, said(row, closes)) or 0.0 for row in log.turns if row["at"] <= closes
        )
    if not known:
        if metric.missing == "exclude":
            return None
        known = [failure_value(metric)]
    value = sum(known) if metric.kind == "ratio" else _per_unit(metric, known)
    if metric.cap is not None:
        value = min(max(value, metric.least), metric.cap)
    return Outcome(
        unit=log.unit,
        arm=log.arm,
        phase=log.phase,
        slice=log.slice,
        propensity=log.propensity,
        closed_at=closes,
        value=oriented(metric, value),
        over=over,
        covariate=log.covariates.get(metric.covariate) if metric.covariate else None,
    )


def answered(metric: Metric, log: UnitLog) -> bool:
    """Whether the unit gave this feedback at all in its window: that may itself be an effect of the arm."""
    closes = log.first_at + metric.window_hours * 3600
    return any(metric.source.field in said(row, closes) for row in log.turns if row["at"] <= closes)


def said(row: Row, until: float) -> dict[str, Any]:
    """The newest feedback of a turn by kind, of what came in time."""
    found: dict[str, Any] = {}
    for one in row.get("feedback") or ():
        if one["at"] <= until:
            found[one["kind"]] = one["value"]
            if one.get("comment"):
                found["comment"] = one["comment"]
    return found


def failure_value(metric: Metric) -> float:
    """The worst that the metric can be, before it is turned so that higher is better."""
    if metric.kind == "binary":
        return 0.0 if metric.better == "higher" else 1.0
    if metric.better == "higher":
        return metric.least
    return metric.cap if metric.cap is not None else 0.0


def oriented(metric: Metric, value: float) -> float:
    """Higher is better; its own inverse. Binary stays 0 or 1."""
    if metric.better == "higher":
        return value
    return 1.0 - value if metric.kind == "binary" else -value


def _turn_reading(metric: Metric, row: Row, until: float) -> float | None:
    heard = said(row, until)
    source = metric.source
    if row.get("failed") and source.source == "feedback" and source.field not in heard:
        return failure_value(metric)
    read = reading(source, row, heard)
    if read is None and row.get("failed") and source.source == "request":
        return failure_value(metric)
    return read


def _per_unit(metric: Metric, values: Sequence[float]) -> float:
    if metric.per_unit == "any":
        return max(values)
    if metric.per_unit == "mean":
        return sum(values) / len(values)
    return sum(values) if metric.per_unit == "sum" else values[-1]
