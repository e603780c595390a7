"""Files that left the folders they were ingested from leave the store."""

import os
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.deleting import Deleted, delete_files
from indexer.errors import SourceMissing
from indexer.records import Store
from indexer.sources import find, printable


def leave(catalogue: Catalogue, store: Store, paths: Sequence[Path]) -> Deleted | None:
    """Delete the store's files that were under these folders and are not any more; None if there are none.

    Raises `SourceMissing` when a path does not exist, or a folder is empty that the store has files of: that
    looks like a disk that is not there, and not like a wish.
    """
    present = {printable(source.path) for source in find(paths)}
    folders = [printable(Path(os.path.abspath(path))).rstrip("/") + "/" for path in paths if path.is_dir()]
    files = schema.files
    query = sa.select(files.c.id, files.c.source).where(
        files.c.store_id == store.id, files.c.state != "deleted"
    )
    gone: list[str] = []
    with catalogue.engine.connect() as connection:
        known = [(row.id, row.source) for row in connection.execute(query)]
    for folder in folders:
        mine = [(file_id, source) for file_id, source in known if source.startswith(folder)]
        if mine and not any(source.startswith(folder) for source in present):
            raise SourceMissing(
                f"{folder} holds no files any more, and store '{store.name}' has {len(mine)} of it: is it "
                f"mounted? If they are to go: fewshot stores delete {store.name}"
            )
        gone += [file_id for file_id, source in mine if source not in present]
    return delete_files(catalogue, store, list(dict.fromkeys(gone))) if gone else None
