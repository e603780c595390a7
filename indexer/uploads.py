"""Uploaded files: each upload is a file of its own; bytes are kept once, under their digest.

An upload is there when its row is committed, and its bytes were synced before that.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.deleting import leave
from indexer.durability import sync_names
from indexer.errors import UnknownUpload
from indexer.paging import Page, Window, page, within
from indexer.records import Store

FOLDER = "files"
UNFINISHED = ".tmp-"
UNFINISHED_SECONDS = 3600  # older ones belong to nobody


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file."""

    id: str  # file-…
    tenant: str
    sha256: str
    size_bytes: int
    filename: str
    purpose: str
    created_at: int  # unix seconds
    expires_at: int | None


class Incoming:
    """Bytes on their way into the data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def finish(self) -> str:
        """Sync what was written; its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Let go of the file; removed unless it was kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def receiving(catalogue: Catalogue) -> Iterator[Incoming]:
    """A place for the bytes of one upload; what `keep` does not take is gone at the end."""
    folder = catalogue.data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    incoming = Incoming(folder / f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        yield incoming
    finally:
        incoming.close()


def keep(
    catalogue: Catalogue,
    incoming: Incoming,
    *,
    tenant: str,
    filename: str,
    purpose: str,
    lives_seconds: int | None = None,
    upload_id: str | None = None,
) -> Upload:
    """Make what came in a file, of a fresh id where none is given; durable when this returns."""
    sha256 = incoming.finish()
    now = int(time.time())
    upload = Upload(
        id=upload_id or f"file-{ULID()}",
        tenant=tenant,
        sha256=sha256,
        size_bytes=incoming.size_bytes,
        filename=filename,
        purpose=purpose,
        created_at=now,
        expires_at=None if lives_seconds is None else now + lives_seconds,
    )
    target = content(catalogue, upload)
    with writing(catalogue.engine) as connection:  # whoever removes bytes holds the same lock
        if not target.exists():
            incoming.path.rename(target)
            sync_names(target.parent, catalogue.data)
        connection.execute(schema.uploads.insert(), {name: getattr(upload, name) for name in _COLUMNS})
    return upload


def content(catalogue: Catalogue, upload: Upload) -> Path:
    """Where the bytes are."""
    return catalogue.data / FOLDER / upload.sha256


def find(catalogue: Catalogue, tenant: str, upload_id: str) -> Upload:
    """The tenant's file. Raises `UnknownUpload`, also for another's and for one that expired."""
    with catalogue.engine.connect() as connection:
        return found(connection, tenant, upload_id)


def found(connection: sa.Connection, tenant: str, upload_id: str) -> Upload:
    """The same within the caller's transaction."""
    table = schema.uploads
    query = sa.select(table).where(table.c.id == upload_id, table.c.tenant == tenant, _alive())
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownUpload(f"no file '{upload_id}'")
    return Upload(**row)


def listed(catalogue: Catalogue, tenant: str, window: Window, purpose: str | None = None) -> Page[Upload]:
    """The tenant's files."""
    table = schema.uploads
    query = sa.select(table).where(table.c.tenant == tenant, _alive())
    if purpose is not None:
        query = query.where(table.c.purpose == purpose)
    with catalogue.engine.connect() as connection:
        rows = connection.execute(within(query, table.c.id, window)).mappings()
        return page([Upload(**row) for row in rows], window)


def remove(catalogue: Catalogue, tenant: str, upload_id: str) -> None:
    """No store finds the file any more and its bytes are gone. Raises `UnknownUpload`."""
    with writing(catalogue.engine) as connection:
        upload = found(connection, tenant, upload_id)
        _remove(connection, upload)
    _release(catalogue, upload.sha256)


def expire(catalogue: Catalogue) -> int:
    """Remove the files whose time is over; how many."""
    table = schema.uploads
    with writing(catalogue.engine) as connection:
        over = [Upload(**row) for row in connection.execute(sa.select(table).where(~_alive())).mappings()]
        for upload in over:
            _remove(connection, upload)
    for upload in over:
        _release(catalogue, upload.sha256)
    return len(over)


def sweep(catalogue: Catalogue) -> None:
    """Remove bytes that no upload names: what an interrupted writer left."""
    folder = catalogue.data / FOLDER
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(UNFINISHED):
            if time.time() - path.stat().st_mtime > UNFINISHED_SECONDS:
                path.unlink(missing_ok=True)
        else:
            _release(catalogue, path.name)


_COLUMNS = tuple(field.name for field in fields(Upload))


def _alive() -> sa.ColumnElement[bool]:
    ends = schema.uploads.c.expires_at
    return sa.or_(ends.is_(None), ends > int(time.time()))


def _remove(connection: sa.Connection, upload: Upload) -> None:
    files, stores = schema.files, schema.stores
    connection.execute(sa.delete(schema.uploads).where(schema.uploads.c.id == upload.id))
    attached = (
        sa.select(files.c.id.label("row"), *(stores.c[field.name] for field in fields(Store)))
        .join(stores, stores.c.id == files.c.store_id)
        .where(files.c.upload_id == upload.id, files.c.state != "deleted", stores.c.deleted_at.is_(None))
    )
    for row in connection.execute(attached).mappings().all():
        store = Store(**{name: value for name, value in row.items() if name != "row"})
        leave(connection, store, [row["row"]])


def _release(catalogue: Catalogue, sha256: str) -> None:
    """Remove the bytes if no upload has them any more."""
    table = schema.uploads
    with writing(catalogue.engine) as connection:
        used = sa.select(sa.exists().where(table.c.sha256 == sha256))
        if not connection.execute(used).scalar_one():
            (catalogue.data / FOLDER / sha256).unlink(missing_ok=True)
