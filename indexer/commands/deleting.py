"""`fewshot stores delete` and `fewshot stores purge`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexer.commands.options import data_option, opened_catalogue, tells

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue


target_options = (
    click.option("--file", "file", help="Only this file: its id, path or name."),
    click.option("--document", help="Only this document: the id of a JSONL row, or a chunk of it, ch_…."),
)


@click.command()
@click.argument("name")
@target_options[0]
@target_options[1]
@click.option("--purge", "at_once", is_flag=True, help="Leave nothing on the disk either, now.")
@click.option("--yes", is_flag=True, help="Do not ask before a whole store is deleted.")
@data_option
@tells
def delete(name: str, file: str | None, document: str | None, at_once: bool, yes: bool, data: Path) -> None:
    """Delete the store NAME, or one file or document of it: no later search finds it.

    The disk keeps it until a purge, or until enough is dead that a segment is rewritten. A file that is
    still in its folder comes back with the next ingest of that folder.
    """
    with opened_catalogue(data) as catalogue:
        click.echo(remove(catalogue, name, file, document, ask=not yes))
        if at_once:
            click.echo(remove_for_good(catalogue))


@click.command()
@click.argument("name", required=False)
@data_option
@tells
def purge(name: str | None, data: Path) -> None:
    """Remove from the disk what was deleted or replaced, of the store NAME or of all.

    Segments that hold some of it are written again, the catalogue is compacted, its log emptied, and the
    copies that upgrades left are removed.
    """
    with opened_catalogue(data) as catalogue:
        click.echo(remove_for_good(catalogue, name))


def remove(catalogue: "Catalogue", name: str, file: str | None, document: str | None, *, ask: bool) -> str:
    """Delete what the options say; a sentence that says what is gone."""
    from indexer import deleting

    store = catalogue.store(name)
    file_id = None if file is None else deleting.find_file(catalogue, store, file)
    if document is not None:
        gone = deleting.delete_document(catalogue, store, document, file_id)
    elif file_id is not None:
        gone = deleting.delete_file(catalogue, store, file_id)
    else:
        if ask and sys.stdin.isatty():
            counts = catalogue.counts(store)
            click.confirm(
                f"Delete '{store.name}' with {counts.files} files, {counts.chunks} chunks?", abort=True
            )
        deleting.delete_store(catalogue, store)
        return f"store '{store.name}' deleted"
    return f"{gone.documents} documents, {gone.chunks} chunks deleted from '{store.name}'"


def remove_for_good(catalogue: "Catalogue", name: str | None = None) -> str:
    """Purge the store, or all; a sentence that says what is gone."""
    from indexer import erasure

    done = erasure.purge(catalogue, None if name is None else catalogue.store(name))
    return f"{done.chunks} chunks purged, {done.segments} segments rewritten, {done.stores} stores removed"
