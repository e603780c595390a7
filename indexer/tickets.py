"""Attached files while they are read: wanted still, or detached, cancelled, attached anew meanwhile."""

import time

import sqlalchemy as sa

from indexer import schema
from indexer.deleting import forget
from indexer.records import Store
from indexer.sources import Ticket


def awaited(connection: sa.Connection, store: Store, ticket: Ticket) -> bool:
    """Whether the attached file is still to be read, as it was asked for when the reading began.

    If its row was purged meanwhile it is there again, as that of a deleted file.
    """
    files = schema.files
    query = sa.select(files.c.state, files.c.attempt).where(files.c.id == ticket.row)
    row = connection.execute(query).first()
    if row is not None:
        return bool(row.state == "in_progress" and row.attempt == ticket.attempt)
    gone = {
        "id": ticket.row,
        "store_id": store.id,
        "source": ticket.row,
        "filename": "",
        "sha256": "",
        "size_bytes": 0,
        "state": "deleted",
        "errors": [],
        "warnings": [],
        "created_at": int(time.time()),
    }
    connection.execute(files.insert(), gone)
    return False


def replaced(connection: sa.Connection, store: Store, file_id: str) -> list[int]:
    """Documents of the upload that this file takes the place of; that one leaves the store."""
    files = schema.files
    wanted = sa.select(files.c.replaces).where(files.c.id == file_id).scalar_subquery()
    mine = sa.and_(files.c.store_id == store.id, files.c.state != "deleted", files.c.id != file_id)
    rows = connection.execute(sa.select(files.c.id).where(mine, files.c.upload_id == wanted)).scalars()
    return forget(connection, store, list(rows))
