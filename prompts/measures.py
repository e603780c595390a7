"""`request.ttft_ms > 800`: the little language in which a metric names its number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from prompts.experiment_records import Comparison, Measure

FEEDBACK = {"thumb": bool, "rating": float, "correction": str, "comment": str, "label": str}
REQUEST = (  # number or boolean fields of a logged turn, see docs/experiments.md
    "ttft_ms",
    "total_ms",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "sources",
    "cited",
    "citations_dropped",
    "refused",
    "failed",
    "cancelled",
    "fell_back",
    "turns",
)
FLAGS = ("refused", "failed", "cancelled", "fell_back")
TEXTS = ("correction", "comment", "label")  # whether there is one is the number
_FORM = re.compile(r"(\w+)\.(\w+)(?:\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?))?")


def parse_measure(text: str) -> Measure | str:
    """The measure, or what is wrong with the text."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        return f"{text!r} must read like feedback.thumb or request.ttft_ms > 800"
    source, name, comparison, limit = form.groups()
    known = {"feedback": tuple(FEEDBACK), "request": REQUEST}.get(source)
    if source != "covariates" and (known is None or name not in known):
        choices = ", ".join([*(f"feedback.{name}" for name in FEEDBACK), *(f"request.{n}" for n in REQUEST)])
        return f"{source}.{name} is not known: choose of {choices}, covariates.NAME"
    return Measure(source, name, cast(Comparison, comparison or ""), float(limit or 0))  # type: ignore[arg-type]


def is_yes_or_no(measure: Measure) -> bool:
    """Whether the measure is always 0 or 1."""
    if measure.comparison:
        return True
    return measure.field in (FLAGS if measure.source == "request" else ("thumb", *TEXTS))


def reading(measure: Measure, row: Mapping[str, Any], said: Mapping[str, Any]) -> float | None:
    """The number in a logged turn; `said` is its newest feedback by kind. None: the turn does not have it."""
    if measure.source == "feedback":
        value = said.get(measure.field)
        if measure.field in TEXTS:
            value = float(value is not None)  # nobody had to write one: its absence is a reading too
    elif measure.source == "covariates":
        value = (row.get("covariates") or {}).get(measure.field)
    elif measure.field == "turns":
        value = 1.0
    else:
        value = row.get(measure.field)
    if value is None:
        return None
    number = float(value)
    return number if not measure.comparison else float(_compare(number, measure.comparison, measure.limit))


def _compare(number: float, comparison: Comparison, limit: float) -> bool:
    if comparison == ">":
        return number > limit
    if comparison == ">=":
        return number >= limit
    if comparison == "<":
        return number < limit
    if comparison == "<=":
        return number <= limit
    return (number == limit) == (comparison == "==")
