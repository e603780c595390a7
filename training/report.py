"""What a ladder says: ladder.json for machines, ladder.md and ladder.html for people."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prompts.analysis.paired import Interval
from training.comparison import against, against_prompt, best_prompt, interval, resample
from training.recommendation import Advice, mean
from training.records import Questions, Row, Run, Split

COSTS = (
    "learned", "share", "train s", "prepare s", "peak MB", "artefact", "ms/text", "tokens added", "cut",
    "served by",
)  # fmt: skip
COLUMNS = {
    "classify": (
        "rung", "accuracy", "95 % interval", "by seed", "macro F1", "− best", "− zero-shot", *COSTS,
    ),
    "answer": (
        "rung", "F1", "95 % interval", "by seed", "exact match", "− best prompt", "p", *COSTS,
    ),
}  # fmt: skip


def summary(
    rows: Sequence[Row], advice: Advice | None, split: Split | Questions, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything in plain values; the runs themselves are in the folder `runs`."""
    task = "classify" if isinstance(split, Split) else "answer"
    ran = {row.rung: row.runs for row in rows if row.runs}
    found = resample(ran) if ran else None
    best = advice.best if advice else None
    from_best = against(found, best) if found and best and len(ran) > 1 else {}
    from_zero = against(found, "zero-shot") if found and "zero-shot" in ran and len(ran) > 1 else {}
    beaten = best_prompt(rows) if task == "answer" else None
    return {
        "format": 1,
        "task": task,
        "data": {
            "name": split.name,
            "digest": split.digest,
            "labels": list(split.labels) if isinstance(split, Split) else None,
            "train": len(split.train),
            "valid": len(split.valid),
            "test": len(split.test),
            "removed_copies": split.removed,
        },
        "about": dict(about),
        "advice": None if advice is None else {
            "outcome": advice.outcome,
            "rung": advice.rung,
            "others": list(advice.others),
            "best_on_validation": advice.best,
            "why": advice.why,
        },
        "best_prompt": beaten and {"rung": beaten.rung, "against": against_prompt(rows, beaten)},
        "looks_at_test": {rung: len(runs) for rung, runs in ran.items()},
        "rungs": [
            _row(row, interval(found, row.rung), from_best.get(row.rung), from_zero.get(row.rung))
            if row.runs and found else {"rung": row.rung, "failed": row.failed}
            for row in rows
        ],
    }  # fmt: skip


def write(folder: Path, content: Mapping[str, Any], plots: Sequence[Path]) -> list[Path]:
    """ladder.json, ladder.md, ladder.html; the paths written."""
    paths = [folder / name for name in ("ladder.json", "ladder.md", "ladder.html")]
    paths[0].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    paths[1].write_text(markdown(content, [one for one in plots if one.suffix == ".png"]))
    paths[2].write_text(page(content, [one for one in plots if one.suffix == ".png"]))
    return paths


def markdown(content: Mapping[str, Any], plots: Sequence[Path]) -> str:
    lines = [f"# {content['data']['name']}: which way of adapting the model?", "", _advice(content), ""]
    columns = COLUMNS[content["task"]]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cells(row, content)) + " |" for row in content["rungs"]]
    lines += ["", *_facts(content), ""]
    lines += [f"![{one.stem}]({one.name})" for one in plots]
    return "\n".join(lines) + "\n"


def page(content: Mapping[str, Any], plots: Sequence[Path]) -> str:
    """One file that needs no other: the plots are inside."""
    title = html.escape(f"{content['data']['name']}: which way of adapting the model?")
    head = "".join(f"<th>{html.escape(one)}</th>" for one in COLUMNS[content["task"]])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row, content)) + "</tr>"
        for row in content["rungs"]
    )
    pictures = "".join(
        f'<img alt="{one.stem}" src="data:image/png;base64,{base64.b64encode(one.read_bytes()).decode()}">'
        for one in plots
    )
    facts = "".join(f"<li>{html.escape(one.removeprefix('- '))}</li>" for one in _facts(content))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;color:#222}"
        "table{border-collapse:collapse;font-size:12px;display:block;overflow-x:auto}"
        "td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:right;white-space:nowrap}"
        "td:first-child,th:first-child,td:last-child{text-align:left}img{max-width:100%;margin-top:1.5rem}"
        f"</style><h1>{title}</h1><p><strong>{html.escape(_advice(content))}</strong></p>"
        f"<table><tr>{head}</tr>{body}</table><ul>{facts}</ul>{pictures}</html>\n"
    )


