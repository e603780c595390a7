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
from indexer.errors import StoreBusy
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
    """The only writer of the store on this machine; leftovers of a killed one are removed.

    Raises `StoreBusy` when another process holds the place. The lock ends with its process.
    """
    folder = stores_folder(catalogue.data, store.id)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".writer", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy(
                f"another ingest is writing to store '{store.name}': wait for it to end"
            ) from error
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
            add_segment(connection, store, name, len(ids), digests, number)
        known: dict[str, str] = {}
        remaining = iter(ids.tolist())
        for item in prepared:
            file_id = _file_row(connection, store, item.file, known)
            _bury(connection, file_id, item.key, number)
            _insert(connection, store, file_id, item, number, remaining)
        for end in finished:
            _finish(connection, _file_row(connection, store, end.file, known), end, number)
        if changes:
            count_live(connection, store, number)
    return number


def advance(connection: sa.Connection, store: Store) -> int:
    """Take the next generation number of the store, within the caller's transaction."""
    stores = schema.stores
    query = (
        sa.update(stores)
        .where(stores.c.id == store.id)
        .values(generation=stores.c.generation + 1)
        .returning(stores.c.generation)
    )
    return int(connection.execute(query).scalar_one())


def add_segment(
    connection: sa.Connection,
    store: Store,
    name: str,
    chunks: int,
    digests: Mapping[str, FileDigest],
    number: int,
) -> None:
    """Name a written folder in the catalogue."""
    files = {path: [digest.sha256, digest.size_bytes] for path, digest in digests.items()}
    row = {"id": name, "store_id": store.id, "chunks": chunks, "files": files, "born": number}
    connection.execute(schema.segments.insert(), row)


def count_live(connection: sa.Connection, store: Store, number: int) -> None:
    """Record the generation with the number of chunks it can find."""
    chunks = schema.chunks
    live = sa.select(sa.func.count()).where(chunks.c.store_id == store.id, chunks.c.died.is_(None))
    row = {
        "store_id": store.id,
        "number": number,
        "published_at": int(time.time()),
        "chunks": connection.execute(live).scalar_one(),
    }
    connection.execute(schema.generations.insert(), row)


def _reserve(catalogue: Catalogue, many: int) -> Ids:
    """Ids no chunk ever had: files with them are written before the rows are."""
    if not many:
        return np.empty(0, dtype=np.int64)
    with writing(catalogue.engine) as connection:
        end = connection.execute(
            sa.text(
                "INSERT INTO counters(name, next) VALUES ('chunk', :many + 1) "
                "ON CONFLICT(name) DO UPDATE SET next = next + :many RETURNING next"
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


def _bury(connection: sa.Connection, file_id: str, key: str, number: int) -> None:
    """Tombstones for a document and its chunks: this generation no longer finds them."""
    documents, chunks = schema.documents, schema.chunks
    live = sa.select(documents.c.id).where(
        documents.c.file_id == file_id, documents.c.key == key, documents.c.died.is_(None)
    )
    for row in list(connection.execute(live).scalars()):
        connection.execute(
            sa.update(chunks).where(chunks.c.document_id == row, chunks.c.died.is_(None)).values(died=number)
        )
        connection.execute(sa.update(documents).where(documents.c.id == row).values(died=number))


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


def _finish(connection: sa.Connection, file_id: str, end: Finished, number: int) -> None:
    files, documents = schema.files, schema.documents
    connection.execute(
        sa.update(files)
        .where(files.c.id == file_id)
        .values(state=end.state, errors=list(end.errors), warnings=list(end.warnings))
    )
    if end.keys is None:
        return
    live = sa.select(documents.c.key).where(documents.c.file_id == file_id, documents.c.died.is_(None))
    for key in set(connection.execute(live).scalars()) - end.keys:
        _bury(connection, file_id, key, number)
