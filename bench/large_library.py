"""A store of more passages than a benchmark can wait for to be ingested: the same rows, written side by side.

A process for each segment writes vectors and keywords with the indexer's own function; meanwhile the rows
of the catalogue go in by thousands. What ingest does beyond that (reading, splitting, looking for twins,
merging) is left out: nothing that searches sees the difference. The vectors are kept flat, for on a card they
are.
"""

import hashlib
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from ulid import ULID

from bench.library import STORE, passage, random_vectors
from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.generations import add_segment, advance, describe, fresh_name, record
from indexer.index_options import ask
from indexer.machine import cores
from indexer.publishing import writer
from indexer.records import FileDigest
from indexer.seams import Embedder, Ids
from indexer.segments import stores_folder, write_segment

SEGMENTS = 7  # of one size: an eighth, and the indexer would merge them
_ROWS = 20_000  # of a transaction


@dataclass(frozen=True, slots=True)
class _Part:
    """One segment to be: passage `number` has the id `number + 1`."""

    folder: Path
    name: str
    numbers: range
    dimension: int
    about: dict[str, object]

    @property
    def ids(self) -> Ids:
        return np.arange(self.numbers.start + 1, self.numbers.stop + 1, dtype=np.int64)


def write(data: Path, passages: int, embedder: Embedder) -> None:
    """The store in a new data folder; each passage is a document of one chunk."""
    catalogue = Catalogue(data)
    try:
        store = catalogue.claim(STORE, embedder)
        ask(catalogue, store, {"kind": "flat"})
        store = catalogue.store(STORE)
        folder, parts = stores_folder(data, store.id), []
        for at in range(SEGMENTS):
            numbers = range(passages * at // SEGMENTS, passages * (at + 1) // SEGMENTS)
            name, about = fresh_name(store, store.current), describe(store, store.current, len(numbers))
            parts.append(_Part(folder, name, numbers, store.dimension, about))
        workers = max(1, min(SEGMENTS, cores() - 1))
        with (
            writer(catalogue, store),
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        ):
            written = pool.map(_segment, parts)
            with writing(catalogue.engine) as connection:
                free = {"name": "chunk", "next": passages + 1}  # the id that the next chunk gets
                connection.execute(schema.counters.insert(), free)
                connection.execute(schema.files.insert(), _file(store.id, passages))
            for start in range(0, passages, _ROWS):
                numbers = range(start, min(start + _ROWS, passages))
                documents, chunks = _rows(store.id, numbers)
                with writing(catalogue.engine) as connection:
                    connection.execute(schema.documents.insert(), documents)
                    connection.execute(schema.chunks.insert(), chunks)
            digests = list(written)
            with writing(catalogue.engine) as connection:
                number = advance(connection, store)
                for part, files in zip(parts, digests, strict=True):
                    add_segment(connection, store.current, part.name, part.ids, files, number)
                record(connection, store, number, passages)
    finally:
        catalogue.close()


def _segment(part: _Part) -> dict[str, FileDigest]:
    """In a process of its own."""
    texts = [passage(number) for number in part.numbers]
    vectors = random_vectors(texts, part.dimension)
    return write_segment(part.folder, part.name, part.ids, vectors, texts, part.about)


def _file(store_id: str, passages: int) -> dict[str, Any]:
    now = int(time.time())
    return {
        "id": f"file-{STORE}", "store_id": store_id, "source": STORE, "filename": "corpus.jsonl",
        "sha256": "", "size_bytes": 0, "state": "completed", "errors": [], "warnings": [],
        "created_at": now, "updated_at": now, "chunks": passages,
    }  # fmt: skip


def _rows(store_id: str, numbers: range) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of documents and of their chunks, born in the first generation."""
    documents, chunks = [], []
    for number in numbers:
        text, row = passage(number), number + 1
        documents.append(
            {
                "id": row, "file_id": f"file-{STORE}", "key": str(number), "kind": "jsonl", "title": "",
                "sha256": hashlib.sha256(text.encode()).hexdigest(), "external_id": str(number),
                "text": text, "pages": [[None, len(text)]], "attributes": {}, "born": 1,
            }
        )  # fmt: skip
        chunks.append(
            {
                "id": row, "key": f"ch_{ULID()}", "store_id": store_id, "document_id": row, "text": text,
                "char_start": 0, "char_end": len(text), "headings": [], "lead": "", "born": 1,
            }
        )  # fmt: skip
    return documents, chunks
