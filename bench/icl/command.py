"""In-context learning with a small model: which demonstrations help, how many, and what calibration does.

    python -m bench icl --data FOLDER --model FOLDER --embedder FOLDER --out FOLDER
    python -m bench icl … --scorer transformers --device cuda --dtype tf32     on a machine without vLLM
    python -m bench icl --out FOLDER --report                                  tables and plot, again

FOLDER of --data holds the packs c-trec, c-subj, c-sst2, c-agnews, c-banking77 (or those of --packs), each
with `dev/train.jsonl` and `dev/test.jsonl` (rows of id, text, label_name). Demos come from the train part,
less what says the same as a test item or nearly. Compared are zero-shot, random (one draw a seed for all
questions), BM25, nearest (by text and labels as the server does it, and by text alone), MMR, DPP and
label-balanced, each with 4, 8 and 16 demos; with --layers also nearest by the states of the model's own first
layers.
Scores go to OUT/scores, so that tables can be made elsewhere. Exit code 1 when nearest does not beat random
or calibration does not lower the calibration error, on some pack.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.icl.conditions import SEEDS, SHOTS, Condition, Job, Row, conditions, laid_out, tokenizer_of, work
from bench.icl.judging import Measured, agreement, judged
from bench.icl.packs import TEMPLATES, Ready, make_ready, open_ready, template_of
from bench.icl.page import plot, tables
from bench.icl.scoring import BatchedScorer, Scorer, ServedScorer
from indexer.embedding import open_embedder
from indexer.machine import cores
from prompts.seams import Embed
from prompts.shallow import POOLINGS, write_embedder
from prompts.vectors import evened
from server.label_scoring import Way, label_tokens
from server.token_reading import TokenReading

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PART = 16  # items a process lays out at a time
SAMPLE = 4  # items whose prompts are laid out to foretell the rest


@click.command(help=__doc__)
@click.option("--data", type=FOLDER, help="The folder of the packs.")
@click.option("--packs", default=",".join(TEMPLATES), show_default=True, help="Names, comma between.")
@click.option("--model", type=FOLDER, help="A Hugging Face folder.")
@click.option("--embedder", help="A sentence-transformers folder, or `hash`.")
@click.option("--layers", type=click.IntRange(min=1), help="Also choose by the model's states of this layer.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--scorer", "kind", type=click.Choice(["served", "transformers"]), default="served")
@click.option("--device", default="cpu", show_default=True, help="Of transformers and of the embedder.")
@click.option("--dtype", type=click.Choice(["float32", "tf32", "bfloat16"]), default="float32")
@click.option(
    "--scoring", type=click.Choice(["first_token", "sequence"]), help="Default: as the templates say."
)
@click.option("--items", type=click.IntRange(min=2), help="Test items a pack, drawn once; all by default.")
@click.option("--pool", "rows", type=click.IntRange(min=32), help="Train rows a pack, likewise.")
@click.option("--shots", "shots_", default=",".join(map(str, SHOTS)), show_default=True)
@click.option("--seeds", "seeds_", default=",".join(map(str, SEEDS)), show_default=True)
@click.option(
    "--context", default=2048, show_default=True, help="Tokens a prompt may have, as engine.context."
)
@click.option("--batch-tokens", default=65536, show_default=True, help="Of one pass on a GPU.")
@click.option("--processes", type=int, help="That lay out prompts; default: one a core, less one.")
@click.option("--dry-run", is_flag=True, help="Only count: prompts, tokens.")
@click.option("--report", is_flag=True, help="Only tables and plot, of scores that are there.")
@click.option("--against", type=FOLDER, help="Compare the scores with those of another run, and end.")
@click.option("--figures", type=FOLDER, help="Also write few-shot.md and few-shot.png here.")
def command(
    data: Path | None,
    packs: str,
    model: Path | None,
    embedder: str | None,
    layers: int | None,
    out: Path,
    kind: str,
    device: str,
    dtype: str,
    scoring: Way | None,
    items: int | None,
    rows: int | None,
    shots_: str,
    seeds_: str,
    context: int,
    batch_tokens: int,
    processes: int | None,
    dry_run: bool,
    report: bool,
    against: Path | None,
    figures: Path | None,
) -> None:
    names = [name.strip() for name in packs.split(",")]
    if unknown := [name for name in names if name not in TEMPLATES]:
        raise click.BadParameter(
            f"{', '.join(unknown)}: known are {', '.join(TEMPLATES)}", param_hint="--packs"
        )
    if against is not None:
        compare(names, out, against)
        return
    if not report:
        if data is None or model is None or embedder is None:
            raise click.UsageError("--data, --model and --embedder are needed, except with --report")
        shots, seeds = _numbers(shots_), _numbers(seeds_)
        about = {
            "model": model.name,
            "scorer": kind,
            "device": device if kind == "transformers" else "cpu",
            "dtype": dtype if kind == "transformers" else "float32",
            "embedder": Path(embedder).name + (f" and layer {layers} of the model" if layers else ""),
            "command": "python -m bench icl",
            "shots": shots,
            "seeds": seeds,
        }
        began = time.perf_counter()
        embed, own = embedders(embedder, model, layers, out, device)
        chosen = conditions(shots, seeds, own is not None)
        ready = [make_ready(data / name, out, items, rows, embed, own) for name in names]
        say(f"{len(ready)} packs embedded in {time.perf_counter() - began:.1f} s")
        for one in ready:
            say(f"{one.name}: {one.items} items, {one.removed} demos removed that say what a test item says")
        total = estimate(ready, chosen, model, context)
        if dry_run:
            return
        opened: Scorer = (
            ServedScorer(model, context)
            if kind == "served"
            else BatchedScorer(model, device, dtype, batch_tokens if device != "cpu" else 4096)
        )
        try:
            run(ready, chosen, model, opened, out, about, context, scoring, processes or _processes(), total)
        finally:
            opened.close()
    sys.exit(0 if reported(names, out, figures) else 1)


def embedders(
    name: str, model: Path, layers: int | None, out: Path, device: str
) -> tuple[Embed, Embed | None]:
    """That of the settings, and the model's own first layers when asked for."""
    first = open_embedder(name, Path(), [device]).passages
    if layers is None:
        return first, None
    states = out / f"states-{layers}"
    if not (states / "modules.json").is_file():
        write_embedder(model, states, layers)
    return first, evened(open_embedder(str(states), Path(), [device]).passages, POOLINGS)


