"""What one commit publishes: the next number, its segments, how much it finds."""

import time
from collections.abc import Mapping

import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.errors import EmbedderMismatch, UnknownStore
from indexer.records import FileDigest, Series, Store
from indexer.seams import Ids

MIGRATING = ".migrating"  # in a store's folder: the lock of who gathers another series


def advance(connection: sa.Connection, store: Store) -> int:
    """Take the next generation number of the store, within the caller's transaction.

    Raises `UnknownStore` when the store was deleted meanwhile, `EmbedderMismatch` when it was moved
    to another embedder's vectors.
    """
    stores = schema.stores
    query = (
        sa.update(stores)
        .where(stores.c.id == store.id, stores.c.deleted_at.is_(None))
        .values(generation=stores.c.generation + 1)
        .returning(stores.c.generation, stores.c.series, stores.c.embedder)
    )
    row = connection.execute(query).first()
    if row is None:
        raise UnknownStore(f"store '{store.name}' was deleted while it was written to")
    if row.series != store.series:
        raise EmbedderMismatch(f"store '{store.name}' was moved to {row.embedder} meanwhile: run this again")
    return int(row.generation)


def add_segment(
    connection: sa.Connection,
    series: Series,
    name: str,
    ids: Ids,
    digests: Mapping[str, FileDigest],
    number: int,
) -> None:
    """Name a written folder in the catalogue, as part of the series."""
    row = {
        "id": name,
        "store_id": series.store_id,
        "chunks": len(ids),
        "files": {path: [digest.sha256, digest.size_bytes] for path, digest in digests.items()},
        "born": number,
        "series": series.id,
        "first_chunk": int(ids.min()),
        "last_chunk": int(ids.max()),
    }
    connection.execute(schema.segments.insert(), row)


def record(connection: sa.Connection, store: Store, number: int, change: int) -> None:
    """Write down the generation, which finds `change` chunks more than the one before it.

    Counting them anew would read every row of the store for each publish.
    """
    generations = schema.generations
    before = sa.select(generations.c.chunks).where(
        generations.c.store_id == store.id, generations.c.number == number - 1
    )
    row = {
        "store_id": store.id,
        "number": number,
        "published_at": int(time.time()),
        "chunks": (connection.execute(before).scalar() or 0) + change,
        "embedder": store.embedder,
        "embedder_digest": store.embedder_digest,
        "dimension": store.dimension,
    }
    connection.execute(generations.insert(), row)


def describe(store: Store, series: Series, chunks: int) -> dict[str, object]:
    """What a segment's manifest says of itself, and how its index is to be built."""
    return {
        "embedder": series.embedder,
        "embedder_digest": series.embedder_digest,
        "chunks": chunks,
        "index": store.options.get("index", {}),
    }


def fresh_name(store: Store, series: Series) -> str:
    """The name of a segment to be written: the current series' are in the store's folder itself."""
    name = str(ULID())
    return name if series.id == store.series else f"{series_folder(series)}/{name}"


def series_folder(series: Series) -> str:
    """Where segments of a series are gathered beside the current one, in the store's folder."""
    return f"series-{series.id}"
