"""`fewshot stores index`. Heavy imports wait for the call."""

from pathlib import Path

import click

from indexer.commands.options import data_option, opened_catalogue, tells


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(["auto", "flat", "ivf", "hnsw", "milvus"]))
@click.option("--precision", type=click.Choice(["auto", "float32", "float16"]))
@click.option("--recall", type=click.FloatRange(0.5, 1.0), help="Of the true ten nearest, on average.")
@click.option("--uri", help="Address of the Milvus server, for kind milvus.")
@data_option
@tells
def index(
    name: str, kind: str | None, precision: str | None, recall: float | None, uri: str | None, data: Path
) -> None:
    """Say which vector index the store NAME gets; without options, show what was said.

    Segments written from now on follow; those that are there stay as they are until they are merged.
    """
    from indexer.index_options import ask

    given = {"kind": kind, "precision": precision, "recall": recall, "uri": uri}
    with opened_catalogue(data) as catalogue:
        store = catalogue.store(name)
        asked = ask(catalogue, store, {key: value for key, value in given.items() if value is not None})
    server = f", server {asked.uri}" if asked.uri else ""
    click.echo(
        f"{store.name}: kind {asked.kind}, precision {asked.precision}, recall {asked.recall:g}{server}"
    )
