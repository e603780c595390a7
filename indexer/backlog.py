"""Attached files that wait to be read: taken from the catalogue, oldest first, on one thread.

The catalogue is the queue, so what was accepted is read after any restart.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from indexer import attempts, schema, uploads
from indexer.catalogue import Catalogue
from indexer.chunking import Chunking
from indexer.database import is_full, writing
from indexer.embedders import Embedders
from indexer.errors import EmbedderMismatch, IndexerError, StoreBusy, UnknownStore
from indexer.ingest import Watch, take_in
from indexer.records import Reading, Store
from indexer.seams import Embedder, Vectors
from indexer.sources import Source, Ticket
from indexer.splitting import Splitting
from indexer.windows import reaching

log = logging.getLogger("fewshot")
AT_ONCE = 64  # files of one store, before another one has its turn
AGAIN_SECONDS = 1.0  # after a store was busy
LOOK_SECONDS = 30.0  # for what other processes attached, and for what expired


class ClosingReader(Protocol):
    """A `Reader` that is closed after its last document."""

    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Reading: ...
    def close(self) -> None: ...


class Run(NamedTuple):
    """Files of one store that are cut alike."""

    store: Store
    chunking: Chunking
    sources: tuple[Source, ...]


class Backlog:
    """Reads what is attached while it is open."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedders: Embedders,
        open_reader: Callable[[], ClosingReader],
        watch: Watch | None = None,
    ) -> None:
        """`watch` hears of what is taken in, on the backlog's thread."""
        self._watch = watch or Quiet()
        self._catalogue, self._embedders, self._open_reader = catalogue, embedders, open_reader
        self._reader: ClosingReader | None = None
        self._more = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="backlog", daemon=True)

    def start(self) -> None:
        """Begin, also with what an earlier process left."""
        self._thread.start()

    def wake(self) -> None:
        """Something was attached."""
        self._more.set()

    def waiting(self) -> tuple[int, float]:
        """Attached files that wait to be read, and for how many seconds the oldest one does."""
        files = schema.files
        which = sa.and_(files.c.state == "in_progress", files.c.upload_id.is_not(None))
        asked = sa.select(sa.func.count(), sa.func.min(files.c.updated_at)).where(which)
        with self._catalogue.engine.connect() as connection:
            count, since = connection.execute(asked).one()
        return int(count), max(0.0, time.time() - since) if count else 0.0

    def close(self) -> None:
        """End within seconds: what is being published is whole, the rest waits for the next start."""
        self._closing.set()
        self._more.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._reader is not None:
            self._reader.close()

    def _work(self) -> None:
        swept = False
        while not self._closing.is_set():
            self._more.clear()
            wait = LOOK_SECONDS
            try:
                if not swept:
                    uploads.sweep(self._catalogue)
                    swept = True
                uploads.expire(self._catalogue)
                attempts.forget(self._catalogue)
                wait = self._through()
            except Exception:  # nothing else would go on: the next look tries again
                log.exception("the backlog of attached files was interrupted")
                wait = AGAIN_SECONDS
            self._more.wait(wait)

    def _through(self) -> float:
        """Read all that waits; seconds until the next look."""
        busy: set[str] = set()
        while not self._closing.is_set():
            run = self._next(busy)
            if run is None:
                break
            try:
                self._ingest(run)
            except Ended:
                break
            except StoreBusy:
                busy.add(run.store.id)  # an ingest of the command line is writing to it
            except (UnknownStore, EmbedderMismatch) as problem:
                if not self._moved(run):  # deleted, or moved to other vectors, while it was written to
                    self._fail(run, str(problem))
            except Exception as problem:
                if is_full(problem):  # they were accepted: they wait for space as they do for a writer
                    log.error("the disk is full: attached files of store %s wait", run.store.id)
                    busy.add(run.store.id)
                elif isinstance(problem, IndexerError):
                    self._fail(run, str(problem))
                else:
                    log.exception("files of store %s could not be taken in", run.store.id)
                    self._fail(run, "the server failed while taking the file in; attach it again")
        return AGAIN_SECONDS if busy else LOOK_SECONDS

    def _ingest(self, run: Run) -> None:
        store = run.store
        embedder = self._embedders.of(store.embedder, store.embedder_digest, store.name)
        if self._reader is None:
            self._reader = self._open_reader()
        take_in(
            self._catalogue,
            store,
            run.sources,
            Until(self._closing, reaching(embedder, run.chunking)),
            self._reader,
            Splitting(run.chunking),
            self._watch,
            stop=self._closing.is_set,
        )

    def _next(self, busy: set[str]) -> Run | None:
        """The oldest waiting file with the next ones of its store that are cut alike."""
        files, stores = schema.files, schema.stores
        waiting = (
            sa.select(files, *(stores.c[name].label(f"of_{name}") for name in _STORE))
            .join(stores, stores.c.id == files.c.store_id)
            .where(
                files.c.state == "in_progress",
                files.c.upload_id.is_not(None),
                stores.c.deleted_at.is_(None),
                files.c.store_id.not_in(busy),
            )
            .order_by(files.c.updated_at, files.c.id)
        )
        with self._catalogue.engine.connect() as connection:
            first = connection.execute(waiting.limit(1)).mappings().first()
            if first is None:
                return None
            mine = waiting.where(files.c.store_id == first["store_id"]).limit(AT_ONCE)
            rows = connection.execute(mine).mappings().all()
        folder = self._catalogue.data / uploads.FOLDER
        return Run(
            Store(**{name: first[f"of_{name}"] for name in _STORE}),
            _chunking(first),
            tuple(
                Source(
                    folder / row["sha256"],
                    row["filename"],
                    row["upload_id"],
                    Ticket(row["id"], row["attempt"]),
                )
                for row in rows
                if row["chunking"] == first["chunking"]
            ),
        )

    def _moved(self, run: Run) -> bool:
        stores = schema.stores
        with self._catalogue.engine.connect() as connection:
            row = connection.execute(sa.select(stores).where(stores.c.id == run.store.id)).first()
        return row is None or row.deleted_at is not None or row.series != run.store.series

    def _fail(self, run: Run, message: str) -> None:
        files = schema.files
        error = {"code": "server_error", "message": message}
        ended = {"state": "failed", "errors": [message], "last_error": error, "updated_at": int(time.time())}
        with writing(self._catalogue.engine) as connection:
            for source in run.sources:
                if source.ticket is not None:
                    mine = sa.and_(files.c.id == source.ticket.row, files.c.state == "in_progress")
                    same = files.c.attempt == source.ticket.attempt
                    connection.execute(sa.update(files).where(mine, same).values(ended))


class Ended(Exception):
    """The server ends; what was embedded so far is embedded again by the next one."""


class Until:
    """An embedder that embeds no more once the event is set: a batch may take longer than anyone waits."""

    def __init__(self, end: threading.Event, embedder: Embedder) -> None:
        self._end, self._embedder = end, embedder
        self.name, self.digest = embedder.name, embedder.digest
        self.dimension, self.max_tokens = embedder.dimension, embedder.max_tokens
        self.count, self.grasp, self.query = embedder.count, embedder.grasp, embedder.query

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension); raises `Ended`."""
        if self._end.is_set():
            raise Ended
        return self._embedder.passages(texts)


class Quiet:
    """A `Watch` that says nothing."""

    def found(self, files: int) -> None:
        return None

    def embedded(self, chunks: int) -> None:
        return None

    def finished(self, name: str) -> None:
        return None

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        return None


_STORE = tuple(field.name for field in fields(Store))


def _chunking(row: sa.RowMapping) -> Chunking:
    return Chunking(**{name: value for name, value in (row["chunking"] or {}).items() if name != "window"})
