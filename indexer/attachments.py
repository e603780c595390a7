"""Uploaded files in stores: attached, told of, described, detached. What reads them is in `backlog`.

A file waits in the state `in_progress` from the moment the attaching transaction commits.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from ulid import ULID

from indexer import schema, uploads
from indexer.catalogue import Catalogue
from indexer.chunking import Chunking
from indexer.database import writing
from indexer.deleting import leave
from indexer.errors import BacklogFull, UnknownFile
from indexer.generations import advance, record
from indexer.ownership import owned, seen
from indexer.paging import Page, Window, page, within
from indexer.records import Attribute, Store
from indexer.sources import attached

MOST_WAITING = 100_000  # files of all stores


@dataclass(frozen=True, slots=True)
class Wish:
    """A file to attach, and how. None: as it is, or as usual for a file that is not there yet."""

    upload_id: str
    attributes: Mapping[str, Attribute] | None = None
    chunking: Chunking | None = None
    replaces: str | None = None  # an upload that leaves in the generation in which this one appears


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a store."""

    row: str  # id in the table files
    id: str  # of the upload; of the row for a file that was read from a path
    store_id: str
    filename: str
    state: str  # in_progress | completed | failed | cancelled
    last_error: Mapping[str, str] | None  # code, message
    size_bytes: int
    created_at: int  # unix seconds
    attributes: Mapping[str, Attribute]
    chunking: Mapping[str, Any] | None  # as `Chunking.as_options`, and "window": of the embedder, tokens
    chunks: int  # that can be found
    pages: int  # 0 where the format has none


def attach(
    connection: sa.Connection,
    store: Store,
    tenant: str,
    wishes: Sequence[Wish],
    *,
    window: int,
    most_waiting: int = MOST_WAITING,
) -> list[str]:
    """Have these files read, within the caller's transaction; their rows' ids, each once.

    A file that is there already gets the attributes; it is read again when it is to be cut otherwise, or
    could not be read before. `window` is the embedder's, tokens. Raises `UnknownUpload`, `BacklogFull`.
    """
    files = schema.files
    waiting = sa.select(sa.func.count()).where(files.c.state == "in_progress", files.c.upload_id.is_not(None))
    if connection.execute(waiting).scalar_one() + len(wishes) > most_waiting:
        raise BacklogFull(f"{most_waiting} files wait to be read already: try again later")
    rows: dict[str, None] = {}
    described = False
    for wish in wishes:
        upload = uploads.found(connection, tenant, wish.upload_id)
        if wish.replaces is not None:
            _row(connection, store, wish.replaces)
        mine = sa.and_(files.c.store_id == store.id, files.c.source == attached(upload.id))
        known = connection.execute(sa.select(files).where(mine)).mappings().first()
        chunking = {**(wish.chunking or Chunking()).as_options(), "window": window}
        if known is None:
            rows[_insert(connection, store, upload, wish, chunking)] = None
            continue
        rows[known["id"]] = None
        values: dict[str, Any] = {}
        if wish.attributes is not None and dict(wish.attributes) != known["attributes"]:
            values["attributes"] = dict(wish.attributes)
            described = described or known["chunks"] > 0
        cut_otherwise = wish.chunking is not None and chunking != known["chunking"]
        if cut_otherwise or known["state"] in ("failed", "cancelled"):
            values |= _waiting() | {"attempt": known["attempt"] + 1, "replaces": wish.replaces}
            if wish.chunking is not None:
                values["chunking"] = chunking
        if values:
            connection.execute(sa.update(files).where(files.c.id == known["id"]).values(values))
    if described:
        _describe(connection, store)
    stores = schema.stores
    active = sa.update(stores).where(stores.c.id == store.id).values(last_active_at=int(time.time()))
    connection.execute(active)
    return list(rows)


def find(catalogue: Catalogue, tenant: str, store_id: str, file_id: str) -> Attachment:
    """A file of a store by the id of its upload. Raises `UnknownStore`, `UnknownFile`."""
    with catalogue.engine.connect() as connection:
        return _row(connection, seen(connection, tenant, store_id), file_id)


