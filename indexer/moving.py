"""A catalogue moved from its SQLite file to PostgreSQL, whole or not at all."""

import os
from pathlib import Path

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import FILE, URL, Catalogue
from indexer.database import writing
from indexer.errors import DatabaseRefused
from indexer.postgres import named, open_postgres
from indexer.upgrading import upgrade

_MANY = 1_000  # rows in one INSERT


def move(data: Path, url: str) -> dict[str, int]:
    """Copy every row to the database at `url` and make it the catalogue of `data`. Rows by table.

    Vectors and keyword indexes stay in the folder, which all machines must share. The old file stays as
    `catalogue.db.moved`. Raises `DatabaseRefused` when there is nothing to move or the target has stores.
    """
    if (data / URL).exists():
        raise DatabaseRefused(f"{data / URL} exists: the catalogue of this folder is on PostgreSQL already")
    source = Catalogue(data)
    target = open_postgres(url)
    try:
        upgrade(target, schema.REVISIONS, schema.VERSION)
        # The source's write lock is held until the target has committed: no row can come in between.
        with writing(source.engine) as old, writing(target) as new:
            if new.execute(sa.select(schema.stores.c.id).limit(1)).first() is not None:
                raise DatabaseRefused(
                    f"the database at {named(target)} holds stores already: name an empty one"
                )
            copied = {table.name: _copy(old, new, table) for table in schema.metadata.sorted_tables}
            _count_on(new)
        _point(data, url)
    finally:
        target.dispose()
        source.close()
    for suffix in ("", "-wal", "-shm"):
        file = data / f"{FILE}{suffix}"
        if file.exists():
            file.rename(data / f"{FILE}.moved{suffix}")
    return copied


def _copy(old: sa.Connection, new: sa.Connection, table: sa.Table) -> int:
    rows = 0
    found = old.execution_options(yield_per=_MANY).execute(sa.select(table)).mappings()
    for some in found.partitions(_MANY):
        new.execute(table.insert(), [dict(row) for row in some])
        rows += len(some)
    return rows


def _count_on(new: sa.Connection) -> None:
    """Numbers that the database gives go on after the copied ones."""
    documents = schema.documents
    highest = new.execute(sa.select(sa.func.max(documents.c.id))).scalar()
    if highest is not None:
        new.execute(sa.text("SELECT setval(pg_get_serial_sequence('documents', 'id'), :at)"), {"at": highest})


def _point(data: Path, url: str) -> None:
    temporary = data / f"{URL}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it may hold a password
    with os.fdopen(handle, "w") as file:
        file.write(url + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(data / URL)
