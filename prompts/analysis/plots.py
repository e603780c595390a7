"""A report as one page: HTML that needs no network, with its plots inside."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prompts.errors import PlotsUnavailable
from prompts.telling import told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Object = Mapping[str, Any]
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#f6f6f6;padding:1rem;overflow-x:auto;font-size:13px}}img{{max-width:100%}}
figure{{margin:2rem 0}}figcaption{{color:#555}}</style>
<h1>{title}</h1>{figures}<h2>In numbers</h2><pre>{text}</pre></html>
"""


def page_of(report: Object) -> str:
    """The page. Raises PlotsUnavailable where matplotlib is not installed."""
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{_png(figure)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, figure in drawn(report)
    )
    return PAGE.format(
        title=html.escape(f"Experiment {report['experiment']}"),
        figures=figures,
        text=html.escape(told(report)),
    )


def drawn(report: Object) -> list[tuple[str, Figure]]:
    """(caption, figure) of every plot. Raises PlotsUnavailable."""
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise PlotsUnavailable from missing
    pictures: list[tuple[str, Figure]] = []
    judged = [one["metric"] for one in report["comparisons"] if one["role"] != "watched"]
    names = list(dict.fromkeys(judged))
    figure = Figure(figsize=(10, 3.2 * len(names)), layout="constrained")
    for axes, name in zip(_column(figure, len(names)), names, strict=True):
        _effect(axes, report, name)
    pictures.append(
        ("Effect of each arm against control, with its confidence sequence: it holds at every look.", figure)
    )
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _allocation(left, report)
    _sample_ratio(right, report)
    pictures.append(("Units of each arm, and the evidence that they do not follow the weights.", figure))
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _guardrails(left, report)
    _bars(
        middle,
        report,
        "cached tokens of the prompt",
        [arm["cached_share"] for arm in report["arms"]],
        "share",
    )
    _first_token(right, report)
    pictures.append(
        (
            "How far each guardrail is from harm; what the prefix cache spared; time to the first token.",
            figure,
        )
    )
    return pictures


def _column(figure: Figure, rows: int) -> Sequence[Axes]:
    made = figure.subplots(rows, 1, squeeze=False)
    return [row[0] for row in made]


def _effect(axes: Axes, report: Object, name: str) -> None:
    curves = [curve for curve in report["series"]["effects"] if curve["metric"] == name]
    margin = next((one["margin"] for one in report["guardrails"] if one["metric"] == name), None)
    one = next(one for one in report["comparisons"] if one["metric"] == name)
    colours = dict(zip((arm["name"] for arm in report["arms"]), itertools.cycle(COLOURS), strict=False))
    for curve in curves:
        units, colour = curve["units"], colours[curve["arm"]]
        axes.plot(units, _gaps(curve["difference"]), color=colour, label=curve["arm"])
        axes.fill_between(units, _gaps(curve["lower"]), _gaps(curve["upper"]), color=colour, alpha=0.2)
    axes.axhline(0, color="black", linewidth=0.8)
    if margin is not None:
        harm = margin if one["better"] == "lower" else -margin
        axes.axhline(harm, color="#c00", linestyle="--", linewidth=1, label="margin")
    axes.set_title(
        f"{name} ({one['role']}): arm − {report['control']}, {one['better']} is better", loc="left"
    )
    axes.set_xlabel("units of both arms")
    _focus(axes, curves, margin)
    if any(curve["units"] for curve in curves):
        axes.legend(loc="best", frameon=False)
    else:
        _nothing(axes)


def _focus(axes: Axes, curves: Sequence[Object], margin: float | None) -> None:
    """Early intervals are huge: show what the later three quarters need."""
    seen = [
        abs(value)
        for curve in curves
        for key in ("lower", "upper")
        for value in curve[key][len(curve[key]) // 4 :]
        if value is not None
    ]
    if seen:
        reach = 1.1 * max(*seen, margin or 0.0, 1e-9)
        axes.set_ylim(-reach, reach)


def _allocation(axes: Axes, report: Object) -> None:
    series = report["series"]["allocation"]
    days = [(at - report["started_at"]) / 86_400 for at in series["at"]]
    for (name, counts), colour in zip(series["units"].items(), COLOURS, strict=False):
        axes.plot(days, counts, color=colour, label=name)
    axes.set_title("units enrolled", loc="left")
    axes.set_xlabel("days")
    if days:
        axes.legend(frameon=False)
    else:
        _nothing(axes)


def _sample_ratio(axes: Axes, report: Object) -> None:
    series = report["series"]["sample_ratio"]
    days = [(at - report["started_at"]) / 86_400 for at in series["at"]]
    axes.plot(days, [value / math.log(10) for value in series["log_e"]], color=COLOURS[0])
    axes.axhline(3, color="#c00", linestyle="--", linewidth=1, label="alarm at E = 1000")
    axes.set_title("sample ratio of assigned units: log₁₀ E", loc="left")
    axes.set_xlabel("days")
    axes.legend(frameon=False)


def _guardrails(axes: Axes, report: Object) -> None:
    rows = report["guardrails"]
    axes.set_title("guardrails: at worst", loc="left")
    if not rows:
        _nothing(axes, "none declared")
        return
    for at, row in enumerate(rows):
        colour = "#c00" if row["breached"] else "#54a24b" if row["safe"] else "#999"
        if row["bound"] is not None:
            axes.barh(at, row["bound"], color=colour)
        axes.plot([-row["margin"]] * 2, [at - 0.4, at + 0.4], color="black", linestyle="--")
    axes.set_yticks(range(len(rows)), [f"{row['metric']}\n{row['arm']}" for row in rows])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("gain; dashed: the loss that is allowed")


def _first_token(axes: Axes, report: Object) -> None:
    _bars(
        axes,
        report,
        "time to first token, median (dot: p95)",
        [arm["ttft_ms"] and arm["ttft_ms"]["median"] for arm in report["arms"]],
        "ms",
    )
    for at, arm in enumerate(report["arms"]):
        if arm["ttft_ms"]:
            axes.plot(at, arm["ttft_ms"]["p95"], "o", color="black", markersize=4)


def _bars(axes: Axes, report: Object, title: str, values: Sequence[float | None], unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    names = [arm["name"] for arm in report["arms"]]
    colours = [COLOURS[at % len(COLOURS)] for at in range(len(names))]
    axes.bar(range(len(names)), [value or 0.0 for value in values], color=colours)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel(unit)
    if all(value is None for value in values):
        _nothing(axes)


def _nothing(axes: Axes, says: str = "nothing to show yet") -> None:
    axes.text(0.5, 0.5, says, transform=axes.transAxes, ha="center", va="center", color="#777")


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
