"""The judged figures as Markdown tables and as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f")


def tables(results: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """One section a pack, and what of the bars held."""
    lines = [
        f"{about['model']} ({about['scorer']}, {about['dtype']}), demonstrations by {about['embedder']}; "
        f"{about['command']}. Accuracy and expected calibration error (15 bins of equal count) with 95 % "
        "intervals: bootstrap over items, and over the "
        f"{len(about['seeds'])} seeds of random demonstrations.",
        "",
        f"| data | items | nearest − random, mean of k = {', '.join(map(str, about['shots']))}: raw | "
        "batch | above 0 for each k, raw | error raw → calibrated, mean of the rows | change | "
        "lower in rows |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        gains = result["nearest - random"]
        each = [one["raw"][1] > 0 for one in result["against_random"] if one["condition"] == "nearest"]
        before, after = _mean(result, "raw"), _mean(result, "calibrated")
        lower = [row["error"]["calibrated - raw"] for row in result["rows"]]
        lines.append(
            f"| {result['pack']} | {result['items']} | {_signed(gains['raw'])} | {_signed(gains['batch'])} | "
            f"{_yes(all(each))} | {before:.3f} → {after:.3f} | {_signed(result['calibrated - raw'])} | "
            f"{sum(high < 0 for _, _, high in lower)} surely, "
            f"{sum(low > 0 for _, low, _ in lower)} surely higher, of {len(lower)} |"
        )
    for result in results:
        lines += [
            "",
            f"### {result['pack']}: {result['items']} items, {result['template']}",
            "",
            *_rows(result),
        ]
    return "\n".join(lines) + "\n"


def _rows(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| demonstrations | k | accuracy raw | batch | − random, raw | − random, batch | "
        "error raw | batch | calibrated | calibrated − raw | tokens |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    against = {(one["condition"], one["shots"]): one for one in result["against_random"]}
    for row in result["rows"]:
        gain = against.get((row["condition"], row["shots"]))
        error = row["error"]
        cells = [
            row["condition"],
            str(row["shots"] or ""),
            _plain(row["accuracy"]),
            _plain(row["batch_accuracy"]),
            _signed(gain["raw"]) if gain else "",
            _signed(gain["batch"]) if gain else "",
            f"{error['raw'][0]:.3f}",
            f"{error['batch'][0]:.3f}",
            f"{error['calibrated'][0]:.3f}",
            _signed(error["calibrated - raw"]),
            f"{row['tokens']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Above: accuracy by number of demonstrations; below: calibration errors before and after."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(results), figsize=(3.3 * len(results) + 0.6, 6.8), squeeze=False, layout="constrained"
    )
    for at, result in enumerate(results):
        _accuracies(axes[0][at], result)
        _errors(axes[1][at], result)
    axes[0][0].set_ylabel("accuracy, raw scores")
    axes[1][0].set_ylabel("calibration error, calibrated")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _accuracies(axis: Any, result: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(row["condition"] for row in result["rows"]))
    shots = sorted({row["shots"] for row in result["rows"]} - {0})
    for name, colour in zip(names, COLOURS, strict=False):
        rows = [row for row in result["rows"] if row["condition"] == name]
        if name == "zero-shot":
            mean, low, high = rows[0]["accuracy"]
            axis.axhspan(low, high, color="#bbbbbb", alpha=0.4, lw=0)
            axis.axhline(mean, color="#555555", lw=1, ls="--", label=name)
            continue
        offset = 1 + 0.012 * (names.index(name) - len(names) / 2)  # so that intervals do not cover each other
        where = [row["shots"] * offset for row in rows]
        means = [row["accuracy"][0] for row in rows]
        ends = [
            [max(row["accuracy"][0] - row["accuracy"][1], 0) for row in rows],  # rounding
            [max(row["accuracy"][2] - row["accuracy"][0], 0) for row in rows],
        ]
        axis.errorbar(
            where, means, yerr=ends, color=colour, lw=1.4, marker="o", ms=3, elinewidth=0.7, label=name
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(shots, [str(count) for count in shots])
    axis.minorticks_off()
    axis.set_xlabel("demonstrations")
    axis.set_title(f"{result['pack']}, {result['items']} items", fontsize=10)
    axis.grid(alpha=0.25)


def _errors(axis: Any, result: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(row["condition"] for row in result["rows"]))
    most = max(max(row["error"]["raw"][0], row["error"]["calibrated"][0]) for row in result["rows"]) * 1.08
    axis.plot([0, most], [0, most], color="#999999", lw=0.8, ls=":")
    for name, colour in zip(names, COLOURS, strict=False):
        rows = [row for row in result["rows"] if row["condition"] == name]
        axis.scatter(
            [row["error"]["raw"][0] for row in rows],
            [row["error"]["calibrated"][0] for row in rows],
            s=18,
            color="#555555" if name == "zero-shot" else colour,
        )
    axis.set_xlim(0, most)
    axis.set_ylim(0, most)
    axis.set_xlabel("calibration error, raw")
    axis.grid(alpha=0.25)


def _mean(result: Mapping[str, Any], way: str) -> float:
    errors = [row["error"][way][0] for row in result["rows"]]
    return float(sum(errors) / len(errors))


def _plain(value: Sequence[float]) -> str:
    mean, low, high = value
    return f"{mean:.3f} ({low:.3f}–{high:.3f})"


def _signed(value: Sequence[float]) -> str:
    mean, low, high = value
    return f"{mean:+.3f} ({low:+.3f} .. {high:+.3f})"


def _yes(held: bool) -> str:
    return "yes" if held else "no"
