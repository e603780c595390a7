"""Everything the indexer may raise, one tree.

IndexerError
├── DatabaseRefused      the SQLite library or the file cannot be trusted with data
├── UnknownStore         no store of that name or id
├── StoreExpired         its owner let the store expire, and nobody used it for so long
├── StoreNotYours        a store of the command line is open to all for reading only
├── UnknownUpload        no uploaded file of that id
├── UnknownBatch         the store has no such batch of files
├── BacklogFull          too many files wait to be read
├── UnknownFile          the store has no such file, or several of that name
├── UnknownDocument      the store has no such document, or several of that id
├── FilterInvalid        an attribute filter is malformed or compares unlike types
├── StoreBusy            another process is writing to the store
├── StoreDamaged         a file of a published generation is missing or altered
├── EmbedderMissing      the model folder is not there
├── EmbedderMismatch     the store was built by another embedder
├── RerankerMissing      a reranker is asked for and none is set up
├── IndexOptionRefused   a setting of the vector index that does not exist or cannot be met here
├── MigrationRefused     a store cannot be moved to another embedder's vectors, or back
├── ChunkingRefused      a way to cut documents that does not exist, or is not the store's
├── EngineMissing        Ray is asked for and is not there
├── SourceMissing        a path given to ingest does not exist
└── Unreadable           one document cannot be read; the others go on
    ├── UnsupportedFormat
    ├── DamagedDocument
    ├── ProtectedDocument
    ├── UnsafeDocument   over a cap: size, expansion, nesting, pages
    ├── NoText           readable, but nothing to index
    └── ReaderStopped    the reading child ran out of time or memory, or died

Messages name the thing and the way out.
"""

from collections.abc import Sequence
from typing import NamedTuple


class FilterProblem(NamedTuple):
    """One thing wrong with a filter."""

    at: str  # its place, such as filters.filters[2].value
    message: str


class IndexerError(Exception):
    """Root of what this package raises on purpose."""


class DatabaseRefused(IndexerError):
    """The SQLite library is too old or the database is newer than this code."""


class UnknownStore(IndexerError):
    """No store has that name or id."""


class StoreExpired(IndexerError):
    """The store was to end when nobody used it for so many days."""


class StoreNotYours(IndexerError):
    """A store made on the command line is changed by its operator alone."""


class UnknownUpload(IndexerError):
    """No uploaded file has that id."""


class UnknownBatch(IndexerError):
    """The store has no batch of that id."""


class BacklogFull(IndexerError):
    """More files wait to be read than this server takes on."""


class UnknownFile(IndexerError):
    """The store has no such file, or the name does not say which."""


class UnknownDocument(IndexerError):
    """The store has no such document, or the id does not say which."""


class FilterInvalid(IndexerError):
    """An attribute filter cannot be applied; `problems` has all that is wrong, first one first."""

    def __init__(self, message: str, problems: Sequence[FilterProblem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[FilterProblem]) -> "FilterInvalid":
        """One error that tells all of them."""
        return cls("; ".join(f"{at} {message}" for at, message in problems), problems)


class StoreBusy(IndexerError):
    """Another process holds the store's writer lock."""


class StoreDamaged(IndexerError):
    """A published file is missing or differs from the catalogue's digest."""


class EmbedderMissing(IndexerError):
    """The named embedding model is not on this machine."""


class EmbedderMismatch(IndexerError):
    """Vectors of two different models must not meet in one store."""


class RerankerMissing(IndexerError):
    """No cross-encoder is set up, or its folder holds none."""


class IndexOptionRefused(IndexerError):
    """A setting of the vector index is unknown, out of range, or more than the device can do."""


class MigrationRefused(IndexerError):
    """Another embedder's vectors cannot take the place of the store's own, or there are none."""


class ChunkingRefused(IndexerError):
    """Chunking with numbers that cannot be kept to, or other than that of the store's chunks."""


class EngineMissing(IndexerError):
    """Ray is not installed, its cluster cannot be reached, or a worker was lost."""


class SourceMissing(IndexerError):
    """A path given to ingest does not exist or cannot be listed."""


class Unreadable(IndexerError):
    """One document cannot be turned into text."""


class UnsupportedFormat(Unreadable):
    """The bytes are of a format no reader handles."""


class DamagedDocument(Unreadable):
    """The bytes claim a format and do not keep to it."""


class ProtectedDocument(Unreadable):
    """Encrypted, or asks for a password."""


class UnsafeDocument(Unreadable):
    """Over a cap that exists to protect the machine."""


class NoText(Unreadable):
    """Nothing to index: empty, or a scan without a text layer."""


class ReaderStopped(Unreadable):
    """The reading child was killed or died."""
