"""`fewshot stores cancel`."""

import sys
from pathlib import Path

import click

from indexer.commands.options import data_option, opened_catalogue, tells


@click.command()
@click.argument("name")
@data_option
@tells
def cancel(name: str, data: Path) -> None:
    """End the ingest that is at work in the store NAME: it publishes what is at hand and stops.

    Exit code 1 if none is at work on this machine.
    """
    from indexer.stopping import request

    with opened_catalogue(data) as catalogue:
        if request(catalogue, catalogue.store(name)):
            click.echo(f"the ingest into '{name}' was asked to end")
            return
    click.echo(f"no ingest is at work in '{name}'")
    sys.exit(1)
