"""fewshot train reward: a reward model from comparisons, with what it is worth on questions it never saw."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from training.telling import models_of, resolve, say

LEARNING_RATE = 2e-4
STEP_TOKENS = {"cpu": 4_096, "cuda": 24_576}

COMMON = (  # of reward, rloo and ppo
    click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True),
        required=True,
        help="JSONL as `fewshot export pairs` writes it, or a folder with pairs.jsonl.",
    ),
    click.option("--name", required=True, help="Of the result: lower-case letters, digits, hyphens."),
    click.option("--base", help="Model folder or fetched model; default: engine.model."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of adapters; default: where `fewshot adapters` looks.",
    ),
    click.option("--rank", type=click.IntRange(1, 512), default=16, show_default=True, help="Of the LoRA."),
    click.option(
        "--max-tokens",
        type=click.IntRange(8, 131072),
        default=1280,
        show_default=True,
        help="Of prompt and answer; longer ones are left out and counted.",
    ),
    click.option("--seed", type=int, default=11, show_default=True),
    click.option("--device", help="cpu or cuda; default: the best there is."),
    click.option(
        "--resume", type=click.Path(path_type=Path, dir_okay=False), help="Checkpoint to keep and go on from."
    ),
)


def common(command: Any) -> Any:
    """The options above, in their order, before the command's own."""
    for option in reversed(COMMON):
        command = option(command)
    return command


@click.command()
@common
@click.option("--epochs", type=click.FloatRange(0.01, 1000), default=3.0, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(1e-8, 1.0), default=LEARNING_RATE, show_default=True)
@click.option(
    "--batch-tokens",
    type=click.IntRange(64),
    help="Of one step, a question's answers together; default: 24576 on a card, 4096 (6 GB) on a processor.",
)
@click.option(
    "--folds",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="Train so many more, each judged on the questions that it never saw: every comparison counts.",
)
@click.option("--counting/--no-counting", default=False, help="Also let it count words (length, overlap).")
@click.option(
    "--words-only", is_flag=True, help="Count words and nothing else: no network, no card, seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of tables.")
@click.pass_context
def reward(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Learn a reward from comparisons of answers, and measure it.

    Tables say how often it is right on questions that it never saw, beside the longer answer and a model that
    counts words. The last line is the reference that `rloo` and `ppo` take as --reward.
    """
    from training.errors import TrainingRefused

    resolve(context, options)
    try:
        reference, report = make(models=models_of(context.obj), **options)
    except TrainingRefused as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        import json

        click.echo(json.dumps(report | {"reference": reference}, ensure_ascii=False))
        return
    from training.reward_report import table

    click.echo(table("Test part", report["test"]) + "\n")
    if "folds" in report:
        click.echo(table(f"{options['folds']} folds by question", report["folds"]) + "\n")
    click.echo(reference)


def make(
    *,
    models: Path,
    data: Path,
    name: str,
    base: str,
    out: Path,
    rank: int,
    epochs: float,
    learning_rate: float,
    batch_tokens: int | None,
    max_tokens: int,
    folds: int,
    counting: bool,
    words_only: bool,
    seed: int,
    device: str | None,
    resume: Path | None,
) -> tuple[str, dict[str, Any]]:
    """(reference name@version, report) of what was trained and published. Raises TrainingRefused."""
    from training import reward_files, reward_report
    from training.artefacts import check_name, publish
    from training.backbone import base_digest, best_device
    from training.cli import located
    from training.errors import DataRefused
    from training.memory import peak_bytes, reset_peak
    from training.preferences import read_preferences
    from training.records import Settings
    from training.reward import HEAD_STEP, from_the_start, margins, new_reward_model, rescale
    from training.reward_fitting import compared, fit, fold_of, judged, pairs_of

    check_name(name)
    folder = located(base, models)
    found = read_preferences(data)
    model = new_reward_model(
        folder, device or best_device(), rank=rank, seed=seed, counting=counting, words_only=words_only
    )
    hidden = 1
    if model.network is not None:
        hidden = int(model.network.config.hidden_size)
        max_tokens = min(max_tokens, int(model.network.config.max_position_embeddings))
    kept, rows, long = compared(found.everything, model, max_tokens, data)
    at = {one.id: number for number, one in enumerate(kept)}
    train, valid, test = ([at[one.id] for one in part if one.id in at] for part in found[:3])
    say(
        f"{pairs_of(kept, train):,} comparisons to learn from, {pairs_of(kept, valid):,} to check with, "
        f"{pairs_of(kept, test):,} to judge by; {long:,} answers too long"
    )
    settings = Settings(
        learning_rate=learning_rate,
        epochs=epochs,
        batch_tokens=batch_tokens or STEP_TOKENS[model.device.type],
        max_tokens=max_tokens,
        weight_decay=0.0,
        head_learning_rate=HEAD_STEP / hidden,
        checks=4,
        patience=8,
        seed=seed,
    )
    reset_peak()
    report: dict[str, Any] = {"too_long": long, "rows": pairs_of(kept, train)}
    if folds > 1:
        fold = np.array([fold_of(one.id, folds) for one in kept])
        order, right = [], []
        for number in range(folds):
            unseen = [row for row in range(len(kept)) if fold[row] == number]
            rest = [row for row in range(len(kept)) if fold[row] != number]
            check = [row for row in rest if fold_of(kept[row].id, 10, "check") == 0]
            learn = [row for row in rest if row not in set(check)]
            if not unseen or not check or not learn:
                raise DataRefused(f"{data} has too few questions for {folds} folds: ask for fewer")
            with from_the_start(model):
                say(f"fold {number + 1} of {folds}")
                fit(model, kept, rows, learn, check, settings)
                right.append(judged(model, kept, rows, learn + check, unseen))
            order += unseen
        together = {name: np.concatenate([one[name] for one in right]) for name in right[0]}
        report["folds"] = reward_report.summary(
            reward_report.Judged(reward_report.numbered([kept[row] for row in order]), together)
        )
    report |= fit(model, kept, rows, train, valid, settings, resume)
    rescale(model, [rows[row] for row in train])
    report["test"] = reward_report.summary(
        reward_report.Judged(
            reward_report.numbered([kept[row] for row in test]),
            judged(model, kept, rows, train + valid, test),
        )
    )
    report["learned"] = float((margins(model, [rows[row] for row in train]) > 0).mean())
    report["peak_bytes"] = peak_bytes()
    accuracy = report["test"]["judges"][-1]["accuracy"]
    made = publish(
        out,
        name,
        "reward",
        lambda scratch: reward_files.write(model, scratch),
        base={"name": folder.name, "digest": base_digest(folder)},
        report=report,
        method={
            "name": "reward",
            "rank": 0 if words_only else rank,
            "counting": model.counting,
            **asdict(settings),
        },
        data={"sha256": found.digest, "rows": report["rows"]},
        metrics={"accuracy": list(accuracy), "learned": report["learned"]},
    )
    return made.reference, report
