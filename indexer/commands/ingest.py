"""`fewshot ingest`. Heavy imports wait for the call."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexer.commands.options import cache_option, data_option, embedder_option, opened_catalogue, tells

if TYPE_CHECKING:
    from indexer.ingest import Summary
    from indexer.seams import Embedder, Reader


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", required=True, help="Name of the store; created if there is none.")
@data_option
@cache_option
@embedder_option
@click.option(
    "--chunking",
    metavar="HOW",
    help="auto, static:800/400 (size/overlap) or parent:128/512 (chunk/passage), in the embedder's tokens; "
    "a store keeps what it began with.  [default: auto]",
)
@click.option("--sync", is_flag=True, help="Files that left the given folders leave the store.")
@click.option("--watch", "follow", is_flag=True, help="Go on: ingest again whenever files change.")
@click.option(
    "--devices",
    metavar="LIST",
    help="A replica of the model on each: cuda:0,cuda:1.  [default: the best one there is]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: read and embed on the cluster of RAY_ADDRESS (extra `ray`).",
)
@click.option("--workers", type=click.IntRange(1), help="Of Ray.  [default: one per CPU of the cluster]")
@tells
def ingest(
    paths: tuple[Path, ...],
    store: str,
    data: Path,
    cache: Path,
    embedder: str,
    chunking: str | None,
    sync: bool,
    follow: bool,
    devices: str | None,
    engine: str,
    workers: int | None,
) -> None:
    """Make files and folders searchable: documents, slides, sheets, books, mail, pages, data, code, archives.

    Unchanged files are skipped, changed ones replace what they were, an interrupted run goes on
    where it stopped. Ctrl-C or SIGTERM publishes what is at hand and ends, with exit code 130; a second one
    ends at once. Exit code 1 if any document could not be read.
    """
    from indexer import watching
    from indexer.chunking import parsed, settle
    from indexer.embedding import open_embedder
    from indexer.ingest import ingest as run
    from indexer.progress import Bar, Lines
    from indexer.sandbox import Sandbox, servers_here
    from indexer.splitting import Splitting
    from indexer.stopping import Requested, Stop
    from indexer.syncing import leave
    from indexer.windows import reaching

    if devices and engine == "ray":
        raise click.UsageError("--devices is for the local engine: Ray places its workers itself")
    if workers and engine != "ray":
        raise click.UsageError("--workers is for --engine ray")
    asked = parsed(chunking) if chunking else None
    readers = servers_here()
    sandbox = Sandbox(servers=readers)
    read: Reader
    opened: Embedder
    stop = Stop(
        lambda: click.echo("ending: what is at hand is published first; again to end at once", err=True)
    )
    try:
        models = cache.expanduser() / "models"
        with opened_catalogue(data) as catalogue, ExitStack() as stack:
            if engine == "ray":
                from indexer.ray_engine import crew

                hands = stack.enter_context(crew(embedder, models, workers))
                read, opened, readers = hands, hands.embedder, hands.readers
            else:
                read, opened = sandbox, open_embedder(embedder, models, devices.split(",") if devices else ())
            stack.enter_context(stop)  # after Ray, which has a handler of its own
            claimed = catalogue.claim(store, opened)
            kept = settle(catalogue, claimed, asked)
            opened = reaching(opened, kept)
            requested = Requested(catalogue, claimed)

            def once(only: frozenset[Path] | None) -> "Summary":
                with Bar() if sys.stderr.isatty() else Lines() as watch:
                    summary = run(
                        catalogue,
                        store,
                        paths,
                        opened,
                        read,
                        Splitting(kept),
                        watch,
                        readers=readers,
                        only=only,
                        stop=lambda: stop() or requested(),
                    )
                _tell(summary, store)
                if sync and not summary.cancelled:
                    gone = leave(catalogue, catalogue.store(store), paths)
                    click.echo(f"{gone.files if gone else 0} files left '{store}'")
                return summary

            def again(only: frozenset[Path] | None) -> None:
                once(only)

            if follow:
                watching.follow(paths, again, stop.event, _complain)
                return
            summary = once(None)
    finally:
        sandbox.close()
    if summary.cancelled:
        sys.exit(130)
    if summary.errors:
        sys.exit(1)


def _tell(summary: "Summary", store: str) -> None:
    click.echo(
        f"{summary.documents} documents, {summary.chunks} chunks added to '{store}'; "
        f"{summary.unchanged} files unchanged"
    )
    if summary.cancelled:
        click.echo("cancelled: that much is published; the same command goes on from there")
    for problem in summary.repeated:
        click.echo(f"{problem.name}: {problem.message}")
    for problem in summary.warnings:
        click.echo(f"warning: {problem.name}: {problem.message}", err=True)
    for problem in summary.errors:
        click.echo(f"error: {problem.name}: {problem.message}", err=True)


def _complain(error: Exception) -> None:
    click.echo(f"error: {error}; trying again", err=True)
