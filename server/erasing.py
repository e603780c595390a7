"""`fewshot erase`: out of the stores, off the disk, and out of the journal."""

import time

import click

from indexer.commands.deleting import remove, remove_for_good, target_options
from indexer.commands.options import opened_catalogue, tells
from indexer.database import open_database, shrink
from indexer.erasure import forget, wanted
from server.forgetting import erase_texts
from server.settings import Settings

DAY_SECONDS = 24 * 3600  # in which a turn that used a deleted chunk may still be written down


@click.command()
@click.argument("store", required=False)
@target_options[0]
@target_options[1]
@click.option("--yes", is_flag=True, help="Do not ask before a whole store is deleted.")
@click.pass_obj
@tells
def erase(settings: Settings, store: str | None, file: str | None, document: str | None, yes: bool) -> None:
    """Delete the store STORE, or one file or document of it, and leave nothing of it.

    What `fewshot stores delete --purge` does, and the prompts and replies of all turns that used it leave the
    journal; their fingerprints stay. Without STORE, completes what was deleted before: run it again when the
    requests that were at work are over. Exports, backups and trained adapters are yours to look after.
    """
    if store is None and (file is not None or document is not None):
        raise click.UsageError("--file and --document need the STORE they are in")
    with opened_catalogue(settings.paths.data) as catalogue:
        if store is not None:
            click.echo(remove(catalogue, store, file, document, ask=not yes))
        click.echo(remove_for_good(catalogue))
        journal = open_database(settings.paths.data / "journal.db")
        turns = erase_texts(journal, wanted(catalogue))
        shrink(journal)
        journal.dispose()
        forget(catalogue, before=int(time.time()) - DAY_SECONDS)
    click.echo(f"{turns} turns of the journal emptied")
