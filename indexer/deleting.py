"""Deletes that are over when the call returns: no later search finds what was deleted.

What is left on disk is dead and waits for `erasure.purge`. A writer may be at work meanwhile: a
delete is one short transaction. A file that is being read at that moment comes back with its next batch.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.duplicates import hand_over
from indexer.errors import UnknownDocument, UnknownFile, UnknownStore
from indexer.generations import advance, record
from indexer.records import Store
from indexer.tombstones import bury, keep, live_documents

_MANY = 500  # ids in one IN (…)


class Deleted(NamedTuple):
    """What can no longer be found."""

    generation: int
    files: int
    documents: int
    chunks: int


def find_file(catalogue: Catalogue, store: Store, name: str) -> str:
    """The id of a file of the store given by id, path or name.

    Raises `UnknownFile` when there is none, or when several have that name.
    """
    files = schema.files
    mine = sa.and_(files.c.store_id == store.id, files.c.state != "deleted")
    with catalogue.engine.connect() as connection:
        exact = sa.or_(files.c.id == name, files.c.source == name, files.c.upload_id == name)
        found = connection.execute(sa.select(files.c.id).where(mine, exact)).scalar()
        if found is not None:
            return str(found)
        named = sa.select(files.c.id, files.c.source).where(mine, files.c.filename == name)
        rows = connection.execute(named.limit(4)).all()
    if not rows:
        raise UnknownFile(
            f"store '{store.name}' has no file '{name}'; see `fewshot stores show {store.name} --files`"
        )
    if len(rows) > 1:
        paths = ", ".join(row.source for row in rows[:3])
        raise UnknownFile(f"several files of store '{store.name}' are called '{name}': say which, {paths}")
    return str(rows[0].id)


def delete_file(catalogue: Catalogue, store: Store, file_id: str) -> Deleted:
    """No search finds the file any more; its id is gone. Raises `UnknownFile`, `UnknownStore`.

    What another path of the store repeats byte for byte stays: it is found as that path's.
    """
    return delete_files(catalogue, store, [file_id])


def delete_files(catalogue: Catalogue, store: Store, file_ids: Sequence[str]) -> Deleted:
    """The same for several files, in one transaction."""
    with writing(catalogue.engine) as connection:
        return leave(connection, store, file_ids)


def leave(connection: sa.Connection, store: Store, file_ids: Sequence[str]) -> Deleted:
    """The same within the caller's transaction."""
    number = advance(connection, store)
    documents = forget(connection, store, file_ids)
    chunks = bury(connection, documents, number)
    record(connection, store, number, -chunks)
    return Deleted(number, len(file_ids), len(documents), chunks)


def forget(connection: sa.Connection, store: Store, file_ids: Sequence[str]) -> list[int]:
    """Ids of the documents to bury, of files that are the store's no more. Raises `UnknownFile`."""
    files = schema.files
    documents: list[int] = []
    for file_id in file_ids:
        mine = sa.and_(files.c.id == file_id, files.c.store_id == store.id, files.c.state != "deleted")
        # The path is free again: a file that is read from there later is another one.
        gone = (
            sa.update(files)
            .where(mine)
            .values(state="deleted", source=files.c.id, same_as=sa.null(), updated_at=int(time.time()))
        )
        if not connection.execute(gone).rowcount:
            raise UnknownFile(f"store '{store.name}' has no file '{file_id}'")
        if hand_over(connection, file_id) is None:  # no other path has the same content
            documents += live_documents(connection, file_id)
    _want(connection, store, file_ids)
    return documents


def delete_document(catalogue: Catalogue, store: Store, document: str, file_id: str | None = None) -> Deleted:
    """No search finds the document: a row of a JSONL file by its id, or the one of a chunk `ch_…`.

    Raises `UnknownDocument` when there is none, or when several files have a row of that id.
    """
    documents, files, chunks = schema.documents, schema.files, schema.chunks
    query = sa.select(documents.c.id, documents.c.file_id).where(documents.c.died.is_(None))
    if document.startswith("ch_"):
        of_chunk = sa.select(chunks.c.document_id).where(chunks.c.key == document)
        query = query.where(documents.c.id == of_chunk.scalar_subquery())
    else:
        query = query.where(documents.c.external_id == document)
    if file_id is not None:
        query = query.where(documents.c.file_id == file_id)
    with writing(catalogue.engine) as connection:
        found = {row.file_id: row.id for row in connection.execute(query)}
        mine = files.c.id.in_(list(found)), files.c.store_id == store.id
        rows = connection.execute(sa.select(files.c.id, files.c.source).where(*mine)).all()
        if not rows:
            raise UnknownDocument(f"store '{store.name}' has no document '{document}'")
        if len(rows) > 1:
            paths = ", ".join(row.source for row in rows[:3])
            raise UnknownDocument(f"several files have a document '{document}': say which, {paths}")
        number = advance(connection, store)
        gone = found[rows[0].id]
        keep(connection, _unknown(chunks.c.document_id == gone), wanted=True)
        buried = bury(connection, [gone], number)
        record(connection, store, number, -buried)
    return Deleted(number, 0, 1, buried)


def delete_store(catalogue: Catalogue, store: Store) -> None:
    """No search finds the store, and its name is free. Raises `UnknownStore`."""
    stores = schema.stores
    gone = (
        sa.update(stores)
        .where(stores.c.id == store.id, stores.c.deleted_at.is_(None))
        .values(deleted_at=int(time.time()), name=stores.c.id)
    )
    with writing(catalogue.engine) as connection:
        if not connection.execute(gone).rowcount:
            raise UnknownStore(f"store '{store.name}' is deleted already")


def _want(connection: sa.Connection, store: Store, file_ids: Sequence[str]) -> None:
    """All that these files ever said is to be forgotten, older versions included."""
    retired, chunks, documents = schema.retired, schema.chunks, schema.documents
    for at in range(0, len(file_ids), _MANY):
        some = file_ids[at : at + _MANY]
        known = sa.and_(retired.c.store_id == store.id, retired.c.file_id.in_(some))
        connection.execute(sa.update(retired).where(known).values(wanted=True))
        mine = chunks.c.document_id.in_(sa.select(documents.c.id).where(documents.c.file_id.in_(some)))
        keep(connection, _unknown(mine), wanted=True)


def _unknown(which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    known = sa.exists().where(schema.retired.c.key == schema.chunks.c.key)
    return sa.and_(which, ~known)
