"""`fewshot stores`: what there is. What changes a store has files of its own."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexer.commands.cancelling import cancel
from indexer.commands.deleting import delete, purge
from indexer.commands.indexing import index
from indexer.commands.migrating import discard, migrate, rollback
from indexer.commands.options import data_option, opened_catalogue, tells

if TYPE_CHECKING:
    from indexer.inventory import FileStatus, Inventory
    from indexer.records import Store


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON list for machines.")
@data_option
@click.pass_context
@tells
def stores(context: click.Context, as_json: bool, data: Path) -> None:
    """List the stores with what they hold; the commands below look into one, or change it."""
    if context.invoked_subcommand is not None:
        return
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


@stores.command()
@click.argument("name")
@click.option("--files", "with_files", is_flag=True, help="Every file with its state and last error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
@data_option
@tells
def show(name: str, with_files: bool, as_json: bool, data: Path) -> None:
    """Show what the store NAME is made of, which files failed, and why."""
    from indexer import inventory
    from indexer.segments import describe_index

    with opened_catalogue(data) as catalogue:
        store = catalogue.store(name)
        taken = inventory.take(catalogue, store)
        files = inventory.files(catalogue, store)
        segments = catalogue.generation(store.id).segments
        indexes = [describe_index(catalogue.data, segment) for segment in segments]
    if as_json:
        listed = {"files": [asdict(file) for file in files]} if with_files else {}
        said = {**asdict(store), **asdict(taken), "indexes": indexes, **listed}
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    _tell(store, taken)
    for each in indexes:
        click.echo(f"  index {each}")
    for file in files:
        if with_files or file.state != "completed":
            _tell_file(file)


def _tell(store: "Store", taken: "Inventory") -> None:
    states = ", ".join(f"{many} {state}" for state, many in sorted(taken.states.items())) or "none"
    click.echo(f"{store.name} ({store.id}), generation {store.generation}")
    click.echo(f"files: {states}")
    click.echo(f"{taken.documents} documents, {taken.chunks} chunks, {taken.twins} of them near-duplicates")
    if taken.dead:
        click.echo(
            f"{taken.dead} deleted or replaced chunks wait for a purge: fewshot stores purge {store.name}"
        )
    for series in taken.series:
        searched = "searched" if series.current else "not searched"
        click.echo(
            f"embedder {series.embedder} ({series.embedder_digest[:12]}), dimension {series.dimension}: "
            f"{series.chunks} chunks in {series.segments} segments, {searched}"
        )


def _tell_file(file: "FileStatus") -> None:
    when = datetime.fromtimestamp(file.updated_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    said = f": {file.last_error['code']}: {file.last_error['message']}" if file.last_error else ""
    copy = f", the same as {file.same_as}" if file.same_as else ""
    click.echo(f"  {file.state}  {file.source}  {file.id}, {file.chunks} chunks{copy}, {when}{said}")


for command in (cancel, index, delete, purge, migrate, rollback, discard):
    stores.add_command(command)
