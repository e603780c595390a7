"""Files to searchable chunks: read and split on one thread, embed and publish on another.

Documents are published in batches, each a generation of its own. What is published stays through
any interruption; the next run skips it by digest.
"""

import hashlib
import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson
import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.compaction import merge_when_many
from indexer.errors import Unreadable
from indexer.passages import context, indexed, readable
from indexer.publishing import File, Finished, Prepared, cancel, error_code, publish, writer
from indexer.records import Chunk, Document, Problem, Store
from indexer.seams import Embedder, Reader, Splitter, Vectors
from indexer.sources import Source, digest, find, parts, printable
from indexer.stopping import never

BATCH_CHUNKS = 512  # published together: a quarter of a minute's embedding on two cores
SLICE = 128  # texts embedded between two signs of progress
_AHEAD = 64  # documents read before they are embedded


@dataclass(frozen=True, slots=True)
class Summary:
    """What an ingest did. Counts are of documents and chunks that are published."""

    documents: int
    chunks: int
    unchanged: int  # files skipped because their content is known
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    cancelled: bool = False  # stopped before its end


class Watch(Protocol):
    """Told how an ingest goes, on the calling thread."""

    def found(self, files: int) -> None: ...
    def embedded(self, chunks: int) -> None: ...
    def finished(self, name: str) -> None: ...
    def published(self, generation: int, documents: int, chunks: int) -> None:
        """These documents are durable and searchable now; counts are of this batch."""
        ...


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file whose content is published already."""

    name: str


Item = Prepared | Finished | Unchanged


def ingest(
    catalogue: Catalogue,
    store_name: str,
    paths: Sequence[Path],
    embedder: Embedder,
    read: Reader,
    split: Splitter,
    watch: Watch,
    *,
    only: Collection[Path] | None = None,
    stop: Callable[[], bool] = never,
) -> Summary:
    """Make the files under `paths` searchable in the store, which is created if there is none.

    With `only`, of all files under the paths just these, or those below them, are looked at. When `stop`
    says so, what is at hand is published and the rest is left for the next run. Raises `SourceMissing`,
    `EmbedderMismatch`, `StoreBusy`; trouble with single documents is in the summary.
    """
    sources = find(paths)
    if only is not None:
        sources = [source for source in sources if not {source.path, *source.path.parents}.isdisjoint(only)]
    store = catalogue.claim(store_name, embedder)
    watch.found(len(sources))
    with writer(catalogue, store):
        desk = _Desk(catalogue, store, embedder, watch)
        with closing(_ahead(_items(catalogue, store, sources, embedder, read, split))) as items:
            stopped = False
            for item in items:
                if stopped := stop():
                    break
                desk.take(item)
        desk.publish()
        if stopped:
            cancel(catalogue, store)
        return replace(desk.summary(), cancelled=stopped)


class _Desk:
    """Collects items into batches and publishes them."""

    def __init__(self, catalogue: Catalogue, store: Store, embedder: Embedder, watch: Watch) -> None:
        self._catalogue, self._store, self._embedder, self._watch = catalogue, store, embedder, watch
        self._prepared: list[Prepared] = []
        self._finished: list[Finished] = []
        self._waiting = 0  # chunks in the batch
        self._documents = self._chunks = self._unchanged = 0
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []

    def take(self, item: Item) -> None:
        match item:
            case Prepared():
                self._prepared.append(item)
                self._waiting += len(item.chunks)
                if self._waiting >= BATCH_CHUNKS:
                    self.publish()
            case Finished():
                self._finished.append(item)
                self._errors += [Problem(item.file.filename, message) for message in item.errors]
                self._warnings += [Problem(item.file.filename, message) for message in item.warnings]
                self._watch.finished(item.file.filename)
            case Unchanged():
                self._unchanged += 1
                self._watch.finished(item.name)

    def publish(self) -> None:
        if not self._prepared and not self._finished:
            return
        pairs = [(item.document.title, chunk) for item in self._prepared for chunk in item.chunks]
        vectors = self._embed(pairs)
        texts = [indexed(title, chunk.text, chunk.headings, chunk.lead) for title, chunk in pairs]
        number = publish(self._catalogue, self._store, self._prepared, vectors, texts, self._finished)
        self._documents += len(self._prepared)
        self._chunks += len(pairs)
        self._watch.published(number, len(self._prepared), len(pairs))
        self._prepared, self._finished, self._waiting = [], [], 0
        merge_when_many(self._catalogue, self._store)

    def summary(self) -> Summary:
        return Summary(
            self._documents, self._chunks, self._unchanged, tuple(self._errors), tuple(self._warnings)
        )

    def _embed(self, pairs: Sequence[tuple[str, Chunk]]) -> Vectors:
        """One row per chunk, embedded in order of length: a batch is padded to its longest."""
        embedder = self._embedder
        heads = {(title, chunk.headings): "" for title, chunk in pairs}
        heads = {key: context(*key, embedder) for key in heads}
        texts = [heads[title, chunk.headings] + readable(chunk.lead + chunk.text) for title, chunk in pairs]
        rows = np.empty((len(texts), self._store.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        for start in range(0, len(order), SLICE):
            some = order[start : start + SLICE]
            rows[some] = self._embedder.passages([texts[at] for at in some])
            self._watch.embedded(len(some))
        return rows


def _items(
    catalogue: Catalogue,
    store: Store,
    sources: Sequence[Source],
    embedder: Embedder,
    read: Reader,
    split: Splitter,
) -> Iterator[Item]:
    files = schema.files
    query = sa.select(files.c.source, files.c.sha256).where(
        files.c.store_id == store.id, files.c.state == "completed"
    )
    with catalogue.engine.connect() as connection:
        known = {row.source: row.sha256 for row in connection.execute(query)}
    for source in sources:
        try:
            sha256, size = digest(source.path)
        except OSError as error:
            file = File(printable(source.path), source.name, "", 0)
            yield Finished(file, (f"cannot be read: {error.strerror}",), (), None, "server_error")
            continue
        if known.get(printable(source.path)) == sha256:
            yield Unchanged(source.name)
            continue
        file = File(printable(source.path), source.name, sha256, size)
        yield from _documents(catalogue, store, source, file, embedder, read, split)


def _documents(
    catalogue: Catalogue,
    store: Store,
    source: Source,
    file: File,
    embedder: Embedder,
    read: Reader,
    split: Splitter,
) -> Iterator[Item]:
    """What is new in a file, then its end."""
    published = _published(catalogue, store, file)
    keys: set[str] = set()
    errors: list[str] = []
    warnings: list[str] = []
    rest = parts(source.path)
    while True:
        try:
            part = next(rest, None)
            if part is None:
                break
            reading = read(part.data, file.filename, part.first_line)
        except (Unreadable, OSError) as error:
            yield Finished(file, (*errors, str(error)), tuple(warnings), None, error_code(error))
            return
        errors += reading.errors
        warnings += reading.warnings
        for document in reading.documents:
            sha256 = document_digest(document)
            key = document_key(document, sha256)
            if key in keys:
                errors += [f"two rows have the id '{key}': the first is kept"] if document.external_id else []
                continue
            keys.add(key)
            if published.get(key) != sha256:
                yield Prepared(file, key, sha256, document, split(document, embedder))
    yield Finished(file, tuple(errors), tuple(warnings), frozenset(keys))


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


def _published(catalogue: Catalogue, store: Store, file: File) -> dict[str, str]:
    documents, files = schema.documents, schema.files
    query = (
        sa.select(documents.c.key, documents.c.sha256)
        .join(files)
        .where(files.c.store_id == store.id, files.c.source == file.source, documents.c.died.is_(None))
    )
    with catalogue.engine.connect() as connection:
        return {row.key: row.sha256 for row in connection.execute(query)}


def _ahead(items: Iterator[Item]) -> Generator[Item]:
    """The same items, made on another thread a little ahead of their use."""
    made: queue.Queue[Item | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
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
                if not put(item):
                    return
        except BaseException as error:
            end = error
        put(end)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
