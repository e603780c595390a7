"""Everything the indexer may raise, one tree.

IndexerError
├── DatabaseRefused      the SQLite library or the file cannot be trusted with data
├── UnknownStore         no store of that name or id
├── StoreBusy            another process is writing to the store
├── StoreDamaged         a file of a published generation is missing or altered
├── EmbedderMissing      the model folder is not there
├── EmbedderMismatch     the store was built by another embedder
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


class IndexerError(Exception):
    """Root of what this package raises on purpose."""


class DatabaseRefused(IndexerError):
    """The SQLite library is too old or the database is newer than this code."""


class UnknownStore(IndexerError):
    """No store has that name or id."""


class StoreBusy(IndexerError):
    """Another process holds the store's writer lock."""


class StoreDamaged(IndexerError):
    """A published file is missing or differs from the catalogue's digest."""


class EmbedderMissing(IndexerError):
    """The named embedding model is not on this machine."""


class EmbedderMismatch(IndexerError):
    """Vectors of two different models must not meet in one store."""


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
