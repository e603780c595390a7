"""Writes of the catalogue. One commit publishes one generation, or nothing."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import EmbedderMismatch, StoreBusy, UnknownStore
from indexer.postgres import sole
from indexer.records import Chunk, Document, FileDigest, Store
from indexer.seams import Ids, Vectors
from indexer.segments import stores_folder, sweep, write_segment


@dataclass(frozen=True, slots=True)
class File:
    """One source file as it was read."""

    source: str  # absolute path, the identity
    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to publish. Chunks may be none: the document then has nothing to find."""

    file: File
    key: str
    sha256: str
    document: Document
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a file: what was wrong with it, and which document keys it now has."""

    file: File
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    keys: frozenset[str] | None  # None: the file failed as a whole, its old documents stay

    @property
    def state(self) -> str:
        """`failed` when anything in it could not be read: the next run tries again."""
        return "failed" if self.errors else "completed"


@contextmanager
def writer(catalogue: Catalogue, store: Store) -> Iterator[None]:
    """The only writer of the store; leftovers of a killed one are removed.

    Raises `StoreBusy` when another process holds the place, on this machine or, with a catalogue on
    PostgreSQL, on any. The lock ends with its process.
    """
    busy = StoreBusy(f"another ingest is writing to store '{store.name}': wait for it to end")
    if catalogue.engine.dialect.name == "postgresql":
        with sole(catalogue.engine, store.id) as alone:
            if not alone:
                raise busy
            with _writer_here(catalogue, store, busy):
                yield
    else:
        with _writer_here(catalogue, store, busy):
            yield


@contextmanager
def _writer_here(catalogue: Catalogue, store: Store, busy: StoreBusy) -> Iterator[None]:
    folder = stores_folder(catalogue.data, store.id)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".writer", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        sweep(folder, _named(catalogue, store))
        yield
    finally:
        os.close(handle)


def publish(
    catalogue: Catalogue,
    store: Store,
    prepared: Sequence[Prepared],
    vectors: Vectors,
    texts: Sequence[str],
    finished: Sequence[Finished],
) -> int:
    """Make the documents findable, replacing older ones of the same file and key. The generation.

    `vectors` and `texts` (what the keyword leg indexes) have one row per chunk, in order.
    """
    ids = _reserve(catalogue, len(texts))
    name, digests = "", {}
    if len(ids):
        name = str(ULID())
        about = {"embedder": store.embedder, "embedder_digest": store.embedder_digest, "chunks": len(ids)}
        folder = stores_folder(catalogue.data, store.id)
        digests = write_segment(folder, name, ids, vectors, texts, about)
    with writing(catalogue.engine) as connection:
        changes = prepared or any(end.keys is not None for end in finished)
        number = advance(connection, store) if changes else store.generation
        if digests:
            add_segment(connection, store, name, ids, digests, number)
        known: dict[str, str] = {}
        remaining = iter(ids.tolist())
        buried = 0
        for item in prepared:
            file_id = _file_row(connection, store, item.file, known)
            buried += _bury(connection, file_id, item.key, number)
            _insert(connection, store, file_id, item, number, remaining)
        for end in finished:
            buried += _finish(connection, _file_row(connection, store, end.file, known), end, number)
        if changes:
            record(connection, store, number, len(ids) - buried)
    return number


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
    store: Store,
    name: str,
    ids: Ids,
    digests: Mapping[str, FileDigest],
    number: int,
) -> None:
    """Name a written folder in the catalogue, as part of the store's current series."""
    row = {
        "id": name,
        "store_id": store.id,
        "chunks": len(ids),
        "files": {path: [digest.sha256, digest.size_bytes] for path, digest in digests.items()},
        "born": number,
        "series": store.series,
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


def _reserve(catalogue: Catalogue, many: int) -> Ids:
    """Ids no chunk ever had: files with them are written before the rows are."""
    if not many:
        return np.empty(0, dtype=np.int64)
    with writing(catalogue.engine) as connection:
        end = connection.execute(
            sa.text(
                "INSERT INTO counters(name, next) VALUES ('chunk', :many + 1) "
                "ON CONFLICT(name) DO UPDATE SET next = counters.next + :many RETURNING next"
            ),
            {"many": many},
        ).scalar_one()
    return np.arange(end - many, end, dtype=np.int64)


def _named(catalogue: Catalogue, store: Store) -> frozenset[str]:
    segments = schema.segments
    query = sa.select(segments.c.id).where(segments.c.store_id == store.id)
    with catalogue.engine.connect() as connection:
        return frozenset(connection.execute(query).scalars())


def _file_row(connection: sa.Connection, store: Store, file: File, known: dict[str, str]) -> str:
    if file.source in known:
        return known[file.source]
    files = schema.files
    mine = sa.and_(files.c.store_id == store.id, files.c.source == file.source)
    file_id = connection.execute(sa.select(files.c.id).where(mine)).scalar()
    now = {
        "sha256": file.sha256,
        "size_bytes": file.size_bytes,
        "state": "in_progress",
        "errors": [],
        "warnings": [],
    }
    if file_id is None:
        file_id = f"file-{ULID()}"
        row = {"id": file_id, "store_id": store.id, "source": file.source, "created_at": int(time.time())}
        connection.execute(files.insert(), {**row, **now, "filename": file.filename})
    else:
        connection.execute(sa.update(files).where(mine).values(**now, filename=file.filename))
    known[file.source] = file_id
    return str(file_id)


def _bury(connection: sa.Connection, file_id: str, key: str, number: int) -> int:
    """Tombstones for a document and its chunks: this generation no longer finds them. How many chunks."""
    documents, chunks = schema.documents, schema.chunks
    live = sa.select(documents.c.id).where(
        documents.c.file_id == file_id, documents.c.key == key, documents.c.died.is_(None)
    )
    buried = 0
    for row in list(connection.execute(live).scalars()):
        buried += connection.execute(
            sa.update(chunks).where(chunks.c.document_id == row, chunks.c.died.is_(None)).values(died=number)
        ).rowcount
        connection.execute(sa.update(documents).where(documents.c.id == row).values(died=number))
    return buried


def _insert(
    connection: sa.Connection, store: Store, file_id: str, item: Prepared, number: int, ids: Iterator[int]
) -> None:
    document = item.document
    row = {
        "file_id": file_id,
        "key": item.key,
        "sha256": item.sha256,
        "external_id": document.external_id,
        "kind": document.kind,
        "title": document.title,
        "text": document.text,
        "pages": [[section.page, len(section.text)] for section in document.sections],
        "attributes": dict(document.attributes),
        "born": number,
    }
    document_id = connection.execute(
        schema.documents.insert().returning(schema.documents.c.id), row
    ).scalar_one()
    rows = [
        {
            "id": next(ids),
            "key": f"ch_{ULID()}",
            "store_id": store.id,
            "document_id": document_id,
            "text": chunk.text,
            "char_start": chunk.char_start,
            "char_end": chunk.char_end,
            "page_start": chunk.page_start,
            "page_end": chunk.page_end,
            "headings": list(chunk.headings),
            "lead": chunk.lead,
            "parent_start": None if chunk.parent is None else chunk.parent[0],
            "parent_end": None if chunk.parent is None else chunk.parent[1],
            "born": number,
        }
        for chunk in item.chunks
    ]
    if rows:
        connection.execute(schema.chunks.insert(), rows)


def _finish(connection: sa.Connection, file_id: str, end: Finished, number: int) -> int:
    """Write down how the file ended; documents it no longer has are buried. How many chunks."""
    files, documents = schema.files, schema.documents
    connection.execute(
        sa.update(files)
        .where(files.c.id == file_id)
        .values(state=end.state, errors=list(end.errors), warnings=list(end.warnings))
    )
    if end.keys is None:
        return 0
    live = sa.select(documents.c.key).where(documents.c.file_id == file_id, documents.c.died.is_(None))
    gone = set(connection.execute(live).scalars()) - end.keys
    return sum(_bury(connection, file_id, key, number) for key in gone)
