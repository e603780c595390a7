"""The few-shot bar: do the nearest worked examples beat random ones, and none at all?

    python -m bench.few_shot --data PACK --model FOLDER --embedder FOLDER [--poolings 2] [--items 200]

A PACK is a folder with `dev/train.jsonl`, `dev/test.jsonl` (rows of id, text, label_name). The template is
the shipped one whose label ids are the pack's label names. Demos come from the train part, questions from
the test part; a demo that says the same as the question is never shown. Labels are compared by the log
probability of their first token, raw; the column `batch` shows the same scores after batch calibration,
and `vote` how often the label that most of the shown demos carry is right without the model.
Exit code 1 when the bar is missed. Intervals: 95 %, bootstrap over items (and over seeds within an item).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from bench.scorer import TransformersScorer
from indexer.embedding import open_embedder
from prompts.calibration import calibrated, mean_probabilities
from prompts.demos import Picked, Pool
from prompts.layout import lay_out
from prompts.records import Template
from prompts.seams import Count, Embed, Score
from prompts.templates import Library
from prompts.vectors import evened

RESAMPLES = 5000
SEED = 7  # of the bootstrap and of the choice of a subset


class Pack(NamedTuple):
    name: str
    train: Pool
    test: list[tuple[str, str]]  # text, label's id
    vectors: NDArray[np.float32]  # of the test texts, unit rows


class Scored(NamedTuple):
    """One condition; a condition with several seeds has a row of logprobs per seed."""

    name: str
    logprobs: NDArray[np.float64]  # (seeds, items, labels)
    prompt_tokens: float  # mean
    vote: float | None  # accuracy of the demos' most frequent label, ties shared; None without demos


def run_condition(
    name: str,
    picks: Sequence[Sequence[Picked]],
    pack: Pack,
    template: Template,
    room: int,
    score: Score,
    count: Count,
) -> Scored:
    """Score every test item under each list of picks (one list per seed)."""
    labels = [label.text for label in template.labels.labels] if template.labels else []
    results, tokens = [], []
    for picked_per_item in picks:
        for (text, _), picked in zip(pack.test, picked_per_item, strict=True):
            prompt = lay_out(template, question=text, demos=picked.demos, room=room, count=count)
            tokens.append(prompt.tokens)
            results.append(score(prompt.messages, labels))
    shape = (len(picks), len(pack.test), len(labels))
    gold = [label for _, label in pack.test] * len(picks)
    votes = [vote(picked, label) for picked, label in zip(chain(*picks), gold, strict=True) if picked.demos]
    share = float(np.mean(votes)) if votes else None
    return Scored(name, np.array(results).reshape(shape), float(np.mean(tokens)), share)


def vote(picked: Picked, label: str) -> float:
    """Whether most of the demos carry the label: 1, or a half and less where several are as frequent."""
    counts = Counter(demo.label for demo in picked.demos)
    first = [one for one, count in counts.items() if count == max(counts.values())]
    return (label in first) / len(first)


def compare(
    pack: Pack, template: Template, shots: int, seeds: Sequence[int], room: int, score: Score, count: Count
) -> list[Scored]:
    """Zero-shot, random demos (one draw per seed for all questions), nearest demos."""
    nothing = [Picked((), ()) for _ in pack.test]
    random = [
        [pack.train.pick(text, shots, strategy="random", seed=seed) for text, _ in pack.test]
        for seed in seeds
    ]
    nearest = [
        pack.train.pick(text, shots, vector=vector)
        for (text, _), vector in zip(pack.test, pack.vectors, strict=True)
    ]
    conditions = (("zero-shot", [nothing]), (f"random {shots}", random), (f"nearest {shots}", [nearest]))
    return [run_condition(name, picks, pack, template, room, score, count) for name, picks in conditions]


def interval(
    values: NDArray[np.float64], less: NDArray[np.float64] | None = None
) -> tuple[float, float, float]:
    """Mean and 95 % interval of `values`, or of `values - less`, both of shape (seeds, items)."""
    rng = np.random.default_rng(SEED)
    items = rng.integers(values.shape[1], size=(RESAMPLES, values.shape[1]))

    def resampled(table: NDArray[np.float64]) -> NDArray[np.float64]:
        seeds = rng.integers(table.shape[0], size=items.shape)
        return np.asarray(table[seeds, items].mean(axis=1))

    means, mean = resampled(values), float(values.mean())
    if less is not None:
        means, mean = means - resampled(less), mean - float(less.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return mean, float(low), float(high)


def report(pack: Pack, template: Template, scored: Sequence[Scored]) -> dict[str, Any]:
    """Accuracies and differences, each with its interval, and whether the bar held."""
    ids = [label.id for label in template.labels.labels] if template.labels else []
    gold = np.array([ids.index(label) for _, label in pack.test])

    def right(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(logprobs.argmax(axis=-1) == gold, dtype=np.float64)

    correct = {one.name: right(one.logprobs) for one in scored}
    rows = [
        {
            "condition": one.name,
            "accuracy": interval(correct[one.name]),
            "per_seed": correct[one.name].mean(axis=1).tolist(),
            "batch": float(np.mean([right(calibrated(s, mean_probabilities(s))) for s in one.logprobs])),
            "prompt_tokens": one.prompt_tokens,
            "vote": one.vote,
        }
        for one in scored
    ]
    zero, random, nearest = (correct[one.name] for one in scored)
    differences = {
        "nearest - random": interval(nearest, random),
        "nearest - zero-shot": interval(nearest, zero),
    }
    held = all(low > 0 for _, low, _ in differences.values())
    return {
        "pack": pack.name,
        "items": len(pack.test),
        "template": template.reference,
        "digest": template.digest,
        "rows": rows,
        "differences": differences,
        "held": held,
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['pack']}: {result['items']} items, {result['template']} ({result['digest'][:12]})",
        f"{'condition':<22}{'accuracy':>9}  {'95 % interval':<18}{'batch':>6}{'vote':>6}{'tokens':>8}  seeds",
    ]
    for row in result["rows"]:
        mean, low, high = row["accuracy"]
        seeds = " ".join(f"{value:.3f}" for value in row["per_seed"]) if len(row["per_seed"]) > 1 else ""
        voted = "" if row["vote"] is None else f"{row['vote']:.3f}"
        lines.append(
            f"{row['condition']:<22}{mean:>9.3f}  {f'{low:.3f} .. {high:.3f}':<18}"
            f"{row['batch']:>6.3f}{voted:>6}{row['prompt_tokens']:>8.0f}  {seeds}"
        )
    for name, (mean, low, high) in result["differences"].items():
        lines.append(f"{name:<22}{mean:>+9.3f}  {low:+.3f} .. {high:+.3f}")
    return "\n".join([*lines, f"bar {'held' if result['held'] else 'missed'}: both intervals above 0"])


# --- reading the packs


def read_pack(
    folder: Path, items: int | None, embed: Embed, embedder: str, cache: Path, label_weight: float
) -> Pack:
    train = cache / f"{folder.name}.jsonl"
    rows = [json.loads(line) for line in (folder / "dev" / "train.jsonl").open(encoding="utf-8")]
    demos = [
        {"id": row["id"], "input": row["text"], "output": row["label_name"], "label": row["label_name"]}
        for row in rows
    ]
    train.write_text("".join(json.dumps(demo) + "\n" for demo in demos), encoding="utf-8")
    lines = (folder / "dev" / "test.jsonl").open(encoding="utf-8")
    test = [(row["text"], row["label_name"]) for row in map(json.loads, lines)]
    if items is not None and items < len(test):
        chosen = np.random.default_rng(SEED).permutation(len(test))[:items]
        test = [test[at] for at in sorted(chosen)]
    pool = Pool.load(train, embed=embed, embedder=embedder, label_weight=label_weight)
    return Pack(folder.name, pool, test, embed([text for text, _ in test]))


def template_for(pack: Pack) -> Template:
    names = {demo.label for demo in pack.train.demos}
    for template in Library.load():
        if template.labels and {label.id for label in template.labels.labels} == names:
            return template
    raise click.ClickException(f"no shipped template has the labels {', '.join(sorted(map(str, names)))}")


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=__doc__)
@click.option("--data", type=FOLDER, multiple=True, required=True, help="A pack; repeatable.")
@click.option("--model", type=FOLDER, required=True, help="A Hugging Face folder.")
@click.option("--embedder", type=FOLDER, required=True, help="A sentence-transformers folder.")
@click.option("--poolings", default=1, show_default=True, help="As demos.poolings in the settings.")
@click.option("--label-weight", default=0.8, show_default=True, help="As demos.label_weight.")
@click.option("--items", type=int, help="Questions per pack, drawn once; all by default.")
@click.option("--shots", default=8, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(11, 23, 37), show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Keeps vectors between runs.")
@click.option(
    "--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures."
)
def main(
    data: tuple[Path, ...],
    model: Path,
    embedder: Path,
    poolings: int,
    label_weight: float,
    items: int | None,
    shots: int,
    seeds: tuple[int, ...],
    threads: int,
    cache: Path | None,
    out: Path | None,
) -> None:
    scorer, opened = TransformersScorer(model, threads), open_embedder(str(embedder), embedder.parent)
    embed, digest = evened(opened.passages, poolings), f"{opened.digest}/{poolings}"
    print(f"{model.name}, float32; {embedder.name}, labels {label_weight}; {shots} demos; seeds {seeds}")
    results = []
    with tempfile.TemporaryDirectory() as fresh:
        folder = cache or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        for path in data:
            pack = read_pack(path, items, embed, digest, folder, label_weight)
            template = template_for(pack)
            scorer.format = template.layout.format
            room = scorer.context_tokens - template.budget.reserve
            scored = compare(pack, template, shots, seeds, room, scorer, scorer.count)
            results.append(report(pack, template, scored))
            print(f"\n{table(results[-1])}", flush=True)
    if out:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(result["held"] for result in results) else 1)


if __name__ == "__main__":
    main()
