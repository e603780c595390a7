"""`fewshot stores`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from indexer.commands.options import data_option, opened_catalogue, tells


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list for machines.")
@data_option
@tells
def stores(as_json: bool, data: Path) -> None:
    """List the stores with what they hold."""
    with opened_catalogue(data) as catalogue:
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
