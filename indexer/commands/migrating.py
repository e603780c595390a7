"""`fewshot stores migrate`, `rollback` and `discard`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexer.commands.options import cache_option, data_option, opened_catalogue, tells

if TYPE_CHECKING:
    from indexer.records import Series
    from indexer.seams import Embedder


@click.command()
@click.argument("name")
@click.option(
    "--embedder", required=True, help="The model to move to: one under the cache, a folder, or `hash`."
)
@click.option("--verify-queries", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option(
    "--min-recall",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Less than this: no switch.",
)
@click.option("--discard-old", is_flag=True, help="Drop the old vectors after the switch: no way back.")
@data_option
@cache_option
@tells
def migrate(
    name: str,
    embedder: str,
    verify_queries: int,
    min_recall: float,
    discard_old: bool,
    data: Path,
    cache: Path,
) -> None:
    """Move the store NAME to another embedding model while it is searched.

    Its chunks are embedded again beside the old vectors, in batches that survive an interruption. Then
    sampled questions must find at least --min-recall of their exact nearest vectors, and one transaction
    switches. A chunk that is longer than the model's window is refused: ingest into a new store instead.
    """
    from indexer import migration
    from indexer.chunking import of_options
    from indexer.embedding import open_embedder
    from indexer.windows import reaching

    models = cache.expanduser() / "models"
    with opened_catalogue(data) as catalogue:
        store = catalogue.store(name)
        opened = reaching(open_embedder(embedder, models), of_options(store.options))
        old = _at_hand(store.current, models)
        bar = migration.Bar(verify_queries, min_recall)
        done = migration.migrate(catalogue, name, opened, bar, _tell, old)
        dropped = migration.discard(catalogue, name) if discard_old else None
    if done.measured is not None:
        said = done.measured
        overlap = (
            "" if said.overlap is None else f", overlap with the old model's ten nearest {said.overlap:.3f}"
        )
        click.echo(
            f"{said.queries} questions: recall {said.recall:.3f}, vectors {said.faithful:.3f}{overlap}"
        )
    click.echo(
        f"generation {done.generation}: '{name}' is searched by {opened.name}, {done.chunks} chunks embedded"
    )
    if dropped is not None:
        click.echo(f"the vectors by {dropped.embedder} are gone")
    else:
        click.echo(
            f"go back: fewshot stores rollback {name}; drop the old vectors: fewshot stores discard {name}"
        )


@click.command()
@click.argument("name")
@data_option
@cache_option
@tells
def rollback(name: str, data: Path, cache: Path) -> None:
    """Search the vectors of before the last migration of NAME again, with what was ingested since."""
    from indexer import migration
    from indexer.chunking import of_options
    from indexer.embedding import open_embedder
    from indexer.windows import reaching

    models = cache.expanduser() / "models"
    with opened_catalogue(data) as catalogue:
        kept = of_options(catalogue.store(name).options)

        def reopen(series: "Series") -> "Embedder":
            return reaching(open_embedder(series.embedder, models), kept)

        done = migration.rollback(catalogue, name, reopen, _tell)
        store = catalogue.store(name)
    click.echo(
        f"generation {done.generation}: '{name}' is searched by {store.embedder} again, "
        f"{done.chunks} chunks embedded"
    )


@click.command()
@click.argument("name")
@data_option
@tells
def discard(name: str, data: Path) -> None:
    """Drop the vectors of NAME that are not searched: older ones, or those of a migration given up."""
    from indexer import migration

    with opened_catalogue(data) as catalogue:
        dropped = migration.discard(catalogue, name)
    click.echo(f"the vectors by {dropped.embedder} are gone" if dropped else f"'{name}' has no others")


def _tell(done: int, of: int) -> None:
    click.echo(f"{done} of {of} chunks embedded")


def _at_hand(series: "Series", models: Path) -> "Embedder | None":
    from indexer.embedding import open_embedder
    from indexer.errors import EmbedderMissing

    try:
        return open_embedder(series.embedder, models)
    except EmbedderMissing:
        return None