def _row(row: Row, seen: Interval, best: Interval | None, zero: Interval | None) -> dict[str, Any]:
    runs, first = row.runs, row.runs[0]
    cost = first.cost
    return {
        "rung": row.rung,
        **({"accuracy": seen.mean} if first.exact_match is None else {"f1": seen.mean}),
        "interval": [seen.low, seen.high],
        "by_seed": {str(run.seed): run.score for run in runs},
        "validation": mean([run.valid for run in runs]),
        **(
            {"macro_f1": mean([run.f1 for run in runs])}
            if first.exact_match is None
            else {"exact_match": mean([run.exact_match or 0.0 for run in runs])}
        ),
        "minus_best": best,
        "minus_zero_shot": zero,
        "trainable": cost.trainable,
        "share": cost.trainable / cost.total if cost.total else 0.0,
        "train_seconds": _mean(runs, "train_seconds"),
        "prepare_seconds": _mean(runs, "prepare_seconds"),
        "peak_bytes": max(run.cost.peak_bytes for run in runs),
        "artefact_bytes": cost.artefact_bytes,
        "serve_seconds": _mean(runs, "serve_seconds"),
        "added_tokens": cost.added_tokens,
        "truncated": cost.truncated,
        "served_by": row.served_by,
        "settings": dict(first.settings),
    }


def _mean(runs: Sequence[Run], name: str) -> float:
    return mean([float(getattr(run.cost, name)) for run in runs])


def _cells(row: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    columns = COLUMNS[content["task"]]
    if "failed" in row:
        return [row["rung"], f"did not run: {row['failed']}", *[""] * (len(columns) - 2)]
    low, high = row["interval"]
    if content["task"] == "classify":
        score, second = row["accuracy"], row["macro_f1"]
        differences = [_difference(row["minus_best"]), _difference(row["minus_zero_shot"])]
    else:
        score, second = row["f1"], row["exact_match"]
        found = (content["best_prompt"] or {"against": {}})["against"].get(row["rung"])
        differences = ["", ""] if found is None else [_difference(found["difference"]), _p(found["p"])]
    return [
        row["rung"],
        f"{100 * score:.2f}",
        f"{100 * low:.2f}–{100 * high:.2f}",
        " ".join(f"{100 * one:.2f}" for one in row["by_seed"].values()),
        f"{100 * second:.2f}",
        *differences,
        f"{row['trainable']:,}",
        f"{100 * row['share']:.3g} %",
        f"{row['train_seconds']:.1f}",
        f"{row['prepare_seconds']:.1f}",
        f"{row['peak_bytes'] / 1e6:,.0f}",
        _size(row["artefact_bytes"]),
        f"{1000 * row['serve_seconds']:.2f}",
        f"{row['added_tokens']:.0f}",
        f"{100 * row['truncated']:.1f} %",
        row["served_by"],
    ]


def _difference(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{100 * found[0]:+.2f} ({100 * found[1]:+.2f}…{100 * found[2]:+.2f})"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _advice(content: Mapping[str, Any]) -> str:
    advice = content["advice"]
    if advice is None:
        return "No rung ran."
    chosen = advice["rung"] or "nothing"
    said = {
        "recommended": f"Use {chosen}",
        "several": f"Use {chosen}",
        "undecided": f"Undecided, {chosen} so far",
    }
    others = f" As good, dearer: {', '.join(advice['others'])}." if advice["others"] else ""
    return f"{said[advice['outcome']]}: {advice['why']}.{others}"


def _facts(content: Mapping[str, Any]) -> list[str]:
    data, about = content["data"], content["about"]
    looks = sum(content["looks_at_test"].values())
    copies = f"{data['removed_copies']} copies of test or validation texts left the training part"
    items = "texts" if content["task"] == "classify" else "questions"
    return [
        f"- Data {data['name']}, digest {data['digest'][:12]}: {data['train']:,} train, "
        f"{data['valid']:,} validation, {data['test']:,} test {items}; {copies}.",
        f"- {about.get('machine', '')}; bases {', '.join(about.get('bases', []))}; "
        f"seeds {about.get('seeds')}.",
        f"- The test part was scored once per run, {looks} times in all; stopping, layers and the strength "
        "of the regression were chosen on validation, learning rates are the methods' usual ones.",
        "- Intervals: bootstrap over test items and seeds. Differences hold for all rungs together.",
        *_against_prompt(content),
        "- Train seconds are optimiser steps; prepare seconds are vectors, or activations below the trained "
        "blocks, computed once for all seeds.",
    ]


def _against_prompt(content: Mapping[str, Any]) -> list[str]:
    if not content["best_prompt"]:
        return []
    return [
        f"- The best prompt, {content['best_prompt']['rung']}, was chosen by F1 on validation. Each trained "
        "rung is compared with it on the same test questions: difference with its 95 % bootstrap interval, "
        "p of Fisher's randomisation test (signs of the differences, two-sided), Holm's correction for all "
        "of them."
    ]
