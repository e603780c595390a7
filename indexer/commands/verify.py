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
@data_option
@tells
def verify(name: str | None, data: Path) -> None:
    """Check that catalogue, vectors and keyword index agree and no file was altered. Exit code 1 if not."""
    from indexer.verification import findings

    with opened_catalogue(data) as catalogue:
        chosen: list[Store] = [catalogue.store(name)] if name else catalogue.stores()
        wrong = [(store, list(findings(catalogue, store))) for store in chosen]
    for store, sentences in wrong:
        click.echo(f"{store.name}: {'ok' if not sentences else f'{len(sentences)} findings'}")
        for sentence in sentences:
            click.echo(f"  {sentence}")
    if any(sentences for _, sentences in wrong):
        sys.exit(1)
