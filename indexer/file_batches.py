"""Files that were attached together: how far they are, and how to call the rest off."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.attachments import Wish, attach
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import UnknownBatch
from indexer.ownership import STATES, owned, seen
from indexer.records import Store


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A batch. Files that left the store since are not counted."""

    id: str  # vsfb_…
    store_id: str
    created_at: int  # unix seconds
    cancelled: bool
    files: Mapping[str, int]  # by state

    @property
    def state(self) -> str:
        """`failed` only when all files failed."""
        if self.files["in_progress"]:
            return "in_progress"
        if self.cancelled and self.files["cancelled"]:
            return "cancelled"
        total = sum(self.files.values())
        return "failed" if total and self.files["failed"] == total else "completed"


def begin(
    catalogue: Catalogue,
    tenant: str,
    store_id: str,
    wishes: Sequence[Wish],
    *,
    window: int,
    batch_id: str | None = None,
) -> FileBatch:
    """Attach the files as one batch, of a fresh id where none is given; all of them or none.

    Raises `UnknownStore`, `StoreNotYours`, `UnknownUpload`, `BacklogFull`.
    """
    batch_id = batch_id or f"vsfb_{ULID()}"
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        rows = attach(connection, store, tenant, wishes, window=window)
        row = {"id": batch_id, "store_id": store.id, "created_at": int(time.time())}
        connection.execute(schema.batches.insert(), row)
        members = [{"batch_id": batch_id, "file_id": file_id} for file_id in rows]
        connection.execute(schema.batch_files.insert(), members)
        return _found(connection, store, batch_id)


def find(catalogue: Catalogue, tenant: str, store_id: str, batch_id: str) -> FileBatch:
    """Raises `UnknownStore`, `UnknownBatch`."""
    with catalogue.engine.connect() as connection:
        return _found(connection, seen(connection, tenant, store_id), batch_id)


def cancel(catalogue: Catalogue, tenant: str, store_id: str, batch_id: str) -> FileBatch:
    """Files of the batch that were not read yet stay unread.

    Raises `UnknownStore`, `StoreNotYours`, `UnknownBatch`.
    """
    files, members, batches = schema.files, schema.batch_files, schema.batches
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        if _found(connection, store, batch_id).state == "in_progress":
            now = int(time.time())
            mine = sa.select(members.c.file_id).where(members.c.batch_id == batch_id)
            waiting = sa.and_(files.c.id.in_(mine), files.c.state == "in_progress")
            connection.execute(sa.update(files).where(waiting).values(state="cancelled", updated_at=now))
            connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(cancelled_at=now))
        return _found(connection, store, batch_id)


def _found(connection: sa.Connection, store: Store, batch_id: str) -> FileBatch:
    files, members, batches = schema.files, schema.batch_files, schema.batches
    query = sa.select(batches).where(batches.c.id == batch_id, batches.c.store_id == store.id)
    row = connection.execute(query).first()
    if row is None:
        raise UnknownBatch(f"this vector store has no file batch '{batch_id}'")
    counts = (
        sa.select(files.c.state, sa.func.count())
        .join(members, members.c.file_id == files.c.id)
        .where(members.c.batch_id == batch_id, files.c.state != "deleted")
        .group_by(files.c.state)
    )
    states = dict.fromkeys(STATES, 0)
    states.update({state: many for state, many in connection.execute(counts)})
    return FileBatch(row.id, row.store_id, row.created_at, row.cancelled_at is not None, states)
