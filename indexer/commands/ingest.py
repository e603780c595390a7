"""`fewshot ingest`. Heavy imports wait for the call."""

import sys
from pathlib import Path

import click

from indexer.commands.options import cache_option, data_option, embedder_option, opened_catalogue, tells


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
@tells
def ingest(
    paths: tuple[Path, ...], store: str, data: Path, cache: Path, embedder: str, chunking: str | None
) -> None:
    """Make files and folders searchable: documents, slides, sheets, books, mail, pages, data, code, archives.

    Unchanged files are skipped, changed ones replace what they were, an interrupted run goes on
    where it stopped. Exit code 1 if any document could not be read.
    """
    from indexer.chunking import parsed, settle
    from indexer.embedding import open_embedder
    from indexer.ingest import ingest as run
    from indexer.progress import Bar, Lines
    from indexer.sandbox import Sandbox
    from indexer.splitting import Splitting
    from indexer.windows import reaching

    asked = parsed(chunking) if chunking else None
    sandbox = Sandbox()
    try:
        with opened_catalogue(data) as catalogue, Bar() if sys.stderr.isatty() else Lines() as watch:
            opened = open_embedder(embedder, cache.expanduser() / "models")
            kept = settle(catalogue, catalogue.claim(store, opened), asked)
            opened = reaching(opened, kept)
            summary = run(catalogue, store, paths, opened, sandbox, Splitting(kept), watch)
    finally:
        sandbox.close()
    click.echo(
        f"{summary.documents} documents, {summary.chunks} chunks added to '{store}'; "
        f"{summary.unchanged} files unchanged"
    )
    for problem in summary.warnings:
        click.echo(f"warning: {problem.name}: {problem.message}", err=True)
    for problem in summary.errors:
        click.echo(f"error: {problem.name}: {problem.message}", err=True)
    if summary.errors:
        sys.exit(1)
