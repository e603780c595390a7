"""The ladder as pictures, SVG and PNG: score against what is learned, and the layerwise sweep.

With the IMDB data the article's figures stand beside ours as grey marks (Sebastian Raschka, "Finetuning Large
Language Models"; numbers from its published results.txt: DistilBERT, 35,000 training reviews).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    figure: Any = Figure(figsize=(9, 5.6), layout="constrained")
    _against_parameters(figure.subplots(), ran, title, recommended, imdb, score)
    written += _save(figure, folder, "ladder")
    for family in ("encoder", "decoder"):
        sweep = _sweep([row for row in ran if row.rung.startswith(f"{family}/")])
        if len(sweep) >= 2:
            figure = Figure(figsize=(9, 5.6), layout="constrained")
            _layerwise(figure.subplots(), sweep, f"{title}, {family}", imdb)
            written += _save(figure, folder, f"layerwise-{family}")
    return written


def _against_parameters(
    axes: Any, rows: Sequence[Row], title: str, recommended: str | None, imdb: bool, score: str
) -> None:
    found = resample({row.rung: row.runs for row in rows}, draws=1_000)
    spots: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row.runs[0].score):
        bound = interval(found, row.rung)
        x = max(1.0, float(row.runs[0].cost.trainable))
        axes.errorbar(
            x,
            bound.mean,
            [[bound.mean - bound.low], [bound.high - bound.mean]],
            fmt="o",
            color=BLUE,
            capsize=2,
            markersize=5,
            linewidth=1,
        )
        if row.rung == recommended:
            axes.plot(x, bound.mean, "o", markersize=14, fillstyle="none", color=ORANGE, label="recommended")
        spots.append((x, bound.mean))
        axes.annotate(row.rung, (x, bound.mean), textcoords="offset points", xytext=(6, -11), fontsize=7)
    best, frontier = -1.0, []
    for x, y in sorted(spots):
        if y > best:
            best = y
            frontier.append((x, y))
    axes.step(*zip(*frontier, strict=True), where="post", color=GREEN, linewidth=1, label="frontier")
    if imdb:
        for one in ARTICLE:
            if one.parameters:
                axes.plot(one.parameters, one.accuracy, "x", color=GREY)
                axes.annotate(
                    one.name,
                    (one.parameters, one.accuracy),
                    color=GREY,
                    fontsize=6,
                    textcoords="offset points",
                    xytext=(6, 4),
                )
        axes.plot([], [], "x", color=GREY, label="the article (DistilBERT, 35,000 reviews)")
    axes.set_xscale("log")
    axes.set(xlabel="trainable parameters", ylabel=f"{score} on the test part (95 % interval)", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


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
        deepest = max(blocks for blocks, _ in sweep)
        marks = [one for one in ARTICLE if one.blocks is not None]
        axes.plot(
            [(one.blocks or 0) * deepest / 6 for one in marks],
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