def listed(
    catalogue: Catalogue,
    tenant: str,
    store_id: str,
    window: Window,
    *,
    state: str | None = None,
    batch_id: str | None = None,
) -> Page[Attachment]:
    """The files of a store, or of a batch of it, in the order of their ids. Raises `UnknownStore`."""
    files, members = schema.files, schema.batch_files
    with catalogue.engine.connect() as connection:
        store = seen(connection, tenant, store_id)
        query = _ATTACHMENTS.where(files.c.store_id == store.id, files.c.state != "deleted")
        if state is not None:
            query = query.where(files.c.state == state)
        if batch_id is not None:
            query = query.where(
                files.c.id.in_(sa.select(members.c.file_id).where(members.c.batch_id == batch_id))
            )
        rows = connection.execute(within(query, PUBLIC, window)).mappings()
        return page([_attachment(row) for row in rows], window)


def describe(
    catalogue: Catalogue, tenant: str, store_id: str, file_id: str, attributes: Mapping[str, Attribute]
) -> Attachment:
    """Other attributes for a file, found by the next search; nothing is embedded again.

    Raises `UnknownStore`, `StoreNotYours`, `UnknownFile`.
    """
    files = schema.files
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        known = _row(connection, store, file_id)
        change = sa.update(files).where(files.c.id == known.row).values(attributes=dict(attributes))
        connection.execute(change)
        _describe(connection, store)
        return _row(connection, store, file_id)


def detach(catalogue: Catalogue, tenant: str, store_id: str, file_id: str) -> None:
    """No search of the store finds the file any more; the upload stays.

    Raises `UnknownStore`, `StoreNotYours`, `UnknownFile`.
    """
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        leave(connection, store, [_row(connection, store, file_id).row])


def texts(catalogue: Catalogue, tenant: str, store_id: str, file_id: str) -> list[dict[str, Any]]:
    """The extracted text of a file: sections with "page", "char_start" and, of a row, its "external_id".

    Raises `UnknownStore`, `UnknownFile`.
    """
    documents = schema.documents
    with catalogue.engine.connect() as connection:
        known = _row(connection, seen(connection, tenant, store_id), file_id)
        query = sa.select(documents).where(documents.c.file_id == known.row, documents.c.died.is_(None))
        rows = connection.execute(query.order_by(documents.c.id)).mappings().all()
    return [section for row in rows for section in _sections(row)]


PUBLIC = sa.func.coalesce(schema.files.c.upload_id, schema.files.c.id)
_ATTACHMENTS = sa.select(schema.files, PUBLIC.label("public"))


def _row(connection: sa.Connection, store: Store, file_id: str) -> Attachment:
    files = schema.files
    mine = sa.and_(files.c.store_id == store.id, files.c.state != "deleted")
    row = connection.execute(_ATTACHMENTS.where(mine, PUBLIC.in_([file_id]))).mappings().first()
    if row is None:
        raise UnknownFile(f"this vector store has no file '{file_id}'")
    return _attachment(row)


def _attachment(row: sa.RowMapping) -> Attachment:
    return Attachment(
        row=row["id"],
        id=row["public"],
        store_id=row["store_id"],
        filename=row["filename"],
        state=row["state"],
        last_error=row["last_error"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        attributes=row["attributes"],
        chunking=row["chunking"],
        chunks=row["chunks"],
        pages=row["pages"],
    )


def _insert(
    connection: sa.Connection, store: Store, upload: uploads.Upload, wish: Wish, chunking: dict[str, Any]
) -> str:
    row = f"file-{ULID()}"
    values = {
        "id": row,
        "store_id": store.id,
        "source": attached(upload.id),
        "filename": upload.filename,
        "sha256": upload.sha256,
        "size_bytes": upload.size_bytes,
        "created_at": int(time.time()),
        "upload_id": upload.id,
        "attributes": dict(wish.attributes or {}),
        "chunking": chunking,
        "replaces": wish.replaces,
        "attempt": 1,
    }
    connection.execute(schema.files.insert(), {**values, **_waiting()})
    return row


def _waiting() -> dict[str, Any]:
    return {
        "state": "in_progress",
        "errors": [],
        "warnings": [],
        "last_error": sa.null(),
        "pages": 0,
        "updated_at": int(time.time()),
    }


def _describe(connection: sa.Connection, store: Store) -> None:
    """Publish that attributes changed: whoever holds columns of them takes them in anew."""
    number = advance(connection, store)
    record(connection, store, number, 0)
    stores = schema.stores
    connection.execute(sa.update(stores).where(stores.c.id == store.id).values(described=number))


def _sections(row: sa.RowMapping) -> Iterator[dict[str, Any]]:
    start = 0
    for number, length in row["pages"]:
        if length:
            text = row["text"][start : start + length]
            place = {"page": number, "char_start": start, "external_id": row["external_id"]}
            yield {"text": text, **place}
        start += length
