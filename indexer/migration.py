"""A store moved to another embedder's vectors, and back, while it is searched.

gather beside ─▶ verify on sampled questions ─▶ catch up with the ingests meanwhile ─▶ switch: one transaction

A search takes segments of the store's current series only, so it sees the old vectors or the new ones and
never both. The old ones stay until `discard`; `rollback` brings them up to date and goes back to them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import EmbedderMismatch, MigrationRefused, StoreBusy
from indexer.gathering import Progress, gather, missing, series_of
from indexer.generations import MIGRATING, advance, record, series_folder
from indexer.locks import held
from indexer.publishing import writer
from indexer.recall import Measured, measure
from indexer.records import Series, Store
from indexer.seams import Embedder
from indexer.segments import remove, stores_folder

_AGAIN_SECONDS = 0.5  # between two tries to have the store to itself


@dataclass(frozen=True, slots=True)
class Bar:
    """What the new vectors must show before they are searched."""

    queries: int = 100  # sampled from the store's chunks
    recall: float = 0.95  # of the exact ten nearest, at least


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did."""

    generation: int  # the first with the new vectors
    chunks: int  # embedded by this run
    measured: Measured | None  # None where nothing had to be measured again


def migrate(
    catalogue: Catalogue,
    name: str,
    embedder: Embedder,
    bar: Bar,
    tell: Progress,
    old: Embedder | None = None,
) -> Migrated:
    """Move the store to this embedder's vectors. Searches go on, and so do ingests until the switch.

    `old` is the current embedder, if it is at hand, to say how much of what it finds the new one finds.
    Raises `MigrationRefused` when a chunk does not fit the embedder or the vectors do not meet the bar;
    the store is then as it was, and what was embedded is kept for the next try.
    """
    store = catalogue.store(name)
    if store.embedder_digest == embedder.digest:
        raise MigrationRefused(f"store '{store.name}' is searched by {embedder.name} already")
    with _migrating(catalogue, store):
        series = series_of(catalogue, store, embedder)
        chunks = gather(catalogue, store, series, embedder, tell)
        measured = measure(catalogue, store, series, embedder, bar.queries, old)
        if min(measured.recall, measured.faithful) < bar.recall:
            raise MigrationRefused(
                f"of the ten nearest vectors by {embedder.name} {measured.recall:.3f} are found, and "
                f"{measured.faithful:.3f} of them are what the model says now; {bar.recall} is asked for: "
                "nothing was switched"
            )
        more, number = _switch(catalogue, store, series, lambda: embedder, tell, measured)
    return Migrated(number, chunks + more, measured)


def rollback(
    catalogue: Catalogue, name: str, reopen: Callable[[Series], Embedder], tell: Progress
) -> Migrated:
    """Search the vectors of before the last switch again, with what was ingested since.

    `reopen` opens the embedder of a series; it is called only when something was ingested since. Raises
    `MigrationRefused` when there are no such vectors.
    """
    store = catalogue.store(name)
    with _migrating(catalogue, store):
        series = _other(catalogue, store)
        if series is None or not _was_searched(catalogue, series):
            raise MigrationRefused(f"store '{store.name}' keeps no earlier vectors to go back to")
        chunks, number = _switch(catalogue, store, series, lambda: _reopened(series, reopen), tell, None)
    return Migrated(number, chunks, None)


def discard(catalogue: Catalogue, name: str) -> Series | None:
    """Drop the vectors that are not searched: the old ones, or those of a migration given up. Which."""
    store = catalogue.store(name)
    with _migrating(catalogue, store):
        series = _other(catalogue, store)
        if series is None:
            return None
        gone = [segment.id for segment in catalogue.segments(series)]
        folder = stores_folder(catalogue.data, store.id)
        with writing(catalogue.engine) as connection:
            connection.execute(sa.delete(schema.segments).where(schema.segments.c.series == series.id))
            connection.execute(sa.delete(schema.series).where(schema.series.c.id == series.id))
        for path in [folder / name for name in gone] + [folder / series_folder(series)]:
            remove(path)  # without a row they mean nothing, and are swept later
        return series


@contextmanager
def _migrating(catalogue: Catalogue, store: Store) -> Iterator[None]:
    busy = f"store '{store.name}' is being moved to another embedder, or purged: wait for that to end"
    with held(stores_folder(catalogue.data, store.id) / MIGRATING, busy):
        yield


def _switch(
    catalogue: Catalogue,
    store: Store,
    series: Series,
    embedder: Callable[[], Embedder],
    tell: Progress,
    measured: Measured | None,
) -> tuple[int, int]:
    """Search the series from now on, when it has every live chunk: chunks embedded, generation.

    While an ingest is at work, its chunks are gathered as they come and the switch waits for its end.
    """
    chunks = 0
    while True:
        with suppress(StoreBusy), writer(catalogue, store):
            if len(missing(catalogue, series)):
                chunks += gather(catalogue, store, series, embedder(), tell)
            return chunks, _publish(catalogue, store, series, measured)
        if len(missing(catalogue, series)):
            chunks += gather(catalogue, store, series, embedder(), tell)
        time.sleep(_AGAIN_SECONDS)


def _publish(catalogue: Catalogue, store: Store, series: Series, measured: Measured | None) -> int:
    stores, table = schema.stores, schema.series
    moved = replace(
        store,
        series=series.id,
        embedder=series.embedder,
        embedder_digest=series.embedder_digest,
        dimension=series.dimension,
    )
    with writing(catalogue.engine) as connection:
        number = advance(connection, store)
        mine = sa.update(stores).where(stores.c.id == store.id)
        connection.execute(
            mine.values(
                series=moved.series,
                embedder=moved.embedder,
                embedder_digest=moved.embedder_digest,
                dimension=moved.dimension,
            )
        )
        record(connection, moved, number, 0)
        left = sa.update(table).where(table.c.id == store.series, table.c.verified.is_(None))
        connection.execute(left.values(verified={}))  # a series that was searched can be gone back to
        if measured is not None:
            verified = {**measured._asdict(), "at": int(time.time())}
            connection.execute(sa.update(table).where(table.c.id == series.id).values(verified=verified))
    return number


def _other(catalogue: Catalogue, store: Store) -> Series | None:
    return next((each for each in catalogue.series(store.id) if each.id != store.series), None)


def _was_searched(catalogue: Catalogue, series: Series) -> bool:
    table = schema.series
    with catalogue.engine.connect() as connection:
        found = connection.execute(sa.select(table.c.verified).where(table.c.id == series.id)).scalar()
    return found is not None


def _reopened(series: Series, reopen: Callable[[Series], Embedder]) -> Embedder:
    embedder = reopen(series)
    if embedder.digest != series.embedder_digest:
        raise EmbedderMismatch(
            f"the earlier vectors are of {series.embedder} ({series.embedder_digest[:12]}), and the model of "
            f"that name is another one now ({embedder.digest[:12]}): put the old model back to go back to it"
        )
    return embedder
