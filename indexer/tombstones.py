"""Chunks and documents that a generation no longer finds. Their rows stay until a compaction."""

import time
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from indexer import schema
from indexer.twins import pass_on

_MANY = 500  # ids in one IN (…)


def live_documents(connection: sa.Connection, file_id: str, keys: Collection[str] | None = None) -> list[int]:
    """Ids of the file's documents that are found; of these keys only, if given."""
    documents = schema.documents
    query = sa.select(documents.c.id).where(documents.c.file_id == file_id, documents.c.died.is_(None))
    if keys is not None:
        query = query.where(documents.c.key.in_(list(keys)))
    return list(connection.execute(query).scalars())


def bury(connection: sa.Connection, documents: Sequence[int], number: int) -> int:
    """Tombstones for these documents and their chunks, from generation `number` on. How many chunks.

    Touches the rows of what is buried and nothing else, so its cost does not grow with the store.
    """
    table, chunks, files = schema.documents, schema.chunks, schema.files
    buried = 0
    for at in range(0, len(documents), _MANY):
        some = documents[at : at + _MANY]
        live = sa.and_(chunks.c.document_id.in_(some), chunks.c.died.is_(None))
        counts = connection.execute(
            sa.select(table.c.file_id, sa.func.count())
            .select_from(chunks)
            .join(table, table.c.id == chunks.c.document_id)
            .where(live)
            .group_by(table.c.file_id)
        ).all()
        connection.execute(sa.update(chunks).where(live).values(died=number))
        connection.execute(sa.update(table).where(table.c.id.in_(some)).values(died=number))
        pass_on(connection, some)
        for file_id, many in counts:
            fewer = files.c.chunks - many
            connection.execute(sa.update(files).where(files.c.id == file_id).values(chunks=fewer))
            buried += many
    return buried


def retire(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Delete the rows of dead chunks, and of documents and deleted files that are left without any.

    Only the keys of the chunks stay, for those who wrote down what the chunks said.
    """
    chunks, documents, files, retired = schema.chunks, schema.documents, schema.files, schema.retired
    for at in range(0, len(ids), _MANY):
        some = chunks.c.id.in_(ids[at : at + _MANY])
        owners = list(connection.execute(sa.select(chunks.c.document_id).where(some).distinct()).scalars())
        known = sa.exists().where(retired.c.key == chunks.c.key)
        keep(connection, sa.and_(some, ~known), wanted=False)
        likenesses = schema.likenesses
        connection.execute(sa.delete(likenesses).where(likenesses.c.chunk_id.in_(ids[at : at + _MANY])))
        connection.execute(sa.delete(chunks).where(some))
        dead = sa.and_(
            documents.c.id.in_(owners),
            documents.c.died.is_not(None),
            ~sa.exists().where(chunks.c.document_id == documents.c.id),
        )
        left = list(connection.execute(sa.select(documents.c.file_id).where(dead).distinct()).scalars())
        connection.execute(sa.delete(documents).where(dead))
        empty = ~sa.exists().where(documents.c.file_id == files.c.id)
        connection.execute(sa.delete(files).where(files.c.id.in_(left), files.c.state == "deleted", empty))


def keep(connection: sa.Connection, which: sa.ColumnElement[bool], *, wanted: bool) -> None:
    """Write down the keys of these chunks."""
    chunks, documents, retired = schema.chunks, schema.documents, schema.retired
    rows = (
        sa.select(
            chunks.c.key,
            chunks.c.store_id,
            documents.c.file_id,
            sa.literal(wanted),
            sa.literal(int(time.time())),
        )
        .select_from(chunks)
        .join(documents, documents.c.id == chunks.c.document_id)
        .where(which)
    )
    columns = ["key", "store_id", "file_id", "wanted", "retired_at"]
    connection.execute(retired.insert().from_select(columns, rows))
