"""The ladder as pictures, SVG and PNG: score against what is learned and against time; the layerwise sweep.

With the IMDB data the article's figures stand beside ours as grey marks (Sebastian Raschka, "Finetuning Large
Language Models"; numbers from its published results.txt: DistilBERT, 35,000 training reviews).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prompts.analysis.paired import Interval
from training.comparison import interval, resample
from training.recommendation import mean
from training.records import Row

# Okabe and Ito's palette: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
LAST_N = re.compile(r"last-(\d+)$")


class Published(NamedTuple):
    name: str
    accuracy: float
    parameters: int | None
    minutes: float | None
    blocks: int | None  # trained, of six


ARTICLE = (
    Published("features + random forest", 0.8324, None, None, None),
    Published("features + logistic regression", 0.8795, None, 3.28, None),
    Published("last 2 layers", 0.8645, 592_130, 2.78, 0),
    Published("+ last block", 0.9220, None, 3.39, 1),
    Published("+ last 2 blocks", 0.9240, None, 4.06, 2),
    Published("+ last 3 blocks", 0.9265, None, 4.63, 3),
    Published("+ last 4 blocks", 0.9263, None, 5.15, 4),
    Published("+ last 5 blocks", 0.9252, None, 6.99, 5),
    Published("all layers", 0.9255, 66_955_010, 6.99, 6),
    Published("bottleneck adapters", 0.8839, 599_424, 5.69, None),
)


def draw(
    rows: Sequence[Row],
    folder: Path,
    *,
    title: str,
    recommended: str | None,
    imdb: bool,
    score: str = "accuracy",
) -> list[Path]:
    """Writes the plots that the rows allow; the paths written. `score`: what the runs' scores are."""
    from matplotlib.figure import Figure  # seconds to import

    ran = [row for row in rows if row.runs]
    written: list[Path] = []
    if not ran:
        return written
    written += _save(_ladder(ran, title, recommended, imdb, score), folder, "ladder")
    for family in ("encoder", "decoder"):
        sweep = _sweep([row for row in ran if row.rung.startswith(f"{family}/")])
        if len(sweep) >= 2:
            figure: Any = Figure(figsize=(9, 5.6), layout="constrained")
            _layerwise(figure.subplots(), sweep, f"{title}, {family}", imdb)
            written += _save(figure, folder, f"layerwise-{family}")
    return written


class _Spot(NamedTuple):
    """A rung in the picture; its number is its place in the list beside it, best first."""

    number: int
    name: str
    score: Interval
    share: float  # of the model's parameters, learned
    seconds: float  # to prepare and train


def _ladder(rows: Sequence[Row], title: str, recommended: str | None, imdb: bool, score: str) -> Any:
    """Score against what is learned, and against the time it takes; every rung a number."""
    from matplotlib.figure import Figure

    found = resample({row.rung: row.runs for row in rows}, draws=1_000)
    bounds = {row.rung: interval(found, row.rung) for row in rows}
    best_first = sorted(rows, key=lambda row: -bounds[row.rung].mean)
    spots = [
        _Spot(
            number,
            row.rung,
            bounds[row.rung],
            row.runs[0].cost.trainable / row.runs[0].cost.total,
            mean([run.cost.train_seconds + run.cost.prepare_seconds for run in row.runs]),
        )
        for number, row in enumerate(best_first, start=1)
    ]
    figure: Any = Figure(figsize=(12, max(5.6, 0.19 * len(spots) + 1)), layout="constrained")
    by_share, by_time, names = figure.subplots(1, 3, width_ratios=(4, 4, 2.6))
    by_time.sharey(by_share)
    by_share.set(xlabel="share of the parameters that is learned", ylabel=f"{score} on the test part")
    by_time.set(xlabel="seconds to prepare and train")
    figure.suptitle(title, fontsize=11)
    if imdb:
        _published(by_share, by_time)
    _panel(figure, by_share, [(one.share, one) for one in spots], recommended)
    _panel(figure, by_time, [(one.seconds, one) for one in spots], recommended)
    by_share.legend(fontsize=7, loc="lower right")
    names.axis("off")
    lines = [f"{one.number:>2}  {one.score.mean:.3f}  {one.name}" for one in spots]
    names.text(0, 1, "\n".join(lines), va="top", fontsize=7, family="monospace")
    return figure