def estimate(ready: Sequence[Ready], chosen: Sequence[Condition], model: Path, context: int) -> int:
    """Prompts and tokens that a run will take, from the prompts of a few items; prints them."""
    total_prompts = total_tokens = 0
    for pack in ready:
        opened = open_ready(pack.name, pack.folder)
        reading = TokenReading(tokenizer_of(model), opened.template.layout.format == "plain")
        step = max(1, pack.items // SAMPLE)
        some = range(0, pack.items, step)
        sets = laid_out(opened, chosen, some, reading, context - opened.template.budget.reserve)
        prompts = len(sets) * pack.items
        tokens = round(sum(len(row.ids) for one in sets for row in one) * pack.items / len(some))
        say(f"{pack.name}: {prompts:,} prompts, about {tokens / 1e6:.1f} M tokens")
        total_prompts, total_tokens = total_prompts + prompts, total_tokens + tokens
    say(f"in all {total_prompts:,} prompts, about {total_tokens / 1e6:.1f} M tokens, shared starts included")
    return total_tokens


def run(
    ready: Sequence[Ready],
    chosen: Sequence[Condition],
    model: Path,
    scorer: Scorer,
    out: Path,
    about: dict[str, Any],
    context: int,
    scoring: Way | None,
    processes: int,
    total: int,
) -> None:
    """Score every pack; OUT/scores/PACK.npz holds what the tables are made of."""
    (out / "scores").mkdir(parents=True, exist_ok=True)
    began, busy, done = time.perf_counter(), 0.0, 0
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.update(environment)  # of the processes: each has one core
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        queued = [_submit(pool, pack, chosen, model, context) for pack in ready]
        for pack, futures in zip(ready, queued, strict=True):
            template = template_of(pack.name)
            labels = label_tokens(template, tokenizer_of(model), scoring)
            sets = _joined(futures)
            start = time.perf_counter()
            scores = [scorer.score([row.ids for row in one], labels) for one in sets]
            busy += time.perf_counter() - start
            done += sum(len(row.ids) for one in sets for row in one)
            np.savez(
                out / "scores" / f"{pack.name}.npz",
                logprobs=np.stack(scores).astype(np.float32),
                gold=pack.gold,
                tokens=[float(np.mean([len(row.ids) for row in one])) for one in sets],
                votes=[float(np.mean([row.vote for row in one])) for one in sets],
                about=json.dumps(
                    {
                        **about,
                        "template": template.reference,
                        "digest": template.digest,
                        "pool": pack.pool,
                        "removed": pack.removed,
                        "conditions": [condition._asdict() for condition in chosen],
                    }
                ),
            )
            say(
                f"{pack.name}: scored; {done / 1e6:.1f} of about {total / 1e6:.1f} M tokens, "
                f"{time.perf_counter() - began:.0f} s, of which {busy:.0f} s in the model"
            )


def reported(names: Sequence[str], out: Path, figures: Path | None) -> bool:
    """Tables and plot of OUT/scores; whether both bars held on every pack."""
    results, about = [], {}
    for name in names:
        if not (path := out / "scores" / f"{name}.npz").exists():
            say(f"{name}: no scores in {out}")
            continue
        saved = np.load(path)
        about = json.loads(str(saved["about"]))
        measured = list(_measured(saved, about))
        results.append({**judged(name, saved["gold"], measured), "template": about["template"]})
    if not results:
        raise click.ClickException(f"{out} holds no scores")
    text = tables(results, about)
    (out / "icl.json").write_text(json.dumps({"about": about, "packs": results}, indent=1) + "\n")
    for folder, name in [(out, "icl"), *([(figures, "few-shot")] if figures else [])]:
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        plot(results, folder / f"{name}.png")
    say("\n" + text)
    return all(one["nearest_beats_random"] and one["calibration_lowers_error"] for one in results)


def compare(names: Sequence[str], out: Path, other: Path) -> None:
    """Scores of two runs on the same prompts, side by side."""
    for name in names:
        first, second = (np.load(folder / "scores" / f"{name}.npz")["logprobs"] for folder in (out, other))
        rows = agreement(*(table.reshape(-1, table.shape[-1]) for table in (first, second)))
        say(
            f"{name}: {rows['prompts']} prompts, same label on {rows['same_argmax']:.2%}, "
            f"largest difference of a logprob {rows['largest_difference']:.4f}"
        )


def say(line: str) -> None:
    print(line, flush=True)


def _submit(
    pool: Executor, pack: Ready, chosen: Sequence[Condition], model: Path, context: int
) -> list[Future[list[list[Row]]]]:
    room = context - template_of(pack.name).budget.reserve
    starts = range(0, pack.items, PART)
    parts = [range(at, min(at + PART, pack.items)) for at in starts]
    return [
        pool.submit(work, Job(pack.name, pack.folder, model, tuple(chosen), part, room)) for part in parts
    ]


def _joined(futures: Sequence[Future[list[list[Row]]]]) -> list[list[Row]]:
    """For each condition and seed, the rows of all items."""
    parts = [future.result() for future in futures]
    return [[row for part in parts for row in part[at]] for at in range(len(parts[0]))]


def _measured(saved: Any, about: dict[str, Any]) -> Iterator[Measured]:
    at = 0
    for said in about["conditions"]:
        condition = Condition(**{**said, "seeds": tuple(said["seeds"])})
        own = slice(at, at + len(condition.seeds))
        at = own.stop
        vote = float(np.mean(saved["votes"][own])) if condition.shots else None
        table = saved["logprobs"][own].astype(np.float64)
        yield Measured(condition, table, float(np.mean(saved["tokens"][own])), vote)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _processes() -> int:
    return max(1, min(cores() - 1, 24))
