"""Writes of the catalogue. One commit publishes one generation, or nothing."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.duplicates import hand_over, repeat
from indexer.errors import Unreadable, UnsupportedFormat
from indexer.generations import add_segment, advance, describe, record, series_folder
from indexer.locks import REQUEST, WRITER, held
from indexer.postgres import sole
from indexer.records import Chunk, Document, Store
from indexer.seams import Ids, Vectors
from indexer.segments import stores_folder, sweep, write_segment
from indexer.sources import Ticket
from indexer.tickets import awaited, replaced
from indexer.tombstones import bury, live_documents
from indexer.twins import mark


@dataclass(frozen=True, slots=True)
class File:
    """One source file as it was read."""

    source: str  # the identity: an absolute path, or which upload it is
    filename: str
    sha256: str
    size_bytes: int
    ticket: Ticket | None = None  # of an uploaded file: its row is there already


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
    code: str = "invalid_file"  # of the last error, if there is one; see `error_code`
    repeats: str | None = None  # source of the file that has the documents of these very bytes

    @property
    def state(self) -> str:
        """`failed` when anything in it could not be read: the next run tries again."""
        return "failed" if self.errors else "completed"


def error_code(error: Exception) -> str:
    """What kind of trouble it is, in the words of OpenAI's vector store files."""
    match error:
        case UnsupportedFormat():
            return "unsupported_file"
        case Unreadable():
            return "invalid_file"
        case _:
            return "server_error"


@contextmanager
def writer(catalogue: Catalogue, store: Store) -> Iterator[None]:
    """The only writer of the store; leftovers of a killed one are removed.

    Raises `StoreBusy` when another process holds the place, on this machine or, with a catalogue on
    PostgreSQL, on any. The lock ends with its process.
    """
    busy = f"another ingest is writing to store '{store.name}': wait for it to end"
    with ExitStack() as stack:
        if catalogue.engine.dialect.name == "postgresql":
            stack.enter_context(sole(catalogue.engine, store.id, busy))
        folder = stores_folder(catalogue.data, store.id)
        stack.enter_context(held(folder / WRITER, busy))
        (folder / REQUEST).unlink(missing_ok=True)  # it meant an earlier run
        sweep(folder, _named(catalogue, store))
        yield


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
        folder = stores_folder(catalogue.data, store.id)
        digests = write_segment(folder, name, ids, vectors, texts, describe(store, store.current, len(ids)))
    with writing(catalogue.engine) as connection:
        changes = prepared or any(end.keys is not None for end in finished)
        number = advance(connection, store) if changes else store.generation
        if digests:
            add_segment(connection, store.current, name, ids, digests, number)
        known: dict[str, str] = {}
        remaining = iter(ids.tolist())
        buried = 0
        unwanted: list[int] = []
        for item in prepared:
            if item.file.ticket is not None and not awaited(connection, store, item.file.ticket):
                # Its vectors are in the segment already, so rows are needed: dead ones.
                row = item.file.ticket.row
                unwanted.append(_insert(connection, store, row, item, number, remaining))
                continue
            file_id = _file_row(connection, store, item.file, known)
            buried += bury(connection, live_documents(connection, file_id, {item.key}), number)
            _insert(connection, store, file_id, item, number, remaining)
        buried += bury(connection, unwanted, number)
        for end in finished:
            if end.file.ticket is not None and not awaited(connection, store, end.file.ticket):
                continue
            buried += _finish(connection, store, _file_row(connection, store, end.file, known), end, number)
        spoken = (chunk.text for item in prepared for chunk in item.chunks)
        mark(connection, store, dict(zip(ids.tolist(), spoken, strict=True)))
        if changes:
            record(connection, store, number, len(ids) - buried)
    return number


def cancel(catalogue: Catalogue, store: Store) -> None:
    """Mark the files whose reading did not come to its end. For the store's writer alone."""
    files = schema.files
    begun = sa.and_(files.c.store_id == store.id, files.c.state == "in_progress", files.c.upload_id.is_(None))
    with writing(catalogue.engine) as connection:
        connection.execute(
            sa.update(files).where(begun).values(state="cancelled", updated_at=int(time.time()))
        )


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
    """Folders that stay: segments, and those of series that are gathered by another process."""
    segments = schema.segments
    query = sa.select(segments.c.id).where(segments.c.store_id == store.id)
    with catalogue.engine.connect() as connection:
        names = connection.execute(query).scalars()
        mine = {name.partition("/")[0] for name in names}
    return frozenset(mine | {series_folder(series) for series in catalogue.series(store.id)})


def _file_row(connection: sa.Connection, store: Store, file: File, known: dict[str, str]) -> str:
    if file.ticket is not None:
        return file.ticket.row  # as it was when the file was attached
    if file.source in known:
        return known[file.source]
    files = schema.files
    mine = sa.and_(files.c.store_id == store.id, files.c.source == file.source)
    row = connection.execute(sa.select(files.c.id, files.c.sha256).where(mine)).first()
    now = {
        "sha256": file.sha256,
        "size_bytes": file.size_bytes,
        "state": "in_progress",
        "errors": [],
        "warnings": [],
        "last_error": sa.null(),
        "updated_at": int(time.time()),
    }
    if row is None:
        file_id = f"file-{ULID()}"
        new = {"id": file_id, "store_id": store.id, "source": file.source, "created_at": int(time.time())}
        connection.execute(files.insert(), {**new, **now, "filename": file.filename})
    else:
        file_id = str(row.id)
        if row.sha256 != file.sha256:
            hand_over(connection, file_id)  # another path may still say what this one said
            now["same_as"] = sa.null()
        connection.execute(sa.update(files).where(mine).values(**now, filename=file.filename))
    known[file.source] = file_id
    return file_id


def _insert(
    connection: sa.Connection, store: Store, file_id: str, item: Prepared, number: int, ids: Iterator[int]
) -> int:
    """Rows of the document and its chunks; the id of the document."""
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
    document_id = int(
        connection.execute(schema.documents.insert().returning(schema.documents.c.id), row).scalar_one()
    )
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
        files = schema.files
        more = files.c.chunks + len(rows)
        connection.execute(sa.update(files).where(files.c.id == file_id).values(chunks=more))
    if pages := max((section.page or 0 for section in document.sections), default=0):
        files = schema.files
        fewer = sa.and_(files.c.id == file_id, files.c.pages < pages)
        connection.execute(sa.update(files).where(fewer).values(pages=pages))
    return document_id


def _finish(connection: sa.Connection, store: Store, file_id: str, end: Finished, number: int) -> int:
    """Write down how the file ended; documents it no longer has are buried. How many chunks."""
    files, documents = schema.files, schema.documents
    if end.repeats is not None and not repeat(connection, store.id, file_id, end.file.sha256, end.repeats):
        end = replace(end, errors=(f"the same content as {end.repeats}, which left: ingest it again",))
    last = {"code": end.code, "message": end.errors[-1]} if end.errors else None
    connection.execute(
        sa.update(files)
        .where(files.c.id == file_id)
        .values(
            state=end.state,
            errors=list(end.errors),
            warnings=list(end.warnings),
            last_error=last or sa.null(),
        )
    )
    if end.keys is None:
        return 0
    live = sa.select(documents.c.id, documents.c.key).where(
        documents.c.file_id == file_id, documents.c.died.is_(None)
    )
    left = replaced(connection, store, file_id) if end.state == "completed" and end.file.ticket else []
    gone = left + [row.id for row in connection.execute(live) if row.key not in end.keys]
    return bury(connection, gone, number)
