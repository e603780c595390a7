"""A report in words and aligned numbers, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
SAYS = {
    "winner": "WINNER",
    "harmful": "HARM, stopped",
    "invalid": "INVALID, stopped",
    "equivalent": "EQUIVALENT",
    "undecided": "UNDECIDED",
    "running": "RUNNING, no verdict yet",
}


def told(report: Object) -> str:
    """The whole report; it reads from the verdict down to the details."""
    return "\n".join(_lines(report))


def _lines(report: Object) -> Iterator[str]:
    yield f"{report['experiment']}: {report['question']}"
    started, now = report["started_at"], report["generated_at"]
    days = max(now - started, 0) / 86_400
    yield (
        f"since {_minute(started)} ({days:.1f} days), unit {report['unit']}, ramp {report['ramp']:g}, "
        f"{len(report['phases'])} phase{'s' * (len(report['phases']) != 1)}"
    )
    yield ""
    at = f" at {_minute(report['decided_at'])}" if report["decided_at"] else ""
    yield f"Verdict: {SAYS[report['verdict']]}{at}"
    yield f"  {report['reason']}"
    yield ""
    yield from _table(
        (
            "arm",
            "units",
            "closed",
            "feedback",
            report["primary"],
            "interval",
            "turns",
            "failed",
            "refused",
        ),
        [
            (
                arm["name"] + (" (control)" if arm["name"] == report["control"] else ""),
                _count(arm["units"]),
                _count(arm["closed"]),
                _count(arm["with_feedback"]),
                _number(arm["mean"]),
                _interval(arm["lower"], arm["upper"], sign=""),
                _count(arm["turns"]),
                _percent(arm["failed"]),
                _percent(arm["refused"]),
            )
            for arm in report["arms"]
        ],
    )
    yield ""
    yield from _table(
        (
            "metric",
            "arm − control",
            "difference",
            f"interval ({1 - report['alpha']:.0%} at every look)",
            "evidence",
        ),
        [
            (
                f"{one['metric']} ({one['role']})",
                f"{one['arm']} − {one['versus']}",
                _signed(one["difference"]),
                _interval(one["lower"], one["upper"]),
                _evidence(one),
            )
            for one in report["comparisons"]
        ],
    )
    if report["guardrails"]:
        yield ""
        yield from _table(
            ("guardrail", "arm", "at worst (loss < 0)", "allowed", ""),
            [
                (
                    one["metric"],
                    one["arm"],
                    _signed(one["bound"]),
                    f"{-one['margin']:+g}",
                    "BREACHED" if one["breached"] else "safe" if one["safe"] else "not yet known",
                )
                for one in report["guardrails"]
            ],
        )
    yield ""
    assigned = report["sample_ratio"]["assigned"]
    yield f"Sample ratio of assigned units: {_ratio(assigned)}"
    for name, one in report["sample_ratio"]["with_feedback"].items():
        yield f"Sample ratio of units with {name}: {_ratio(one)}"
    if report["crossed_units"]:
        yield f"{report['crossed_units']} units met two arms in one phase: assignment or logging is broken"
    yield ""
    yield from _table(
        ("arm", "TTFT ms median", "p95", "prompt tokens", "of them cached", "answer tokens", "sources cited"),
        [
            (
                arm["name"],
                _number(arm["ttft_ms"] and arm["ttft_ms"]["median"], 0),
                _number(arm["ttft_ms"] and arm["ttft_ms"]["p95"], 0),
                _number(arm["prompt_tokens"], 0),
                _percent(arm["cached_share"]),
                _number(arm["completion_tokens"], 0),
                _percent(arm["cited_share"]),
            )
            for arm in report["arms"]
        ],
    )
    yield ""
    yield report["method"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        yield "  ".join(cells).rstrip()


def _evidence(one: Object) -> str:
    if one["e_value"] is not None:
        return f"E = {one['e_value']:.3g}"
    return f"p = {one['p_anytime']:.3g}" if one["p_anytime"] is not None else "–"


def _ratio(one: Object) -> str:
    counts = " : ".join(f"{count}" for count in one["counts"].values())
    said = f"ALARM since {_minute(one['alarm_at'])}" if one["alarm"] else "as expected"
    return (
        f"{counts}, {said} (E = {one['e_value']:.3g}, alarm at 1000; χ² once p = {one['p_chi_square']:.3g})"
    )


def _interval(lower: float | None, upper: float | None, sign: str = "+") -> str:
    if lower is None or upper is None:
        return "not yet"
    return f"{lower:{sign}.4f} … {upper:{sign}.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
