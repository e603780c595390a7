"""Reward and divergence of a policy by step, SVG or PNG by the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.plots import BLUE, GREEN, ORANGE


def draw(report: Mapping[str, Any], path: Path, title: str) -> None:
    """`turns` and `curve` of a report of rloo or ppo."""
    from matplotlib.figure import Figure  # seconds to import

    figure: Any = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [turn["step"] for turn in report["turns"]]
    above.plot(
        steps, [turn["reward"] for turn in report["turns"]], color=BLUE, marker=".", label="drawn, training"
    )
    above.plot(
        [step for step, _, _ in report["curve"]],
        [valid for _, _, valid in report["curve"]],
        color=ORANGE,
        marker="o",
        linestyle="--",
        label="validation, less β KL",
    )
    above.set_ylabel("reward (deviations)")
    above.set_title(title)
    above.legend(frameon=False)
    below.plot(steps, [turn["kl"] for turn in report["turns"]], color=GREEN, marker=".")
    below.set_ylabel("KL to the start (nats an answer)")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
