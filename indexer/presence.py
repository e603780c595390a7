"""Whether what an answer was made from is still there: for those who wrote its chunks down."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue

_MANY = 500  # keys in one IN (…)
State = Literal["there", "removed", "gone"]


class Presence(NamedTuple):
    """What became of a chunk.

    there: searches find it. removed: none does, it was deleted or replaced, but its text waits for a purge.
    gone: its text has left the disk.
    """

    state: State
    file_id: str | None = None
    filename: str | None = None


def chunk_presence(catalogue: Catalogue, keys: Sequence[str]) -> dict[str, Presence]:
    """What became of each chunk."""
    chunks, documents, files, stores = schema.chunks, schema.documents, schema.files, schema.stores
    query = (
        sa.select(
            chunks.c.key,
            sa.and_(chunks.c.died.is_(None), stores.c.deleted_at.is_(None)).label("there"),
            sa.func.coalesce(files.c.upload_id, files.c.id).label("file_id"),
            files.c.filename,
        )
        .join(documents, documents.c.id == chunks.c.document_id)
        .join(files, files.c.id == documents.c.file_id)
        .join(stores, stores.c.id == chunks.c.store_id)
    )
    found = {key: Presence("gone") for key in keys}
    with catalogue.engine.connect() as connection:
        for at in range(0, len(keys), _MANY):
            for row in connection.execute(query.where(chunks.c.key.in_(keys[at : at + _MANY]))):
                state: State = "there" if row.there else "removed"
                found[row.key] = Presence(state, row.file_id, row.filename)
    return found


def store_generations(catalogue: Catalogue, store_ids: Sequence[str]) -> dict[str, int]:
    """The newest generation of each store that is still there."""
    stores = schema.stores
    query = sa.select(stores.c.id, stores.c.generation).where(
        stores.c.id.in_(store_ids), stores.c.deleted_at.is_(None)
    )
    with catalogue.engine.connect() as connection:
        return {row.id: row.generation for row in connection.execute(query)}
