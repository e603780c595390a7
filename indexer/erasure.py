"""What was deleted leaves the disk: vectors, keywords, rows, free pages, log and copies of the catalogue."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import FILE, Catalogue
from indexer.compaction import buried_in, merge
from indexer.database import shrink, writing
from indexer.generations import MIGRATING, series_folder
from indexer.locks import held
from indexer.publishing import writer
from indexer.records import Store
from indexer.segments import remove, stores_folder, sweep
from indexer.tombstones import retire
from indexer.upgrading import backups

_ROWS = 10_000  # deleted in one transaction: the log stays small


class Purged(NamedTuple):
    """What left the disk."""

    chunks: int
    segments: int  # written again without them
    stores: int


def purge(catalogue: Catalogue, store: Store | None = None) -> Purged:
    """Remove everything deleted of the store, or of all stores, and the deleted stores themselves.

    Killed at any moment, the next purge completes it. Raises `StoreBusy` when another process writes to a
    store, moves it to another embedder, or reads the catalogue for so long that its log cannot be emptied.
    """
    chunks = segments = 0
    for each in [store] if store is not None else catalogue.stores():
        rows, written = _purge_store(catalogue, each)
        chunks, segments = chunks + rows, segments + written
    gone = catalogue.deleted_stores()
    for each in gone:
        chunks += _drop_store(catalogue, each)
    _drop_folders(catalogue)
    with writing(catalogue.engine) as connection:  # results name files, and what their owners say of them
        connection.execute(sa.delete(schema.attempts).where(schema.attempts.c.done_at.is_not(None)))
    for copy in backups(catalogue.data / FILE):
        copy.unlink()
    shrink(catalogue.engine)
    return Purged(chunks, segments, len(gone))


def wanted(catalogue: Catalogue) -> list[str]:
    """Keys of chunks deleted by request, for those who wrote down what they said."""
    retired = schema.retired
    with catalogue.engine.connect() as connection:
        return list(connection.execute(sa.select(retired.c.key).where(retired.c.wanted)).scalars())


def forget(catalogue: Catalogue, before: int) -> None:
    """Drop the wanted keys that were written down before that moment, in unix seconds: all let go of them.

    A request that was at work when a chunk was deleted may write it down later, so leave time for it.
    """
    retired = schema.retired
    with writing(catalogue.engine) as connection:
        connection.execute(sa.delete(retired).where(retired.c.wanted, retired.c.retired_at < before))


@contextmanager
def _alone(catalogue: Catalogue, store: Store) -> Iterator[None]:
    """Neither an ingest nor a migration is at work; nothing they left lies about."""
    folder = stores_folder(catalogue.data, store.id)
    busy = (
        f"store '{store.name}' is being moved to another embedder: wait for `fewshot stores migrate` to end"
    )
    with writer(catalogue, store), held(folder / MIGRATING, busy):
        for series in catalogue.series(store.id):
            named = (segment.id.partition("/") for segment in catalogue.segments(series))
            sweep(folder / series_folder(series), frozenset(name for _, _, name in named))
        yield


def _purge_store(catalogue: Catalogue, store: Store) -> tuple[int, int]:
    written = 0
    with _alone(catalogue, store):
        dead = catalogue.dead(store.id)
        for series in catalogue.series(store.id):
            for segment in catalogue.segments(series):
                if len(buried_in(catalogue, series, segment, dead)):
                    merge(catalogue, store, [segment], series)
                    written += 1
        for at in range(0, len(dead), _ROWS):  # those that were in no segment, or in two series
            with writing(catalogue.engine) as connection:
                retire(connection, dead[at : at + _ROWS].tolist())
        with writing(catalogue.engine) as connection:
            _drop_empty(connection, store)
    return len(dead), written


def _drop_folders(catalogue: Catalogue) -> None:
    """Folders of stores that no row names: what an interrupted purge left."""
    folders = [path for path in (catalogue.data / "stores").glob("*") if path.is_dir()]
    with catalogue.engine.connect() as connection:  # after the listing: a new store's row comes first
        known = set(connection.execute(sa.select(schema.stores.c.id)).scalars())
    for folder in folders:
        if folder.name not in known:
            remove(folder)


def _drop_empty(connection: sa.Connection, store: Store) -> None:
    """Dead documents that never had a chunk, and deleted files without documents."""
    documents, files, chunks = schema.documents, schema.files, schema.chunks
    mine = sa.select(files.c.id).where(files.c.store_id == store.id)
    dead = sa.and_(
        documents.c.died.is_not(None),
        documents.c.file_id.in_(mine),
        ~sa.exists().where(chunks.c.document_id == documents.c.id),
    )
    connection.execute(sa.delete(documents).where(dead))
    empty = ~sa.exists().where(documents.c.file_id == files.c.id)
    connection.execute(
        sa.delete(files).where(files.c.store_id == store.id, files.c.state == "deleted", empty)
    )


def _drop_store(catalogue: Catalogue, store: Store) -> int:
    """Folder, then rows, then the store's own row: what is left of an interrupted one is found again."""
    chunks, documents, files = schema.chunks, schema.documents, schema.files
    dropped = 0
    with _alone(catalogue, store):
        with writing(catalogue.engine) as connection:
            connection.execute(sa.delete(schema.segments).where(schema.segments.c.store_id == store.id))
        for folder in stores_folder(catalogue.data, store.id).iterdir():
            if folder.is_dir():
                remove(folder)
        some = sa.select(chunks.c.id).where(chunks.c.store_id == store.id).limit(_ROWS)
        mine = sa.select(files.c.id).where(files.c.store_id == store.id)
        few = sa.select(documents.c.id).where(documents.c.file_id.in_(mine)).limit(_ROWS)
        more = True
        while more:
            with writing(catalogue.engine) as connection:
                ids = list(connection.execute(some).scalars())
                retire(connection, ids)
                dropped += len(ids)
                more = bool(ids)
        more = True
        while more:
            with writing(catalogue.engine) as connection:
                more = connection.execute(sa.delete(documents).where(documents.c.id.in_(few))).rowcount > 0
        with writing(catalogue.engine) as connection:
            for table in (schema.likenesses, files, schema.generations, schema.series):
                connection.execute(sa.delete(table).where(table.c.store_id == store.id))
            retired = sa.update(schema.retired).where(schema.retired.c.store_id == store.id)
            connection.execute(retired.values(wanted=True))
            connection.execute(sa.delete(schema.stores).where(schema.stores.c.id == store.id))
    return dropped
