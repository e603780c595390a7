"""The few-shot bar: do the nearest worked examples beat random ones, and none at all?

    python -m bench.few_shot --data PACK --model FOLDER --embedder FOLDER [--items 200] [--json OUT]

A PACK is a folder with `dev/train.jsonl`, `dev/test.jsonl` (rows of id, text, label_name). The template is
the shipped one whose label ids are the pack's label names. Demos come from the train part, questions from
the test part; a demo that says the same as the question is never shown. Labels are compared by the log
probability of their first token, raw; the column `batch` shows the same scores after batch calibration.
Exit code 1 when the bar is missed. Intervals: 95 %, bootstrap over items (and over seeds within an item).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from prompts.calibration import calibrated, mean_probabilities
from prompts.demos import Picked, Pool
from prompts.layout import lay_out
from prompts.records import Format, Message, Template
from prompts.seams import Count, Embed, Score
from prompts.templates import Library

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
    return Scored(name, np.array(results).reshape(shape), float(np.mean(tokens)))


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
        f"{'condition':<22}{'accuracy':>9}  {'95 % interval':<18}{'batch':>6}{'tokens':>8}  per seed",
    ]
    for row in result["rows"]:
        mean, low, high = row["accuracy"]
        seeds = " ".join(f"{value:.3f}" for value in row["per_seed"]) if len(row["per_seed"]) > 1 else ""
        lines.append(
            f"{row['condition']:<22}{mean:>9.3f}  {f'{low:.3f} .. {high:.3f}':<18}"
            f"{row['batch']:>6.3f}{row['prompt_tokens']:>8.0f}  {seeds}"
        )
    for name, (mean, low, high) in result["differences"].items():
        lines.append(f"{name:<22}{mean:>+9.3f}  {low:+.3f} .. {high:+.3f}")
    return "\n".join([*lines, f"bar {'held' if result['held'] else 'missed'}: both intervals above 0"])


# --- reading the packs


def read_pack(folder: Path, items: int | None, embed: Embed, embedder: str, cache: Path) -> Pack:
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
    pool = Pool.load(train, embed=embed, embedder=embedder)
    return Pack(folder.name, pool, test, embed([text for text, _ in test]))


def template_for(pack: Pack) -> Template:
    names = {demo.label for demo in pack.train.demos}
    for template in Library.load():
        if template.labels and {label.id for label in template.labels.labels} == names:
            return template
    raise click.ClickException(f"no shipped template has the labels {', '.join(sorted(map(str, names)))}")


# --- a stand-in for the served engine: plain transformers, one prompt at a time


class TransformersScorer:
    """First-token label scores in float32; the state of the prefix shared with the last prompt is kept."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        loading: Any = AutoModelForCausalLM  # its types do not survive strict checking
        self._model = loading.from_pretrained(folder, dtype=torch.float32).eval()
        self.format: Format = "chat"
        self.context_tokens = int(self._model.config.max_position_embeddings)
        self._ids: list[int] = []
        self._state: Any = None

    def ids(self, messages: Sequence[Message]) -> list[int]:
        if self.format == "plain":
            return list(self._tokenizer.encode("".join(message.text for message in messages)))
        turns = [{"role": message.role, "content": message.text} for message in messages]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.ids(messages))

    def __call__(self, messages: Sequence[Message], labels: Sequence[str]) -> list[float]:
        before = " " if self.format == "plain" else ""  # "Sentiment:" is followed by " positive"
        first = [self._tokenizer.encode(before + label, add_special_tokens=False)[0] for label in labels]
        if len(set(first)) < len(first):
            raise ValueError(f"two of the labels {', '.join(labels)} begin with the same token")
        ids = self.ids(messages)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(ids, self._ids, strict=False))
        shared = min(len(list(same)), len(ids) - 1)
        if self._state is not None and shared < len(self._ids):
            self._state.crop(shared - len(self._ids))  # a negative number of tokens to take off the end
        with self._torch.inference_mode():
            out = self._model(
                input_ids=self._torch.tensor([ids[shared if self._state is not None else 0 :]]),
                past_key_values=self._state,
                use_cache=True,
                logits_to_keep=1,
            )
        self._ids, self._state = ids, out.past_key_values
        logprobs = out.logits[0, -1].float().log_softmax(-1)
        return [float(logprobs[token]) for token in first]


def sentence_embedder(folder: Path) -> Embed:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")

    def embed(texts: Sequence[str], /) -> NDArray[np.float32]:
        vectors = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    return embed


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=__doc__)
@click.option("--data", type=FOLDER, multiple=True, required=True, help="A pack; repeatable.")
@click.option("--model", type=FOLDER, required=True, help="A Hugging Face folder.")
@click.option("--embedder", type=FOLDER, required=True, help="A sentence-transformers folder.")
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
    items: int | None,
    shots: int,
    seeds: tuple[int, ...],
    threads: int,
    cache: Path | None,
    out: Path | None,
) -> None:
    scorer, embed = TransformersScorer(model, threads), sentence_embedder(embedder)
    print(f"{model.name}, float32; {embedder.name}; {shots} demos, nearest last; seeds {seeds}")
    results = []
    with tempfile.TemporaryDirectory() as fresh:
        folder = cache or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        for path in data:
            pack = read_pack(path, items, embed, embedder.name, folder)
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
