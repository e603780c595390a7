"""fewshot train retriever: the embedder, finetuned on questions with the passages that answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click

from training.telling import models_of, progress, say


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new embedder's folder.")
@click.option("--base", help="Embedder's folder or fetched model; default: retrieval.embedder.")
@click.option("--epochs", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(1e-8, 1.0), default=2e-5, show_default=True)
@click.option(
    "--max-tokens", type=click.IntRange(8, 8192), default=256, show_default=True, help="Of a passage."
)
@click.option(
    "--batch-texts", type=click.IntRange(2, 4096), default=16, show_default=True, help="Questions a step."
)
@click.option("--seed", type=int, default=11, show_default=True)
@click.option("--device", help="cpu or cuda; default: the best there is.")
@click.pass_context
def retriever(context: click.Context, /, **options: Any) -> None:
    """The embedder, finetuned on the judged questions in DATA; says what it gains on others.

    DATA holds corpus.jsonl (id, title, text), train_queries.jsonl (id, text) with train_qrels.tsv (query-id,
    corpus-id, score), and queries.jsonl with qrels.tsv to measure on. The result is a folder like the base's:

    \b
    fewshot stores migrate handbook --embedder OUT      (the store is searched meanwhile)
    """
    from training.errors import TrainingRefused

    if options["base"] is None:
        if context.obj is None:
            raise click.UsageError("name the embedder with --base")
        options["base"] = context.obj.retrieval.embedder
    models = models_of(context.obj)
    try:
        found = finetune_retriever(models=models, **options)
    except TrainingRefused as problem:
        raise click.ClickException(str(problem)) from problem
    low, high = found.interval
    click.echo(
        f"nDCG@10 {found.before:.4f} → {found.after:.4f} on {found.questions} questions "
        f"(difference {found.after - found.before:+.4f}, 95 % {low:+.4f}…{high:+.4f})"
    )
    if low <= 0:
        click.echo("Not shown to be better: keep the base, or train on more questions.", err=True)


class Gain(NamedTuple):
    before: float
    after: float
    interval: tuple[float, float]  # of the paired difference, bootstrap over questions
    questions: int


def finetune_retriever(
    *,
    models: Path,
    data: Path,
    out: Path,
    base: str,
    epochs: float,
    learning_rate: float,
    max_tokens: int,
    batch_texts: int,
    seed: int,
    device: str | None,
) -> Gain:
    """Trains, measures, writes the folder `out`. Raises TrainingRefused."""
    from prompts.analysis.paired import mean_interval
    from training import retriever as room
    from training.backbone import Backbone, base_digest, best_device
    from training.cli import located
    from training.errors import DataRefused
    from training.loop import train as learn
    from training.records import Settings

    if out.exists():
        raise DataRefused(f"{out} is there already: name a new folder, an embedder never changes")
    folder = located(base, models)
    room.check_embedder(folder)
    found = room.read_judgements(data, seed)
    backbone = Backbone(folder, device or best_device())
    passages, long = backbone.encode(found.passages, max_tokens)
    train, valid, test = (
        backbone.encode(part.questions, max_tokens)[0] for part in (found.train, found.valid, found.test)
    )
    say(
        f"{len(train):,} questions to learn from, {len(valid):,} to check with, {len(test):,} to measure on; "
        f"{len(passages):,} passages, {100 * long:.1f} % cut at {max_tokens} tokens"
    )
    rows = room.embedded(backbone, passages)
    before = room.ndcg(found.test, room.embedded(backbone, test), rows)
    say(f"nDCG@10 {before.mean():.4f} before")
    settings = Settings(
        learning_rate=learning_rate,
        epochs=epochs,
        batch_tokens=1_000_000,  # the questions of a step are each other's negatives: their number decides
        batch_texts=batch_texts,
        max_tokens=max_tokens,
        warmup=0.1,
        seed=seed,
    )
    learner = room.Retriever(
        backbone,
        passages,
        room.mined(found.train, room.embedded(backbone, train), rows, train, seed),
        room.mined(found.valid, room.embedded(backbone, valid), rows, valid, seed),
        settings,
    )
    done = learn(learner, settings, say=lambda now: say(progress(now)))
    after = room.ndcg(found.test, room.embedded(backbone, test), room.embedded(backbone, passages))
    _, low, high = mean_interval(after, before)
    note = {
        "base": {"name": folder.name, "digest": base_digest(folder)},
        "data": found.digest,
        "seed": seed,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "train_seconds": done.seconds,
        "ndcg_at_10": {"before": float(before.mean()), "after": float(after.mean()), "interval": [low, high]},
    }
    room.write_embedder(backbone, out, note)
    return Gain(float(before.mean()), float(after.mean()), (low, high), len(after))
