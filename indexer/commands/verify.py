"""`fewshot verify`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexer.commands.options import data_option, opened_catalogue, tells

if TYPE_CHECKING:
    from indexer.records import Store


@click.command()
@click.option("--store", "name", help="Only this one.")
@click.option(
    "--erase-check", "text", metavar="STRING", help="Say where this text still is, and nothing else."
)
@data_option
@tells
def verify(name: str | None, text: str | None, data: Path) -> None:
    """Check that catalogue, vectors and keyword index agree and no file was altered. Exit code 1 if not.

    With --erase-check, search every file under the data folder for STRING instead: its bytes, the rows of
    every database, the terms of the keyword index. Exit code 1 if it is anywhere.
    """
    from indexer.traces import traces
    from indexer.verification import findings

    if text is not None and not text.strip():
        raise click.UsageError("--erase-check needs a text to look for")
    with opened_catalogue(data) as catalogue:
        if text is not None:
            found = list(traces(catalogue, text))
            for trace in found:
                click.echo(f"{trace.where}: {trace.what}")
            click.echo(f"found in {len(found)} places" if found else "not found")
            sys.exit(1 if found else 0)
        chosen: list[Store] = [catalogue.store(name)] if name else catalogue.stores()
        wrong = [(store, list(findings(catalogue, store))) for store in chosen]
    for store, sentences in wrong:
        click.echo(f"{store.name}: {'ok' if not sentences else f'{len(sentences)} findings'}")
        for sentence in sentences:
            click.echo(f"  {sentence}")
    if any(sentences for _, sentences in wrong):
        sys.exit(1)
