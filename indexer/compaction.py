"""Fewer, larger segments: merges that leave dead chunks behind.

Segments are grouped into tiers by size, each tier eight times the one below; eight of a tier
become one. A chunk is rewritten once per tier, so adding n chunks costs O(n log n), never a
rewrite of the whole per batch.
"""

import math
import shutil
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.passages import indexed
from indexer.publishing import add_segment, advance, record
from indexer.records import Segment, Store
from indexer.seams import Ids, Vectors
from indexer.segments import open_segment, stores_folder, write_segment

FACTOR = 8
_SMALLEST = 512  # chunks; everything below is one tier
_MANY = 500  # ids in one IN (…)


def merge_when_many(catalogue: Catalogue, store: Store) -> None:
    """Merge tiers that are full. For the store's writer alone."""
    while True:
        tiers: dict[int, list[Segment]] = {}
        for segment in catalogue.generation(store.id).segments:
            tiers.setdefault(_tier(segment.chunks), []).append(segment)
        full = [tier for tier in tiers.values() if len(tier) >= FACTOR]
        if not full:
            return
        merge(catalogue, store, full[0])


def merge(catalogue: Catalogue, store: Store, segments: Sequence[Segment]) -> int:
    """One segment of the live chunks of several, published as a generation, whose number is returned.

    Dead chunks and documents of these segments leave the catalogue for good. Readers that hold an
    older generation keep its open files; the folders are removed.
    """
    ids, vectors, gone = _sorted_out(catalogue, store, segments)
    name, digests = str(ULID()), {}
    folder = stores_folder(catalogue.data, store.id)
    if len(ids):
        about = {"embedder": store.embedder, "embedder_digest": store.embedder_digest, "chunks": len(ids)}
        digests = write_segment(folder, name, ids, vectors, _texts(catalogue, ids), about)
    merged = [segment.id for segment in segments]
    with writing(catalogue.engine) as connection:
        number = advance(connection, store)
        connection.execute(sa.delete(schema.segments).where(schema.segments.c.id.in_(merged)))
        if digests:
            add_segment(connection, store, name, ids, digests, number)
        _purge(connection, gone)
        record(connection, store, number, 0)
    for old in merged:
        shutil.rmtree(folder / old, ignore_errors=True)  # a row-less folder: swept later if this fails
    return number


def _tier(chunks: int) -> int:
    return max(0, math.ceil(math.log(max(1, chunks) / _SMALLEST, FACTOR) - 1e-9))


def _sorted_out(catalogue: Catalogue, store: Store, segments: Sequence[Segment]) -> tuple[Ids, Vectors, Ids]:
    """Live ids with their vectors, by id, and the dead ids."""
    dead = np.array(sorted(catalogue.generation(store.id).dead), dtype=np.int64)
    opened = [open_segment(catalogue.data, segment, store.dimension).vectors for segment in segments]
    ids = np.concatenate([index.ids for index in opened])
    rows = np.concatenate([index.rows() for index in opened])
    live = ~np.isin(ids, dead)
    order = np.argsort(ids[live], kind="stable")
    return ids[live][order], rows[live][order], ids[~live]


def _texts(catalogue: Catalogue, ids: Ids) -> list[str]:
    chunks, documents = schema.chunks, schema.documents
    query = sa.select(chunks.c.id, chunks.c.text, documents.c.title).join(documents)
    found: dict[int, str] = {}
    with catalogue.engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            rows = connection.execute(query.where(chunks.c.id.in_(ids[at : at + _MANY].tolist())))
            found.update((row.id, indexed(row.title, row.text)) for row in rows)
    return [found[row] for row in ids.tolist()]


def _purge(connection: sa.Connection, gone: Ids) -> None:
    """Delete chunks, and the dead documents that are left without any."""
    chunks, documents = schema.chunks, schema.documents
    for at in range(0, len(gone), _MANY):
        some = chunks.c.id.in_(gone[at : at + _MANY].tolist())
        owners = list(connection.execute(sa.select(chunks.c.document_id).where(some).distinct()).scalars())
        connection.execute(sa.delete(chunks).where(some))
        connection.execute(
            sa.delete(documents).where(
                documents.c.id.in_(owners),
                documents.c.died.is_not(None),
                ~sa.exists().where(chunks.c.document_id == documents.c.id),
            )
        )