def _panel(figure: Any, axes: Any, placed: Sequence[tuple[float, _Spot]], recommended: str | None) -> None:
    """Points with intervals and numbers; what learns nothing stands at the left edge, where x is 0."""
    above = sorted(x for x, _ in placed if x > 0)
    least = above[0] if above else 1.0
    axes.set_xscale("symlog", linthresh=least)
    axes.set_xlim(-0.3 * least, (above[-1] if above else 1.0) * 3)
    for x, one in placed:
        reach = [[one.score.mean - one.score.low], [one.score.high - one.score.mean]]
        axes.errorbar(x, one.score.mean, reach, fmt="o", color=BLUE, capsize=2, markersize=4, linewidth=1)
        if one.name == recommended:
            axes.plot(
                x, one.score.mean, "o", markersize=13, fillstyle="none", color=ORANGE, label="recommended"
            )
    best, frontier = -1.0, []
    for x, one in sorted(placed, key=lambda both: (both[0], -both[1].score.mean)):
        if one.score.mean > best:
            best = one.score.mean
            frontier.append((x, best))
    axes.step(*zip(*frontier, strict=True), where="post", color=GREEN, linewidth=1, label="frontier")
    axes.grid(alpha=0.25)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick == 0 or tick >= least])
    figure.draw_without_rendering()  # only then is it known where a point lies on the page
    where = axes.transData.transform([(x, one.score.mean) for x, one in placed])
    for (x, one), up in zip(placed, apart([(float(at[0]), float(at[1])) for at in where]), strict=True):
        axes.annotate(
            str(one.number),
            (x, one.score.mean),
            textcoords="offset pixels",
            xytext=(7, up),
            fontsize=6.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5} if up > 4 else None,
        )


def apart(points: Sequence[tuple[float, float]], wide: float = 22.0, high: float = 11.0) -> list[float]:
    """How far up each point's number is moved (pixels), so that no two numbers lie over each other."""
    taken: list[tuple[float, float]] = []
    moved = [0.0] * len(points)
    for at in sorted(range(len(points)), key=lambda at: points[at][1]):
        x, y = points[at]
        near = sorted(other for column, other in taken if abs(column - x) < wide)
        spot = y
        for other in near:
            if abs(other - spot) < high:
                spot = other + high
        taken.append((x, spot))
        moved[at] = spot - y
    return moved


def _published(by_share: Any, by_time: Any) -> None:
    whole = max(one.parameters or 0 for one in ARTICLE)
    for one in ARTICLE:
        if one.parameters:
            by_share.plot(one.parameters / whole, one.accuracy, "x", color=GREY)
        if one.minutes:
            by_time.plot(one.minutes * 60, one.accuracy, "x", color=GREY)
    by_share.plot([], [], "x", color=GREY, label="the article (DistilBERT, 35,000 reviews)")


def _sweep(rows: Sequence[Row]) -> list[tuple[int, Row]]:
    """(trained blocks, row) of the layerwise experiment, from few to all."""
    found = [(blocks, row) for row in rows if (blocks := _blocks(row)) is not None]
    return sorted(found, key=lambda one: one[0])


def _layerwise(axes: Any, sweep: Sequence[tuple[int, Row]], title: str, imdb: bool) -> None:
    for blocks, row in sweep:
        for run in row.runs:
            axes.plot(blocks, run.score, ".", color=BLUE, markersize=7)
    line = [(blocks, mean([run.score for run in row.runs])) for blocks, row in sweep]
    axes.plot(*zip(*line, strict=True), color=BLUE, linewidth=1, label="accuracy (a dot per seed)")
    other = axes.twinx()
    minutes = [
        (blocks, mean([run.cost.train_seconds + run.cost.prepare_seconds for run in row.runs]) / 60)
        for blocks, row in sweep
    ]
    other.plot(*zip(*minutes, strict=True), color=ORANGE, linestyle="--", marker="s", markersize=4)
    other.set_ylabel("minutes to prepare and train", color=ORANGE)
    other.set_ylim(bottom=0)
    if imdb:
        depth = int(sweep[-1][1].runs[0].settings["depth"])
        marks = [one for one in ARTICLE if one.blocks is not None]
        axes.plot(
            [(one.blocks or 0) * depth / 6 for one in marks],
            [one.accuracy for one in marks],
            "x",
            color=GREY,
            label="the article (6 blocks, stretched to this depth)",
        )
    axes.set(
        xlabel="trained blocks, counted from the output", ylabel="accuracy on the test part", title=title
    )
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


def _blocks(row: Row) -> int | None:
    """How many blocks a rung of the layerwise sweep trains; None when it is not of the sweep."""
    options = row.runs[0].settings
    depth, method = options.get("depth"), options.get("method")
    if method == "output-layers":
        return 0
    if method == "all":
        return int(depth) if depth is not None else None
    found = LAST_N.search(row.rung)
    return int(found[1]) if found else None


def _save(figure: Any, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"Date": None})  # the same rows give the same bytes
    figure.savefig(paths[1], dpi=130)
    return paths
