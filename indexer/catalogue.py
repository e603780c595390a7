"""What is in the stores: reads of the catalogue. Writes are in `publishing`."""

import difflib
import time
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.database import open_database, writing
from indexer.errors import EmbedderMismatch, UnknownStore
from indexer.postgres import open_postgres
from indexer.records import FileDigest, Generation, Segment, Series, Store, StoreCounts
from indexer.seams import Embedder, Ids
from indexer.upgrading import upgrade

FILE = "catalogue.db"
URL = "catalogue.url"
_STORE = tuple(field.name for field in fields(Store))


class Catalogue:
    """The database of one data folder. Every method is one transaction."""

    def __init__(self, data: Path) -> None:
        """Open the catalogue of `data`, upgraded if it is of an older release, created if there is none.

        It is the file `<data>/catalogue.db`, or the database that `<data>/catalogue.url` names: whoever
        opens the folder, on whatever machine, opens the same. Raises `DatabaseRefused`.
        """
        self.data = data
        url = data / URL
        self.engine = open_postgres(url.read_text().strip()) if url.exists() else open_database(data / FILE)
        try:
            upgrade(self.engine, schema.REVISIONS, schema.VERSION)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def schema_version(self) -> int:
        """Revision of the tables; all that are open have this release's."""
        return schema.VERSION

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    def stores(self) -> list[Store]:
        """All stores by name."""
        with self.engine.connect() as connection:
            live = schema.stores.c.deleted_at.is_(None)
            rows = connection.execute(sa.select(schema.stores).where(live).order_by(schema.stores.c.name))
            return [_store(row) for row in rows.mappings()]

    def store(self, name: str) -> Store:
        """The store of that name or id; raises `UnknownStore` naming near ones."""
        table = schema.stores
        with self.engine.connect() as connection:
            live = table.c.deleted_at.is_(None)
            query = sa.select(table).where(live, sa.or_(table.c.id == name, table.c.name == name))
            row = connection.execute(query).mappings().first()
            if row is not None:
                return _store(row)
            names = list(connection.execute(sa.select(table.c.name).where(live)).scalars())
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `fewshot stores`"
        raise UnknownStore(f"no store '{name}'; {hint}")

    def claim(self, name: str, embedder: Embedder) -> Store:
        """The store of that name, created for this embedder if there is none.

        Raises `EmbedderMismatch` when the store holds another embedder's vectors.
        """
        try:
            store = self.store(name)
        except UnknownStore:
            with writing(self.engine) as connection:
                known = sa.exists().where(schema.stores.c.name == name)
                if not connection.execute(sa.select(known)).scalar_one():
                    _create(connection, name, embedder)
            store = self.store(name)
        check_embedder(store, embedder)
        return store

    def counts(self, store: Store) -> StoreCounts:
        """Live files, documents and chunks."""
        files, documents, chunks = schema.files, schema.documents, schema.chunks
        mine = files.c.store_id == store.id
        live = sa.and_(mine, documents.c.file_id == files.c.id, documents.c.died.is_(None))
        with self.engine.connect() as connection:
            return StoreCounts(
                files=_count(connection, files, mine, files.c.state.not_in(["failed", "deleted"])),
                failed=_count(connection, files, mine, files.c.state == "failed"),
                documents=connection.execute(
                    sa.select(sa.func.count()).select_from(documents).join(files).where(live)
                ).scalar_one(),
                chunks=_count(connection, chunks, chunks.c.store_id == store.id, chunks.c.died.is_(None)),
            )

    def generation(
        self, store_id: str, held: int | None = None, segments_held: Collection[str] = ()
    ) -> Generation:
        """The newest published generation.

        Whoever holds generation `held` with those segments is told only of the chunks that died since,
        unless a segment left: only then can chunks that it knows as dead be gone.
        """
        stores, segments, chunks = schema.stores, schema.segments, schema.chunks
        with self.engine.connect() as connection:  # one transaction: the three reads agree
            store = connection.execute(sa.select(stores).where(stores.c.id == store_id)).one()
            query = sa.select(segments).where(
                segments.c.store_id == store_id, segments.c.series == store.series
            )
            rows = connection.execute(query.order_by(segments.c.id)).mappings()
            named = tuple(map(_segment, rows))
            since = held if {segment.id for segment in named}.issuperset(segments_held) else None
            died = chunks.c.died.is_not(None) if since is None else chunks.c.died > since
            dead = connection.execute(sa.select(chunks.c.id).where(chunks.c.store_id == store_id, died))
            return Generation(
                store_id,
                store.generation,
                named,
                frozenset(dead.scalars()),
                since=since,
                series=store.series,
                embedder=store.embedder,
                embedder_digest=store.embedder_digest,
                dimension=store.dimension,
                described=store.described,
            )

    def series(self, store_id: str) -> list[Series]:
        """All series of the store, oldest first; which one is searched is in `Store.series`."""
        table = schema.series
        query = sa.select(table).where(table.c.store_id == store_id).order_by(table.c.created_at, table.c.id)
        with self.engine.connect() as connection:
            return [
                Series(row.id, row.store_id, row.embedder, row.embedder_digest, row.dimension)
                for row in connection.execute(query)
            ]

    def segments(self, series: Series) -> list[Segment]:
        """The segments of a series, published or still being gathered."""
        table = schema.segments
        query = sa.select(table).where(table.c.store_id == series.store_id, table.c.series == series.id)
        with self.engine.connect() as connection:
            return [_segment(row) for row in connection.execute(query.order_by(table.c.id)).mappings()]

    def dead(self, store_id: str) -> Ids:
        """Ids of all chunks of the store that no search finds and whose rows are still there, sorted."""
        chunks = schema.chunks
        query = sa.select(chunks.c.id).where(chunks.c.store_id == store_id, chunks.c.died.is_not(None))
        with self.engine.connect() as connection:
            return np.sort(np.fromiter(connection.execute(query).scalars(), dtype=np.int64))

    def deleted_stores(self) -> list[Store]:
        """Stores whose rows and folders wait for a purge."""
        table = schema.stores
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(table).where(table.c.deleted_at.is_not(None)))
            return [_store(row) for row in rows.mappings()]


def check_embedder(store: Store, embedder: Embedder) -> None:
    """Raise `EmbedderMismatch` unless the store's vectors are this embedder's."""
    if store.embedder_digest != embedder.digest:
        raise EmbedderMismatch(
            f"store '{store.name}' was built with {store.embedder} ({store.embedder_digest[:12]}), not "
            f"{embedder.name} ({embedder.digest[:12]}): use --embedder {store.embedder}, or another store"
        )


def _create(connection: sa.Connection, name: str, embedder: Embedder) -> None:
    store_id, series, now = f"vs_{ULID()}", str(ULID()), int(time.time())
    row = {"id": store_id, "name": name, "generation": 0, "series": series, "options": {}}
    vectors = {
        "embedder": embedder.name,
        "embedder_digest": embedder.digest,
        "dimension": embedder.dimension,
        "created_at": now,
    }
    connection.execute(schema.stores.insert(), {**row, **vectors})
    connection.execute(schema.series.insert(), {"id": series, "store_id": store_id, **vectors})


def _store(row: sa.RowMapping) -> Store:
    return Store(**{name: row[name] for name in _STORE})


def _segment(row: sa.RowMapping) -> Segment:
    files = {name: FileDigest(*pair) for name, pair in row["files"].items()}
    return Segment(row["id"], row["store_id"], row["chunks"], files, row["first_chunk"], row["last_chunk"])


def _count(connection: sa.Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*conditions)
    return connection.execute(query).scalar_one()
