"""`fewshot catalogue`. Heavy imports wait for the call."""

from pathlib import Path

import click

from indexer.commands.options import data_option, opened_catalogue, tells


@click.group()
def catalogue() -> None:
    """Show where the catalogue is, or move it to PostgreSQL."""


@catalogue.command()
@data_option
@tells
def show(data: Path) -> None:
    """Say which database holds the catalogue of the data folder."""
    from indexer.postgres import named

    with opened_catalogue(data) as opened:
        click.echo(f"{named(opened.engine)}, schema {opened.schema_version}, {len(opened.stores())} stores")


@catalogue.command()
@click.argument("url")
@data_option
@tells
def move(url: str, data: Path) -> None:
    """Move the catalogue to the PostgreSQL database at URL, postgresql://user@host/name.

    Stop the server and every ingest first. Vectors and keyword indexes stay in the data folder; machines
    that share the stores must share that folder. Leave the password to PGPASSWORD or a password file.
    """
    from indexer.moving import move as run

    copied = run(data.expanduser(), url)
    rows = sum(copied.values())
    click.echo(f"moved {rows} rows of {len(copied)} tables; {data / 'catalogue.url'} names the new catalogue")
