"""Fewer, larger segments: merges that leave dead chunks behind.

Segments are grouped into tiers by size, each tier eight times the one below; eight of a tier
become one. A chunk is rewritten once per tier, so adding n chunks costs O(n log n), never a
rewrite of the whole per batch. A segment of which much is dead is rewritten alone.
"""

import math
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.generations import add_segment, advance, describe, fresh_name, record
from indexer.passages import indexed
from indexer.records import Segment, Series, Store
from indexer.seams import Ids, Vectors
from indexer.segments import open_segment, remove, stores_folder, write_segment
from indexer.tombstones import retire

FACTOR = 8
DEAD_SHARE = 4  # a segment is rewritten when a quarter of it is dead
_SMALLEST = 512  # chunks; everything below is one tier
_MANY = 500  # ids in one IN (…)


def merge_when_many(catalogue: Catalogue, store: Store, series: Series | None = None) -> None:
    """Merge tiers that are full and rewrite what is mostly dead. For the one that writes the series.

    The series is the current one if none is given.
    """
    series = series or store.current
    while True:
        tiers: dict[int, list[Segment]] = {}
        segments = catalogue.segments(series)
        for segment in segments:
            tiers.setdefault(_tier(segment.chunks), []).append(segment)
        full = [tier for tier in tiers.values() if len(tier) >= FACTOR]
        if not full:
            break
        merge(catalogue, store, full[0], series)
    dead = catalogue.dead(store.id)
    for segment in segments:
        within = _between(dead, segment)
        if DEAD_SHARE * len(within) < segment.chunks:
            continue
        if DEAD_SHARE * len(buried_in(catalogue, series, segment, within)) >= segment.chunks:
            merge(catalogue, store, [segment], series)


def merge(
    catalogue: Catalogue, store: Store, segments: Sequence[Segment], series: Series | None = None
) -> int:
    """One segment of the live chunks of several, published as a generation, whose number is returned.

    The segments are all of one series, the current one if none is given; another one's publish nothing.
    Dead chunks and documents of these segments leave the catalogue for good unless another series still
    has them. Readers that hold an older generation keep its open files; the folders are removed.
    """
    series = series or store.current
    ids, vectors, gone = _sorted_out(catalogue, series, segments)
    name, digests = fresh_name(store, series), {}
    folder = stores_folder(catalogue.data, store.id)
    if len(ids):
        texts = indexed_texts(catalogue, ids)
        place = folder / name
        digests = write_segment(
            place.parent, place.name, ids, vectors, texts, describe(store, series, len(ids))
        )
    merged = [segment.id for segment in segments]
    with writing(catalogue.engine) as connection:
        searched = series.id == store.series
        number = advance(connection, store) if searched else store.generation
        connection.execute(sa.delete(schema.segments).where(schema.segments.c.id.in_(merged)))
        if digests:
            add_segment(connection, series, name, ids, digests, number)
        if _alone(connection, store):
            retire(connection, gone.tolist())
        if searched:
            record(connection, store, number, 0)
    for old in merged:
        remove(folder / old)  # a row-less folder: swept later if this fails
    return number


def buried_in(catalogue: Catalogue, series: Series, segment: Segment, dead: Ids) -> Ids:
    """Those of the dead that the segment holds."""
    if not len(within := _between(dead, segment)):
        return within
    held = open_segment(catalogue.data, segment, series.dimension).vectors.ids
    return np.asarray(within[np.isin(within, held)])


def indexed_texts(catalogue: Catalogue, ids: Ids) -> list[str]:
    """What the keyword leg sees of these chunks, in their order."""
    chunks, documents = schema.chunks, schema.documents
    said = (chunks.c.text, documents.c.title, chunks.c.headings, chunks.c.lead)
    query = sa.select(chunks.c.id, *said).join(documents)
    found: dict[int, str] = {}
    with catalogue.engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            rows = connection.execute(query.where(chunks.c.id.in_(ids[at : at + _MANY].tolist())))
            found.update((row.id, indexed(row.title, row.text, row.headings, row.lead)) for row in rows)
    return [found[row] for row in ids.tolist()]


def _tier(chunks: int) -> int:
    return max(0, math.ceil(math.log(max(1, chunks) / _SMALLEST, FACTOR) - 1e-9))


def _between(dead: Ids, segment: Segment) -> Ids:
    """Those of the sorted ids that are in the segment's range."""
    if segment.first_chunk is None or segment.last_chunk is None:
        return dead
    start, stop = np.searchsorted(dead, [segment.first_chunk, segment.last_chunk + 1])
    return dead[start:stop]


def _alone(connection: sa.Connection, store: Store) -> bool:
    series = schema.series
    query = sa.select(sa.func.count()).select_from(series).where(series.c.store_id == store.id)
    return bool(connection.execute(query).scalar_one() == 1)


def _sorted_out(
    catalogue: Catalogue, series: Series, segments: Sequence[Segment]
) -> tuple[Ids, Vectors, Ids]:
    """Live ids with their vectors, by id, and the dead ids."""
    dead = catalogue.dead(series.store_id)
    # Thorough: what is rewritten here gets a new digest, which must not vouch for a damaged row.
    opened = [
        open_segment(catalogue.data, segment, series.dimension, thorough=True).vectors for segment in segments
    ]
    ids = np.concatenate([index.ids for index in opened])
    rows = np.concatenate([index.rows() for index in opened])
    live = ~np.isin(ids, dead)
    order = np.argsort(ids[live], kind="stable")
    return ids[live][order], rows[live][order], ids[~live]
