"""Files to searchable chunks: read ‖ split ‖ tokenise ‖ embed ‖ publish, each on threads of its own.

Documents are published in batches, each a generation of its own, in the order of their files. What is
published stays through any interruption; the next run skips it by digest.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from indexer.catalogue import Catalogue
from indexer.compaction import merge_when_many
from indexer.intake import Intake, Item, Unchanged, ahead
from indexer.passages import context, indexed, readable
from indexer.publishing import Finished, Prepared, cancel, publish, writer
from indexer.records import Problem, Store
from indexer.seams import Embedder, Reader, Splitter, Vectors
from indexer.sources import Source, find
from indexer.stopping import never

BATCH_CHUNKS = 512  # published together, at least
BATCH_SECONDS = 15.0  # of embedding, that a quicker embedder's batch grows to
MOST_CHUNKS = 16384  # of a batch, for the memory's sake
_AHEAD = 64  # documents split before they are embedded
_LANES = 2  # one slice is tokenised while another is embedded
_SLICE_SECONDS = 1.0  # between two signs of progress
_SLICE, _SMALLEST_SLICE, _LARGEST_SLICE = 64, 32, 2048  # texts: the first one, and the bounds of the others


@dataclass(frozen=True, slots=True)
class Summary:
    """What an ingest did. Counts are of documents and chunks that are published."""

    documents: int
    chunks: int
    unchanged: int  # files skipped because their content is known
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    repeated: tuple[Problem, ...] = ()  # files whose bytes another path of the store has
    cancelled: bool = False  # stopped before its end


class Watch(Protocol):
    """Told how an ingest goes, on the calling thread."""

    def found(self, files: int) -> None: ...
    def embedded(self, chunks: int) -> None: ...
    def finished(self, name: str) -> None: ...
    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        """These documents are durable and searchable now; counts are of this batch.

        `seconds` is how long it took to write and publish them, a merge that was due included.
        """
        ...


def ingest(
    catalogue: Catalogue,
    store_name: str,
    paths: Sequence[Path],
    embedder: Embedder,
    read: Reader,
    split: Splitter,
    watch: Watch,
    *,
    readers: int = 1,
    only: Collection[Path] | None = None,
    stop: Callable[[], bool] = never,
) -> Summary:
    """Make the files under `paths` searchable in the store, which is created if there is none.

    `readers` documents may be read at once. With `only`, of all files under the paths just these, or those
    below them, are looked at. When `stop` says so, what is at hand is published and the rest is left for
    the next run. Raises `SourceMissing`, `EmbedderMismatch`, `StoreBusy`; trouble with single documents is
    in the summary.
    """
    sources = find(paths)
    if only is not None:
        sources = [source for source in sources if not {source.path, *source.path.parents}.isdisjoint(only)]
    store = catalogue.claim(store_name, embedder)
    return take_in(catalogue, store, sources, embedder, read, split, watch, readers=readers, stop=stop)


def take_in(
    catalogue: Catalogue,
    store: Store,
    sources: Sequence[Source],
    embedder: Embedder,
    read: Reader,
    split: Splitter,
    watch: Watch,
    *,
    readers: int = 1,
    stop: Callable[[], bool] = never,
) -> Summary:
    """Make these files searchable in the store, whose embedder it is. Raises as `ingest` does."""
    watch.found(len(sources))
    with writer(catalogue, store), _Desk(catalogue, store, embedder, watch) as desk:
        intake = Intake(catalogue, store, sources, embedder, read, split, readers)
        stopped = False
        with closing(ahead(intake.items(), _AHEAD)) as items:
            for item in items:
                if stopped := stop():
                    break
                desk.take(item)
        desk.finish()
        if stopped:
            cancel(catalogue, store)
        return replace(desk.summary(), cancelled=stopped)


class _Batch(NamedTuple):
    """What is published at once."""

    prepared: list[Prepared]
    finished: list[Finished]

    @property
    def chunks(self) -> int:
        return sum(len(item.chunks) for item in self.prepared)


class _Desk:
    """Collects items into batches, embeds one while the one before it is published."""

    def __init__(self, catalogue: Catalogue, store: Store, embedder: Embedder, watch: Watch) -> None:
        self._catalogue, self._store, self._embedder, self._watch = catalogue, store, embedder, watch
        self._batch = _Batch([], [])
        self._waiting = 0  # chunks in the batch
        self._goal = BATCH_CHUNKS
        self._began = time.monotonic()  # to collect the batch
        self._slice = _SLICE
        self._publishing: tuple[_Batch, Future[tuple[int, float]]] | None = None
        self._lanes = ThreadPoolExecutor(_LANES, thread_name_prefix="embed")
        self._press = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._documents = self._chunks = self._unchanged = 0
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []
        self._repeated: list[Problem] = []

    def __enter__(self) -> "_Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self._lanes.shutdown(cancel_futures=True)
        self._press.shutdown()  # what is being published is whole

    def take(self, item: Item) -> None:
        match item:
            case Prepared():
                self._batch.prepared.append(item)
                self._waiting += len(item.chunks)
                old = time.monotonic() - self._began > BATCH_SECONDS  # reading is what takes long
                if self._waiting >= (BATCH_CHUNKS if old else self._goal):
                    self._send()
            case Finished():
                name = item.file.filename
                self._batch.finished.append(item)
                self._errors += [Problem(name, message) for message in item.errors]
                self._warnings += [Problem(name, message) for message in item.warnings]
                if item.repeats is not None:
                    self._repeated.append(Problem(name, f"same content as {item.repeats}"))
                self._watch.finished(name)
            case Unchanged():
                self._unchanged += 1
                self._watch.finished(item.name)

    def finish(self) -> None:
        """Publish what is left, and wait for it."""
        if self._batch.prepared or self._batch.finished:
            self._send()
        self._settle()

    def summary(self) -> Summary:
        return Summary(
            self._documents,
            self._chunks,
            self._unchanged,
            tuple(self._errors),
            tuple(self._warnings),
            tuple(self._repeated),
        )

    def _send(self) -> None:
        """Embed the batch, then have it published after the one before it."""
        batch, self._batch, self._waiting = self._batch, _Batch([], []), 0
        began = time.monotonic()
        vectors = self._embed(batch)
        if vectors.size:
            rate = len(vectors) / max(time.monotonic() - began, 1e-6)
            self._goal = max(BATCH_CHUNKS, min(MOST_CHUNKS, int(rate * BATCH_SECONDS)))
        self._settle()
        self._publishing = batch, self._press.submit(self._publish, batch, vectors)
        self._began = time.monotonic()

    def _publish(self, batch: _Batch, vectors: Vectors) -> tuple[int, float]:
        """The generation, and the seconds it took."""
        began = time.monotonic()
        texts = [
            indexed(item.document.title, chunk.text, chunk.headings, chunk.lead)
            for item in batch.prepared
            for chunk in item.chunks
        ]
        number = publish(self._catalogue, self._store, batch.prepared, vectors, texts, batch.finished)
        merge_when_many(self._catalogue, self._store)
        return number, time.monotonic() - began

    def _settle(self, wait: bool = True) -> None:
        """Say what was published; without `wait`, only if it is by now."""
        if self._publishing is None or not (wait or self._publishing[1].done()):
            return
        batch, future = self._publishing
        self._publishing = None
        number, seconds = future.result()
        self._documents += len(batch.prepared)
        self._chunks += batch.chunks
        self._watch.published(number, len(batch.prepared), batch.chunks, seconds)

    def _embed(self, batch: _Batch) -> Vectors:
        """One row per chunk, embedded in order of length: texts of a length are the cheapest together."""
        texts = self._texts(batch)
        rows = np.empty((len(texts), self._store.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        under_way: deque[tuple[list[int], Future[Vectors]]] = deque()
        at, said = 0, time.monotonic()
        while at < len(order) or under_way:
            while at < len(order) and len(under_way) < _LANES:
                some = order[at : at + self._slice]
                at += len(some)
                work = self._lanes.submit(self._embedder.passages, [texts[row] for row in some])
                under_way.append((some, work))
            some, work = under_way.popleft()
            rows[some] = work.result()
            self._watch.embedded(len(some))
            self._settle(wait=False)
            took, said = time.monotonic() - said, time.monotonic()
            fitting = int(len(some) * _SLICE_SECONDS / max(took, 1e-6))
            self._slice = max(_SMALLEST_SLICE, min(_LARGEST_SLICE, 2 * self._slice, fitting))
        return rows

    def _texts(self, batch: _Batch) -> list[str]:
        embedder, heads = self._embedder, dict[tuple[str, tuple[str, ...]], str]()
        texts = []
        for item in batch.prepared:
            title = item.document.title
            for chunk in item.chunks:
                key = title, chunk.headings
                if key not in heads:
                    heads[key] = context(title, chunk.headings, embedder)
                texts.append(heads[key] + readable(chunk.lead + chunk.text))
        return texts
