"""fewshot ladder: every way to adapt the model, measured on your data."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from training.telling import models_of, say

DEFAULT_BASES = ("smollm2-135m-instruct", "all-minilm-l6-v2")


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--base", "bases", multiple=True, help="Model folder or fetched model; one decoder, one encoder."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where results go."
)
@click.option("--minutes", type=click.FloatRange(1), help="Cut the data to what this time allows.")
@click.option("--rungs", "patterns", multiple=True, help="Only these, by shell pattern: 'decoder/last-*'.")
@click.option("--seeds", default="11,23,37", show_default=True, help="One run of every trained rung each.")
@click.option("--epochs", type=click.FloatRange(0.1, 100), default=2.0, show_default=True)
@click.option(
    "--max-tokens", type=click.IntRange(8, 8192), help="Of a text; 512 on a card, 128 on a processor."
)
@click.option(
    "--shots", default="4", show_default=True, help="Worked examples of the prompt rungs: '4,8,16'."
)
@click.option("--ranks", default="8", show_default=True, help="A LoRA rung each: '1,3,8,32'.")
@click.option("--template", help="Of the prompt rungs; its labels are the data's. Default: a plain pattern.")
@click.option("--device", help="cpu or cuda; default: the best there is.")
@click.option(
    "--delta", type=float, default=0.5, show_default=True, help="Points of accuracy that do not matter."
)
@click.option("--max-train-minutes", type=float, help="Advise only what trains faster than this.")
@click.option("--max-parameters", type=int, help="Advise only what learns fewer parameters than this.")
@click.option("--no-added-tokens", is_flag=True, help="Advise only what leaves the prompt as long as it is.")
@click.option("--must-hot-load", is_flag=True, help="Advise only what loads into a running server.")
@click.option("--report", "only_made", is_flag=True, help="Make no run: report those that are in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print ladder.json instead of the table.")
@click.pass_context
def ladder(
    context: click.Context,
    data: Path,
    bases: tuple[str, ...],
    out: Path,
    minutes: float | None,
    patterns: tuple[str, ...],
    seeds: str,
    epochs: float,
    max_tokens: int | None,
    shots: str,
    ranks: str,
    template: str | None,
    device: str | None,
    delta: float,
    max_train_minutes: float | None,
    max_parameters: int | None,
    no_added_tokens: bool,
    must_hot_load: bool,
    only_made: bool,
    as_json: bool,
) -> None:
    """Measure every way of adapting a model to DATA, and say which to use.

    DATA holds train.jsonl and test.jsonl (and valid.jsonl, if you have one) with lines {"text", "label"}, or
    {"question", "answers", "context"?} for a model that writes answers (F1, exact match). A stopped run goes
    on where it was when it is started again with the same --out.
    """
    from prompts.errors import PromptError
    from training.errors import TrainingRefused
    from training.recommendation import Wanted

    wanted = Wanted(
        delta=delta / 100,
        train_minutes=max_train_minutes,
        parameters=max_parameters,
        no_added_tokens=no_added_tokens,
        must_hot_load=must_hot_load,
    )
    models = models_of(context.obj)
    try:
        content = climb(
            data,
            [located(name, models) for name in bases or DEFAULT_BASES],
            out,
            wanted,
            minutes=minutes,
            patterns=patterns,
            seeds=numbers(seeds, "--seeds"),
            epochs=epochs,
            max_tokens=max_tokens,
            shots=numbers(shots, "--shots"),
            ranks=numbers(ranks, "--ranks", least=1),
            template=template,
            device=device,
            only_made=only_made,
        )
    except (TrainingRefused, PromptError) as problem:
        raise click.ClickException(str(problem)) from problem
    from training.report import markdown

    if as_json:
        import json

        click.echo(json.dumps(content, ensure_ascii=False))
    else:
        click.echo(markdown(content, []))
        click.echo(f"Plots, table and page are in {out}.", err=True)


def climb(
    data: Path,
    bases: list[Path],
    out: Path,
    wanted: object,
    *,
    minutes: float | None = None,
    patterns: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (11, 23, 37),
    epochs: float = 2.0,
    max_tokens: int | None = None,
    shots: tuple[int, ...] = (4,),
    ranks: tuple[int, ...] = (8,),
    template: str | None = None,
    device: str | None = None,
    only_made: bool = False,
) -> dict[str, object]:
    """Read, measure, advise, draw, write; the content of ladder.json. Raises TrainingRefused."""
    from training import plots, report
    from training.answer_data import read_questions, task_of
    from training.answer_ladder import AnswerLadder
    from training.backbone import best_device
    from training.climbing import Order
    from training.data import read_split
    from training.ladder import Ladder
    from training.recommendation import recommend

    order = Order(
        bases=tuple(bases),
        out=out,
        device=device or best_device(),
        seeds=seeds,
        rungs=patterns,
        minutes=minutes,
        epochs=epochs,
        max_tokens=max_tokens,
        shots=shots,
        ranks=ranks,
        template=template,
        only_made=only_made,
    )
    ladder: Ladder | AnswerLadder
    if task_of(data) == "answer":
        ladder = AnswerLadder(order, read_questions(data), say)
    else:
        ladder = Ladder(order, read_split(data), say)
    rows = ladder.climb()
    advice = recommend(rows, wanted)  # type: ignore[arg-type]
    used = seeds[: max((len(row.runs) for row in rows), default=0)]  # a budget may allow one
    about = {"machine": machine(order.device), "bases": [one.name for one in bases], "seeds": list(used)}
    content = report.summary(rows, advice, ladder.split, about | {"epochs": epochs, "minutes": minutes})
    what, score = ("questions", "F1") if content["task"] == "answer" else ("texts", "accuracy")
    drawn = plots.draw(
        rows,
        out,
        title=f"{ladder.split.name}: {len(ladder.split.train):,} training {what}",
        score=score,
        recommended=advice.rung if advice else None,
        imdb="imdb" in ladder.split.name,
    )
    report.write(out, content, drawn)
    return content


def located(name: str, models: Path) -> Path:
    """A fetched model by name, or a folder. Raises BaseRefused."""
    from training.errors import BaseRefused

    for folder in (models / name, Path(name).expanduser()):
        if (folder / "config.json").is_file():
            return folder
    raise BaseRefused(
        f"no model {name!r}: neither a folder with a config.json nor in {models}; run `fewshot models fetch`"
    )


def numbers(text: str, option: str, *, least: int = 0) -> tuple[int, ...]:
    """ "4,8" → (4, 8), none below `least`. Raises click.BadParameter."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or any(one < least for one in found) or len(set(found)) < len(found):
        raise click.BadParameter(
            f"whole numbers from {least} with commas between, not {text!r}", param_hint=option
        )
    return found


def machine(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        here = torch.cuda.is_available()  # or a report is made of runs from another machine
        return f"{torch.cuda.get_device_name() if here else 'a card elsewhere'}, bfloat16"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, float32"
