"""`fewshot ingest`, `search`, `stores`, `verify`. Heavy imports wait for the command that needs them."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, get_args

import click

from indexer.errors import DatabaseRefused, IndexerError

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue
    from indexer.records import Store

P = ParamSpec("P")
R = TypeVar("R")

REFUSED = 78  # EX_CONFIG: this installation cannot run, trying again will not help

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="FEWSHOT_DATA_DIR",
    default=Path("~/.local/share/fewshot"),
    show_default="~/.local/share/fewshot",
    help="Where stores and the catalogue are.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="FEWSHOT_CACHE_DIR",
    default=Path("~/.cache/fewshot"),
    show_default="~/.cache/fewshot",
    help="Where downloaded models are.",
)
embedder_option = click.option(
    "--embedder",
    envvar="FEWSHOT_EMBEDDER",
    default="all-minilm-l6-v2",
    show_default=True,
    help="A model under the cache, a folder, a hub id, or `hash`.",
)


def _tells(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `IndexerError` into its message and an exit code."""

    @wraps(command)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except IndexerError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(REFUSED if isinstance(error, DatabaseRefused) else 1)

    return telling


@contextmanager
def _catalogue(data: Path) -> Iterator["Catalogue"]:
    from indexer.catalogue import Catalogue

    catalogue = Catalogue(data.expanduser())
    try:
        yield catalogue
    finally:
        catalogue.close()


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", required=True, help="Name of the store; created if there is none.")
@data_option
@cache_option
@embedder_option
@_tells
def ingest(paths: tuple[Path, ...], store: str, data: Path, cache: Path, embedder: str) -> None:
    """Make files and folders searchable: text, Markdown, HTML, PDF, DOCX, CSV, JSONL.

    Unchanged files are skipped, changed ones replace what they were, an interrupted run goes on
    where it stopped. Exit code 1 if any document could not be read.
    """
    from indexer.embedding import open_embedder
    from indexer.ingest import ingest as run
    from indexer.progress import Bar, Lines
    from indexer.sandbox import Sandbox
    from indexer.splitting import Splitting

    sandbox = Sandbox()
    try:
        with _catalogue(data) as catalogue, Bar() if sys.stderr.isatty() else Lines() as watch:
            opened = open_embedder(embedder, cache.expanduser() / "models")
            summary = run(catalogue, store, paths, opened, sandbox, Splitting(), watch)
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


@click.command()
@click.argument("query")
@click.option("--store", "stores", required=True, multiple=True, help="Name or id; may be repeated.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--mode", default="hybrid", show_default=True, type=click.Choice(["hybrid", "dense", "keyword"])
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
@data_option
@cache_option
@embedder_option
@_tells
def search(
    query: str,
    stores: tuple[str, ...],
    top: int,
    mode: str,
    as_json: bool,
    data: Path,
    cache: Path,
    embedder: str,
) -> None:
    """Find the passages that answer QUERY."""
    from indexer.embedding import open_embedder
    from indexer.search import Mode, Searcher

    chosen: Mode = next(known for known in get_args(Mode) if known == mode)
    name = "hash" if mode == "keyword" else embedder  # that mode embeds nothing: no model is needed
    searcher = Searcher(data.expanduser(), open_embedder(name, cache.expanduser() / "models"))
    try:
        hits = searcher.search(query, stores, top=top, mode=chosen)
    finally:
        searcher.close()
    if as_json:
        found = [asdict(hit) for hit in hits.hits]
        click.echo(
            json.dumps(
                {"query": query, "generations": dict(hits.generations), "hits": found}, ensure_ascii=False
            )
        )
        return
    for number, hit in enumerate(hits.hits, start=1):
        page = f", page {hit.page_start}" if hit.page_start is not None else ""
        row = f" [{hit.external_id}]" if hit.external_id is not None else ""
        click.echo(f"{number}. {hit.score:.3f}  {hit.title} ({hit.filename}{row}{page})")
        click.echo("   " + " ".join(hit.text.split())[:200])
    if not hits.hits:
        click.echo("nothing found")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list for machines.")
@data_option
@_tells
def stores(as_json: bool, data: Path) -> None:
    """List the stores with what they hold."""
    with _catalogue(data) as catalogue:
        rows = [(store, catalogue.counts(store)) for store in catalogue.stores()]
    if as_json:
        click.echo(json.dumps([{**asdict(store), **asdict(counts)} for store, counts in rows]))
        return
    for store, counts in rows:
        failed = f", {counts.failed} files failed" if counts.failed else ""
        click.echo(
            f"{store.name}  {counts.documents} documents, {counts.chunks} chunks "
            f"from {counts.files} files{failed}; "
            f"embedder {store.embedder}, generation {store.generation}, {store.id}"
        )
    if not rows:
        click.echo("no stores yet: fewshot ingest PATH --store NAME")


@click.command()
@click.option("--store", "name", help="Only this one.")
@data_option
@_tells
def verify(name: str | None, data: Path) -> None:
    """Check that catalogue, vectors and keyword index agree and no file was altered. Exit code 1 if not."""
    from indexer.verification import findings

    with _catalogue(data) as catalogue:
        chosen: list[Store] = [catalogue.store(name)] if name else catalogue.stores()
        wrong = [(store, list(findings(catalogue, store))) for store in chosen]
    for store, sentences in wrong:
        click.echo(f"{store.name}: {'ok' if not sentences else f'{len(sentences)} findings'}")
        for sentence in sentences:
            click.echo(f"  {sentence}")
    if any(sentences for _, sentences in wrong):
        sys.exit(1)
