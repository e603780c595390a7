"""fewshot train: an adapter from prompts with completions, or from pairs of answers."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from training.judging_command import judge
from training.policy_command import ppo, rloo
from training.retriever_command import retriever
from training.reward_command import reward
from training.telling import models_of, progress, resolve, say

METHODS = {
    "sft": "A LoRA by demonstrations: what `rloo` and `ppo` start from.",
    "lora": "Low-rank updates of the linear layers.",
    "rslora": "The same, scaled for high ranks.",
    "ia3": "Vectors that scale keys, values and inner activations.",
    "bottleneck": "Small networks after each block (--rank: their width); served by an engine of its own.",
    "full": "All weights: the largest artefact, served by an engine of its own.",
    "soft-prompt": "Vectors before the prompt.",
    "prefix": "Keys and values before the prompt, in every layer.",
    "dpo": "A LoRA by direct preference optimisation, from rows with chosen and rejected.",
}


OPTIONS = (
    click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True),
        required=True,
        help="JSONL as `fewshot export sft` (dpo: `pairs`) writes it, or a folder with pairs.jsonl.",
    ),
    click.option("--name", required=True, help="Of the adapter: lower-case letters, digits, hyphens."),
    click.option("--base", help="Model folder or fetched model; default: engine.model."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of adapters; default: where `fewshot adapters` looks.",
    ),
    click.option(
        "--rank",
        type=click.IntRange(1, 512),
        default=8,
        show_default=True,
        help="Of a LoRA; width of bottleneck.",
    ),
    click.option(
        "--tokens",
        type=click.IntRange(1, 512),
        default=32,
        show_default=True,
        help="Of soft-prompt and prefix; a prefix fills whole KV blocks (32 on a processor).",
    ),
    click.option("--from", "start", help="name@version of a LoRA to learn further (sft, lora, dpo)."),
    click.option("--epochs", type=click.FloatRange(0.01, 1000), default=3.0, show_default=True),
    click.option(
        "--learning-rate", type=click.FloatRange(1e-8, 1.0), help="Default: the method's usual one."
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(8, 131072),
        default=1024,
        show_default=True,
        help="Of prompt and answer; longer rows are left out and counted.",
    ),
    click.option("--batch-texts", type=click.IntRange(1, 4096), default=16, show_default=True),
    click.option("--beta", type=click.FloatRange(0.001, 10), default=0.1, show_default=True, help="Of dpo."),
    click.option("--seed", type=int, default=11, show_default=True),
    click.option("--device", help="cpu or cuda; default: the best there is."),
    click.option(
        "--resume", type=click.Path(path_type=Path, dir_okay=False), help="Checkpoint to keep and go on from."
    ),
)


@click.group()
def train() -> None:
    """Train an adapter of the language model, or the embedder.

    \b
    fewshot export sft --out sft.jsonl
    fewshot train lora --data sft.jsonl --name refund
    fewshot adapters load refund@…          (the reference that the command prints)
    """


def _adapter_command(method: str) -> click.Command:
    @click.pass_context
    def run(context: click.Context, /, **options: Any) -> None:
        _train(context, method, options)

    command: click.Command = click.command(method, help=METHODS[method])(run)
    for option in OPTIONS:
        command = option(command)
    return command


for _method in METHODS:
    train.add_command(_adapter_command(_method))
for _command in (reward, rloo, ppo, judge, retriever):
    train.add_command(_command)


def _train(context: click.Context, method: str, options: dict[str, Any]) -> None:
    from training.errors import TrainingRefused

    resolve(context, options)
    models = models_of(context.obj)
    try:
        made = make(method, models=models, **options)
    except TrainingRefused as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(made)


def make(
    method: str,
    *,
    models: Path,
    data: Path,
    name: str,
    base: str,
    out: Path,
    rank: int,
    tokens: int,
    epochs: float,
    learning_rate: float | None,
    max_tokens: int,
    batch_texts: int,
    beta: float,
    seed: int,
    device: str | None,
    resume: Path | None,
    start: str | None = None,
) -> str:
    """The reference name@version of what was trained and published. Raises TrainingRefused."""
    from training.adapting import RATES, Adapter, adapted, save, trainable
    from training.artefacts import check_name, publish
    from training.backbone import base_digest, best_device
    from training.cli import located
    from training.dialogues import encode, read_dialogues
    from training.errors import ArtefactRefused
    from training.loop import train as learn
    from training.memory import peak_bytes, reset_peak
    from training.preferences import dialogues, read_preferences
    from training.records import Settings
    from training.starting import folder_of, started

    check_name(name)
    folder = located(base, models)
    kind = "lora" if method in ("sft", "dpo") else method
    columns = ("chosen", "rejected") if method == "dpo" else ("completion",)
    if data.is_dir():
        found = dialogues(read_preferences(data), columns)
    else:
        found = read_dialogues(data, columns, seed)
    place, parent = device or best_device(), None
    if start is None:
        model, tokenizer = adapted(folder, place, kind, rank=rank, tokens=tokens, seed=seed)
    elif kind != "lora":
        raise ArtefactRefused(f"a {kind} starts from nothing: leave --from away")
    else:
        model, tokenizer, parent = started(folder, folder_of(start, out), place, rank=rank, seed=seed)
    room = min(max_tokens, int(model.config.max_position_embeddings)) - (
        tokens if kind in ("soft-prompt", "prefix") else 0
    )
    rows, long = encode(found.train, tokenizer, room, data)
    valid, long_valid = encode(found.valid, tokenizer, room, data)
    say(f"{len(rows):,} rows to learn from, {len(valid):,} to check with, {long + long_valid:,} too long")
    on_card = model.device.type == "cuda"
    settings = Settings(
        learning_rate=learning_rate or (RATES[kind] / 4 if method == "dpo" else RATES[kind]),
        epochs=epochs,
        batch_texts=batch_texts,
        batch_tokens=16_384 if on_card else 4_096,  # 6 GB with the smallest of bases
        max_tokens=max_tokens,
        weight_decay=0.0,
        seed=seed,
    )
    reset_peak()
    learner = Adapter(model, rows, valid, beta=beta)
    before = learner.score()
    began = time.monotonic()
    done = learn(learner, settings, say=lambda now: say(progress(now)), checkpoint=resume)
    if method == "dpo":
        learner.score()  # of the state that was kept
    report = {
        "score_before": before,
        "score": done.valid,
        "pairs_told_right": learner.told_right,
        "scored": "mean ln σ of a validation pair's margin"
        if method == "dpo"
        else "mean ln p of a validation token",
        "curve": done.curve,
        "stopped": done.stopped,
        "train_seconds": done.seconds,
        "wall_seconds": time.monotonic() - began,
        "peak_bytes": peak_bytes(),
        "trainable": trainable(model),
        "rows": len(rows),
        "valid_rows": len(valid),
        "too_long": long + long_valid,
    }
    told = "" if learner.told_right is None else f", {learner.told_right:.0%} of the pairs told right"
    say(
        f"validation {before:.4f} → {done.valid:.4f} ({report['scored']}{told}), "
        f"{done.seconds:.0f} s of training"
    )
    made = publish(
        out,
        name,
        "lora" if kind in ("lora", "rslora") else kind,
        lambda scratch: save(model, scratch),
        base={"name": folder.name, "digest": base_digest(folder)},
        report=report,
        method={"name": method, "rank": rank, "tokens": tokens, **asdict(settings)},
        data={"sha256": found.digest, "rows": len(rows)},
        metrics={"score_before": before, "score": done.valid},
        **({"parent": f"{parent['name']}@{parent['version']}"} if parent else {}),
    )
    return made.reference
