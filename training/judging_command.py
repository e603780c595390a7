"""fewshot train judge: two adapters, or one and its base, compared on questions that neither learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from training.telling import models_of, resolve


@click.command()
@click.argument("adapter")
@click.option("--against", help="name@version of another LoRA of the same rank; default: the base itself.")
@click.option("--reward", "judge_by", required=True, help="name@version of `fewshot train reward`.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="As of `fewshot train reward`; its test part is asked.",
)
@click.option("--base", help="Model folder or fetched model; default: engine.model.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of adapters; default: where `fewshot adapters` looks.",
)
@click.option("--samples", type=click.IntRange(1, 64), default=4, show_default=True, help="Answers a prompt.")
@click.option(
    "--answer-tokens", type=click.IntRange(1, 4096), default=128, show_default=True, help="At most."
)
@click.option("--max-tokens", type=click.IntRange(8, 131072), default=1280, show_default=True)
@click.option("--seed", type=int, default=11, show_default=True)
@click.option("--device", help="cpu or cuda; default: the best there is.")
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
@click.pass_context
def judge(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Compare the LoRA ADAPTER (name@version) with another, or with the base, by a reward model.

    The table is the one that `rloo` and `ppo` print: of what `dpo` made, or of two methods.
    """
    from training.errors import TrainingRefused

    resolve(context, options)
    try:
        report = compare(models=models_of(context.obj), **options)
    except TrainingRefused as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        import json

        click.echo(json.dumps(report, ensure_ascii=False))
        return
    from training.policy_report import table

    click.echo(table(report))


def compare(
    *,
    models: Path,
    adapter: str,
    against: str | None,
    judge_by: str,
    data: Path,
    base: str,
    out: Path,
    samples: int,
    answer_tokens: int,
    max_tokens: int,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    """`training.policy_report.compared` of two published LoRAs. Raises TrainingRefused."""
    import torch

    from training import policy_report, reward_files
    from training.backbone import best_device
    from training.cli import located
    from training.errors import ArtefactRefused, DataRefused
    from training.policy import Policy, Sampler
    from training.preferences import read_preferences
    from training.starting import folder_of, started

    folder, place = located(base, models), device or best_device()
    policy_report.on(place)
    questions = read_preferences(data).test
    tuned, tokenizer, _ = started(folder, folder_of(adapter, out), place, rank=1, seed=seed)
    learned = {name: one.detach().clone() for name, one in tuned.named_parameters() if one.requires_grad}
    rank = int(tuned.peft_config["default"].r)
    model, _, _ = started(folder, folder_of(against, out) if against else None, place, rank=rank, seed=seed)
    policy = Policy(model, tokenizer)
    with torch.no_grad():
        for name, one in policy.adapter().items():
            if one.shape != learned[name].shape:
                raise ArtefactRefused(f"{adapter} and {against} differ in rank: judge each against the base")
            one.copy_(learned[name])
    room = min(max_tokens, int(model.config.max_position_embeddings)) - answer_tokens - 1
    asked = policy_report.encoded(questions, tokenizer, room)
    if not asked:
        raise DataRefused(f"no prompt of {data} leaves room for an answer: raise --max-tokens")
    rewarder = policy_report.Judge(reward_files.read(folder_of(judge_by, out), folder, place), asked)
    return policy_report.compared(
        policy, Sampler(policy, folder), rewarder, asked, each=samples, most=answer_tokens, seed=seed
    )
