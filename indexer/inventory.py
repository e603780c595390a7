"""What a store is made of: its files with their state, its series, segments and twins."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.records import Store


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file of a store as the last run left it."""

    id: str  # file-…
    source: str
    filename: str
    state: str  # in_progress | completed | failed | cancelled
    chunks: int  # that can be found
    size_bytes: int
    last_error: Mapping[str, str] | None  # code, message
    warnings: tuple[str, ...]
    updated_at: int  # unix seconds
    same_as: str | None  # id of the file that has the documents of this content


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """The vectors of one embedder."""

    id: str
    embedder: str
    embedder_digest: str
    dimension: int
    current: bool  # searched; another one is being gathered, or is what a rollback goes back to
    segments: int
    chunks: int  # in them, dead ones included
    verified: Mapping[str, object] | None  # what was measured before it was switched to


@dataclass(frozen=True, slots=True)
class Inventory:
    """A store at one moment."""

    states: Mapping[str, int]  # files by state
    documents: int
    chunks: int  # that can be found
    dead: int  # rows that wait for a purge
    twins: int  # chunks that say nearly what an earlier one says
    series: tuple[SeriesStatus, ...]


def take(catalogue: Catalogue, store: Store) -> Inventory:
    """Count what the store holds. Reads every row of it."""
    files, documents, chunks = schema.files, schema.documents, schema.chunks
    mine = chunks.c.store_id == store.id
    counted = sa.func.count()
    with catalogue.engine.connect() as connection:

        def count(table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> int:
            return int(
                connection.execute(sa.select(counted).select_from(table).where(*conditions)).scalar_one()
            )

        by_state = sa.select(files.c.state, counted).where(
            files.c.store_id == store.id, files.c.state != "deleted"
        )
        return Inventory(
            states={row[0]: row[1] for row in connection.execute(by_state.group_by(files.c.state))},
            documents=count(documents.join(files), files.c.store_id == store.id, documents.c.died.is_(None)),
            chunks=count(chunks, mine, chunks.c.died.is_(None)),
            dead=count(chunks, mine, chunks.c.died.is_not(None)),
            twins=count(chunks, mine, chunks.c.died.is_(None), chunks.c.twin_of.is_not(None)),
            series=_series(connection, store),
        )


def files(catalogue: Catalogue, store: Store) -> list[FileStatus]:
    """All files of the store by path, those that failed included."""
    table = schema.files
    query = (
        sa.select(table)
        .where(table.c.store_id == store.id, table.c.state != "deleted")
        .order_by(table.c.source)
    )
    with catalogue.engine.connect() as connection:
        return [
            FileStatus(
                id=row.id,
                source=row.source,
                filename=row.filename,
                state=row.state,
                chunks=row.chunks,
                size_bytes=row.size_bytes,
                last_error=row.last_error,
                warnings=tuple(row.warnings),
                updated_at=row.updated_at,
                same_as=row.same_as,
            )
            for row in connection.execute(query)
        ]


def _series(connection: sa.Connection, store: Store) -> tuple[SeriesStatus, ...]:
    series, segments = schema.series, schema.segments
    query = (
        sa.select(series, sa.func.count(segments.c.id), sa.func.coalesce(sa.func.sum(segments.c.chunks), 0))
        .select_from(series.outerjoin(segments, segments.c.series == series.c.id))
        .where(series.c.store_id == store.id)
        .group_by(series.c.id)
        .order_by(series.c.created_at, series.c.id)
    )
    return tuple(
        SeriesStatus(
            id=row.id,
            embedder=row.embedder,
            embedder_digest=row.embedder_digest,
            dimension=row.dimension,
            current=row.id == store.series,
            segments=row[-2],
            chunks=row[-1],
            verified=row.verified,
        )
        for row in connection.execute(query)
    )
