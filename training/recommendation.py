"""Which rung to use, and why: the cheapest of those that are not worse than the best by more than δ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prompts.analysis.paired import Interval
from training.comparison import against, items_needed, resample
from training.records import Row, Run

DELTA = 0.005  # accuracy: half a point
MANY = 20  # times the test items: nobody labels so many to settle half a point


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Limits of the user. None: no limit."""

    delta: float = DELTA
    train_minutes: float | None = None
    parameters: int | None = None
    no_added_tokens: bool = False
    must_hot_load: bool = False


class Advice(NamedTuple):
    outcome: Literal["recommended", "several", "undecided"]
    rung: str | None  # the cheapest of those that qualify
    others: tuple[str, ...]  # as good, dearer
    best: str  # highest validation mean
    why: str
    bounds: Mapping[str, Interval]  # rung − best on the test items, simultaneous


def recommend(rows: Sequence[Row], wanted: Wanted | None = None) -> Advice | None:
    """None when no rung ran. The test part decides who qualifies, never who is called best."""
    wanted = wanted or Wanted()
    runs = {row.rung: row.runs for row in rows if row.runs}
    if not runs:
        return None
    served = {row.rung: row.served_by for row in rows}
    best = max(runs, key=lambda rung: mean([run.valid for run in runs[rung]]))
    bounds = against(resample(runs), best) if len(runs) > 1 else {}
    good = [best, *(rung for rung, bound in bounds.items() if bound.low > -wanted.delta)]
    allowed = [rung for rung in good if not broken(rung, runs[rung], served[rung], wanted)]
    worse = [rung for rung, bound in bounds.items() if bound.high < -wanted.delta]
    open_ = [rung for rung in runs if rung not in good and rung not in worse]
    open_ = [rung for rung in open_ if not broken(rung, runs[rung], served[rung], wanted)]
    if not allowed:
        reason = broken(best, runs[best], served[best], wanted)
        return Advice(
            "undecided",
            None,
            (),
            best,
            f"{best} is best but {reason}; loosen the limit or add test items",
            bounds,
        )
    cheapest = min(allowed, key=lambda rung: price(runs[rung]))
    cheaper = [rung for rung in open_ if price(runs[rung]) < price(runs[cheapest])]
    others = tuple(sorted((rung for rung in allowed if rung != cheapest), key=lambda rung: price(runs[rung])))
    if cheaper:
        items = len(runs[best][0].test)
        needed = max(items_needed(bounds[rung], -wanted.delta, items) for rung in cheaper)
        way = f"about {needed:,.0f} would" if needed < MANY * items else "a larger --delta may"
        why = (
            f"{cheapest} is good enough; whether the cheaper {', '.join(cheaper)} would be too, these "
            f"{items:,} test items do not say at {100 * wanted.delta:g} points: {way}"
        )
        return Advice("undecided", cheapest, others, best, why, bounds)
    if others:
        why = f"equal within {100 * wanted.delta:.1f} points; {cheapest} is the cheapest to serve"
        return Advice("several", cheapest, others, best, why, bounds)
    why = f"no other rung is shown to be within {100 * wanted.delta:.1f} points of it"
    return Advice("recommended", cheapest, (), best, why, bounds)


def price(runs: Sequence[Run]) -> tuple[float, float, float]:
    """What is compared, in this order: seconds per request (two digits), training seconds, bytes."""
    serve = mean([run.cost.serve_seconds for run in runs])
    rounded = 0.0 if serve <= 0 else round(serve, 1 - math.floor(math.log10(serve)))
    seconds = mean([run.cost.train_seconds + run.cost.prepare_seconds for run in runs])
    return rounded, seconds, mean([float(run.cost.artefact_bytes) for run in runs])


def broken(rung: str, runs: Sequence[Run], served_by: str, wanted: Wanted) -> str:
    """Which limit the rung breaks; empty when none."""
    cost = runs[0].cost
    minutes = mean([run.cost.train_seconds for run in runs]) / 60
    if wanted.train_minutes is not None and minutes > wanted.train_minutes:
        return f"trains for {minutes:.1f} minutes (at most {wanted.train_minutes:g} wanted)"
    if wanted.parameters is not None and cost.trainable > wanted.parameters:
        return f"learns {cost.trainable:,} parameters (at most {wanted.parameters:,} wanted)"
    if wanted.no_added_tokens and cost.added_tokens:
        return f"adds {cost.added_tokens:.0f} tokens to every prompt"
    if wanted.must_hot_load and "not served" in served_by:
        return "cannot be loaded into a running server"
    return ""


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
