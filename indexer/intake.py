"""What is new in the files: read a few at a time, in the order of their names, and split.

Digests and reads run ahead on threads of their own; what comes out is in the same order in every run.
"""

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import orjson
import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.duplicates import Content, Owners
from indexer.errors import Unreadable
from indexer.publishing import File, Finished, Prepared, error_code
from indexer.records import Document, Reading, Store
from indexer.seams import Embedder, Reader, Splitter
from indexer.sources import Source, digest, parts

EAGER_BYTES = 8 << 20  # files up to this size are read before it is their turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file whose content is published already."""

    name: str


Item = Prepared | Finished | Unchanged


class Intake:
    """The files of one run, for the store's writer."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: Store,
        sources: Sequence[Source],
        embedder: Embedder,
        read: Reader,
        split: Splitter,
        readers: int = 1,
    ) -> None:
        """`readers` calls of `read` may be under way at once."""
        self._catalogue, self._store, self._sources = catalogue, store, sources
        self._embedder, self._read, self._split, self._readers = embedder, read, split, readers
        files = schema.files
        query = sa.select(files.c.source, files.c.sha256).where(
            files.c.store_id == store.id, files.c.state == "completed", files.c.upload_id.is_(None)
        )
        with catalogue.engine.connect() as connection:
            self._known = {row.source: row.sha256 for row in connection.execute(query)}
            self._owners = Owners(connection, store.id, (source.identity for source in sources))
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="reading")

    def items(self) -> Iterator[Item]:
        """Every file's new documents and its end, or that it is unchanged."""
        later: list[_Candidate] = []
        try:
            with closing(ahead(self._candidates(), 2 * self._readers)) as candidates:
                for candidate in candidates:
                    content = candidate.content
                    if content is not None and self._owners.may_have(content, candidate.file.source):
                        later.append(candidate)
                    else:
                        yield from self._items(candidate)
            for candidate in later:
                yield from self._items(candidate)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _candidates(self) -> Iterator["_Candidate"]:
        seen = self._owners.contents()
        for source in self._sources:
            try:
                sha256, size = digest(source.path)
            except OSError as error:
                missing = File(source.identity, source.name, "", 0, source.ticket)
                yield _Candidate(missing, None, None, f"cannot be read: {error.strerror}")
                continue
            file = File(source.identity, source.name, sha256, size, source.ticket)
            content = Content.of(sha256, source.name)
            if source.upload:  # a file of its own, whatever else says the same
                content = Content(source.upload, "")
            readings = _Readings(self._pool, self._read, source, self._readers)
            if content not in seen and size <= EAGER_BYTES:
                readings.begin()
            seen.add(content)
            yield _Candidate(file, content, readings)

    def _items(self, candidate: "_Candidate") -> Iterator[Item]:
        file, content = candidate.file, candidate.content
        if content is None or candidate.readings is None:
            self._owners.changed(file.source)
            yield Finished(file, (candidate.problem,), (), None, "server_error")
            return
        if file.ticket is not None:
            yield (yield from self._documents(file, candidate.readings, {}))
            return
        if self._known.get(file.source) == file.sha256:
            self._owners.unchanged(file.source)
            yield Unchanged(file.filename)
            return
        kept_by_another = self._owners.changed(file.source)
        owner = self._owners.has(content)
        if owner is not None:
            self._owners.repeats(file.source, owner)
            yield Finished(file, (), (), frozenset(), repeats=owner)
            return
        published = {} if kept_by_another else self._published(file)
        end = yield from self._documents(file, candidate.readings, published)
        if end.state == "completed":
            self._owners.owns(file.source, content)
        yield end

    def _documents(
        self, file: File, readings: "_Readings", published: dict[str, str]
    ) -> Generator[Prepared, None, Finished]:
        """What is new in a file; its end is returned."""
        keys: set[str] = set()
        errors: list[str] = []
        warnings: list[str] = []
        try:
            for reading in readings.take():
                errors += reading.errors
                warnings += reading.warnings
                for document in reading.documents:
                    sha256 = document_digest(document)
                    key = document_key(document, sha256)
                    if key in keys:
                        if document.external_id:
                            errors.append(f"two rows have the id '{key}': the first is kept")
                        continue
                    keys.add(key)
                    if published.get(key) != sha256:
                        chunks = self._split(document, self._embedder)
                        yield Prepared(file, key, sha256, document, chunks)
        except (Unreadable, OSError) as error:
            return Finished(file, (*errors, str(error)), tuple(warnings), None, error_code(error))
        return Finished(file, tuple(errors), tuple(warnings), frozenset(keys))

    def _published(self, file: File) -> dict[str, str]:
        documents, files = schema.documents, schema.files
        query = (
            sa.select(documents.c.key, documents.c.sha256)
            .join(files)
            .where(
                files.c.store_id == self._store.id,
                files.c.source == file.source,
                documents.c.died.is_(None),
            )
        )
        with self._catalogue.engine.connect() as connection:
            return {row.key: row.sha256 for row in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that was digested; `content` is None when that failed."""

    file: File
    content: Content | None
    readings: "_Readings | None"
    problem: str = ""


class _Readings:
    """The parts of one file, read on the pool a few ahead, in their order."""

    def __init__(self, pool: ThreadPoolExecutor, read: Reader, source: Source, many: int) -> None:
        self._pool, self._read, self._source, self._many = pool, read, source, many
        self._parts = parts(source.path)
        self._begun: deque[Future[Reading]] = deque()
        self._problem: OSError | None = None

    def begin(self) -> None:
        """Have up to `many` parts under way."""
        try:
            while self._problem is None and len(self._begun) < self._many:
                part = next(self._parts, None)
                if part is None:
                    return
                self._begun.append(
                    self._pool.submit(self._read, part.data, self._source.name, part.first_line)
                )
        except OSError as error:
            self._problem = error

    def take(self) -> Iterator[Reading]:
        """One reading after the other. Raises `Unreadable`, `OSError`."""
        self.begin()
        while self._begun:
            reading = self._begun.popleft().result()
            self.begin()
            yield reading
        if self._problem is not None:
            raise self._problem


def document_digest(document: Document) -> str:
    """SHA-256 over all that a reader made of it: equal digests need no new embedding."""
    sections = [[part.text, part.page, part.headings, part.lead] for part in document.sections]
    whole = [document.title, sections, document.kind, document.external_id, dict(document.attributes)]
    return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def document_key(document: Document, sha256: str) -> str:
    """Which document of its file: a row's id, or what it says, or nothing where a file is one document."""
    if document.external_id is not None:
        return document.external_id
    return sha256 if document.kind == "jsonl" else ""


def ahead(items: Iterator[T], many: int) -> Generator[T]:
    """The same items, made on another thread, at most `many` before their use."""
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(many)
    stopped = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                if not put((item,)):
                    break
        except BaseException as error:
            end = error
        finally:
            if isinstance(items, Generator):
                items.close()  # on the thread that ran it
        put(end)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stopped.set()
        thread.join()
