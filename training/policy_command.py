"""fewshot train rloo and ppo: a policy tuned by a reward model, measured against where it started."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.reward_command import common
from training.telling import models_of, resolve, say

if TYPE_CHECKING:
    from training.reinforcing import Turn


def tuning(command: Any) -> Any:
    """Options of both commands."""
    options = (
        click.option("--reward", "judge", required=True, help="name@version of `fewshot train reward`."),
        click.option(
            "--from",
            "start",
            help="name@version of a LoRA to start from, with its rank; default: the base itself.",
        ),
        click.option("--steps", type=click.IntRange(1), default=40, show_default=True),
        click.option("--prompts", type=click.IntRange(1), default=32, show_default=True, help="A step."),
        click.option(
            "--samples", type=click.IntRange(2, 64), default=4, show_default=True, help="Answers a prompt."
        ),
        click.option(
            "--answer-tokens", type=click.IntRange(1, 4096), default=128, show_default=True, help="At most."
        ),
        click.option("--learning-rate", type=click.FloatRange(1e-8, 1.0), default=2e-4, show_default=True),
        click.option(
            "--beta",
            type=click.FloatRange(0, 10),
            default=0.05,
            show_default=True,
            help="Of the divergence from the start.",
        ),
        click.option("--clip", type=click.FloatRange(0.01, 10), default=0.2, show_default=True),
        click.option(
            "--plot",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Picture of reward and divergence by step (.png or .svg).",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table."),
    )
    for option in reversed(options):
        command = option(command)
    return common(command)


@click.command()
@tuning
@click.option(
    "--advantage",
    type=click.Choice(["rloo", "grpo"]),
    default="rloo",
    show_default=True,
    help="Against the other answers to a prompt, or standardised within it.",
)
@click.pass_context
def rloo(context: click.Context, /, advantage: str, **options: Any) -> None:
    """Tune a LoRA by REINFORCE with the other answers as baseline (or GRPO), by a reward model.

    The table compares it with its start on questions of the test part: reward, F1 with what people answered,
    divergence. The last line is the reference that `fewshot adapters load` takes.
    """
    _run(context, advantage, options)


@click.command()
@tuning
@click.option(
    "--passes", type=click.IntRange(1, 16), default=2, show_default=True, help="Over the answers of a step."
)
@click.option(
    "--parts", type=click.IntRange(1, 64), default=2, show_default=True, help="Optimiser steps a pass."
)
@click.option("--lam", type=click.FloatRange(0, 1), default=0.95, show_default=True, help="λ of GAE.")
@click.pass_context
def ppo(context: click.Context, /, **options: Any) -> None:
    """Tune a LoRA by PPO with a value head, by a reward model.

    Table and reference as of `rloo`.
    """
    _run(context, "ppo", options)


def _run(context: click.Context, method: str, options: dict[str, Any]) -> None:
    from training.errors import TrainingRefused

    resolve(context, options)
    as_json, picture = options.pop("as_json"), options.pop("plot")
    try:
        reference, report = make(method, models=models_of(context.obj), **options)
    except TrainingRefused as problem:
        raise click.ClickException(str(problem)) from problem
    if picture is not None:
        from training.tuning_plot import draw

        draw(report, picture, f"{options['name']}: {method}, β = {options['beta']:g}")
    if as_json:
        import json

        click.echo(json.dumps(report | {"reference": reference}, ensure_ascii=False))
        return
    from training.policy_report import table

    click.echo(table(report["test"]) + "\n")
    click.echo(reference)


def make(
    method: Any,
    *,
    models: Path,
    data: Path,
    name: str,
    base: str,
    out: Path,
    judge: str,
    start: str | None,
    rank: int,
    max_tokens: int,
    steps: int,
    prompts: int,
    samples: int,
    answer_tokens: int,
    learning_rate: float,
    beta: float,
    clip: float,
    seed: int,
    device: str | None,
    resume: Path | None,
    passes: int = 1,
    parts: int = 1,
    lam: float = 0.95,
) -> tuple[str, dict[str, Any]]:
    """(reference name@version, report) of what was tuned and published. Raises TrainingRefused."""
    from training import policy_report, reward_files
    from training.artefacts import check_name, publish
    from training.backbone import base_digest, best_device
    from training.cli import located
    from training.errors import DataRefused
    from training.memory import peak_bytes, reset_peak
    from training.policy import Policy, Sampler
    from training.preferences import read_preferences
    from training.reinforcing import Course, reinforce
    from training.starting import folder_of, started

    check_name(name)
    folder, place = located(base, models), device or best_device()
    policy_report.on(place)
    found = read_preferences(data)
    judging = folder_of(judge, out)
    model, tokenizer, parent = started(
        folder, folder_of(start, out) if start else None, place, rank=rank, seed=seed
    )
    rewarding = reward_files.read(judging, folder, place)
    room = min(max_tokens, int(model.config.max_position_embeddings)) - answer_tokens - 1
    train, valid, test = (policy_report.encoded(part, tokenizer, room) for part in found[:3])
    if not train or not valid or not test:
        raise DataRefused(f"no prompt of {data} leaves room for an answer: raise --max-tokens")
    say(f"{len(train):,} prompts to learn from, {len(valid):,} to check with, {len(test):,} to judge by")
    policy = Policy(model, tokenizer)
    sampler = Sampler(policy, folder)
    rewarder = policy_report.Judge(rewarding, [*train, *valid, *test])
    course = Course(
        method=method,
        steps=steps,
        prompts=prompts,
        samples=samples,
        most_tokens=answer_tokens,
        learning_rate=learning_rate,
        beta=beta,
        reach=clip,
        passes=passes,
        parts=parts,
        lam=lam,
        seed=seed,
    )
    reset_peak()
    began = time.monotonic()
    done = reinforce(
        policy,
        sampler,
        rewarder,
        [one.prompt for one in train],
        [one.prompt for one in valid],
        course,
        say=lambda turn, left: say(told(turn, steps, left)),
        checkpoint=resume,
    )
    say(f"validation reward − βKL {done.before:.3f} → {done.after:.3f}, {done.seconds:.0f} s of training")
    report = {
        "score_before": done.before,
        "score": done.after,
        "scored": "validation reward less beta times KL, in deviations of people's answers",
        "turns": [one._asdict() for one in done.turns],
        "curve": done.curve,
        "train_seconds": done.seconds,
        "test": policy_report.compared(
            policy, sampler, rewarder, test, each=samples, most=answer_tokens, seed=seed
        ),
        "wall_seconds": time.monotonic() - began,
        "peak_bytes": peak_bytes(),
        "trainable": sum(one.numel() for one in policy.adapter().values()),
    }
    made = publish(
        out,
        name,
        "lora",
        lambda scratch: model.save_pretrained(
            str(scratch), safe_serialization=True, save_embedding_layers=False
        ),
        base={"name": folder.name, "digest": base_digest(folder)},
        report=report,
        method={"name": method, "reward": judging.parent.name + "@" + judging.name, **asdict(course)},
        data={"sha256": found.digest, "rows": len(train)},
        metrics={"score_before": done.before, "score": done.after},
        **({"parent": f"{parent['name']}@{parent['version']}"} if parent else {}),
    )
    return made.reference, report


def told(turn: Turn, steps: int, seconds_left: float) -> str:
    return (
        f"step {turn.step:,}/{steps:,}  reward {turn.reward:+.3f}  KL {turn.kl:.2f}  "
        f"tokens {turn.tokens:.0f}  ended {turn.ended:.0%}  loss {turn.loss:.4f}  {seconds_left:.0f} s left"
    )
