"""The catalogue's tables.

`born` and `died` are generation numbers of the row's store: a row is seen by generation g when
born <= g and (died is null or died > g).

A change of a table is made here and as a new revision under migrations/versions; a test compares the two.
"""

from pathlib import Path

import sqlalchemy as sa

VERSION = 7  # the newest revision
REVISIONS = Path(__file__).with_name("migrations")
metadata = sa.MetaData()

stores = sa.Table(
    "stores",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # vs_ + ULID
    sa.Column("name", sa.String, nullable=False, unique=True),  # the id once it is deleted
    sa.Column("embedder", sa.String, nullable=False),  # this and the next two: of the current series
    sa.Column("embedder_digest", sa.String, nullable=False),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),  # the newest published
    sa.Column("created_at", sa.Integer, nullable=False),  # unix seconds
    sa.Column("series", sa.String, nullable=False, server_default=""),  # the one that is searched
    sa.Column(
        "options", sa.JSON, nullable=False, server_default="{}"
    ),  # "index", "chunking": how it is built
    sa.Column("deleted_at", sa.Integer),  # not found any more; its rows wait for a purge
    sa.Column("tenant", sa.String),  # whose it is; null: made on the command line, open to all for reading
    sa.Column("label", sa.String),  # what its owner calls it, which need not be unique; null: its name
    sa.Column("description", sa.Text),
    sa.Column("metadata", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("expires_days", sa.Integer),  # without a search or a new file
    sa.Column("last_active_at", sa.Integer),
    sa.Column(
        "described", sa.Integer, nullable=False, server_default="0"
    ),  # generation attributes changed in
    sa.Index("stores_of_tenant", "tenant", "id"),
)

series = sa.Table(
    "series",  # one embedder's vectors of a store; a search sees segments of one series only
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("embedder", sa.String, nullable=False),
    sa.Column("embedder_digest", sa.String, nullable=False),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("verified", sa.JSON),  # what was measured at the switch to it; null: not searched yet, or first
    sa.UniqueConstraint("store_id", "embedder_digest"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # file- + ULID; stays when the content changes
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("source", sa.String, nullable=False),  # where it was read: an absolute path, or file:<upload>
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),  # of the content last read
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # in_progress | completed | failed | cancelled | deleted
    sa.Column("errors", sa.JSON, nullable=False),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("last_error", sa.JSON),  # {"code": …, "message": …}
    sa.Column("chunks", sa.Integer, nullable=False, server_default="0"),  # live ones
    sa.Column("updated_at", sa.Integer, nullable=False, server_default="0"),
    sa.Column("same_as", sa.String),  # the file whose content this one repeats: it has no documents itself
    sa.Column("upload_id", sa.String),  # the uploaded file that is attached here; null: read from a path
    sa.Column("attributes", sa.JSON, nullable=False, server_default="{}"),  # over those of its documents
    sa.Column("chunking", sa.JSON),  # of an attached file; with the "window" of the embedder, tokens
    sa.Column("replaces", sa.String),  # the upload that leaves when this one can be found
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),  # how often it was attached
    sa.Column("pages", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("store_id", "source"),
    sa.Index("files_of_upload", "upload_id"),
    sa.Index("files_to_read", "state", "updated_at", sqlite_where=sa.text("state = 'in_progress'")),
    sa.Index("files_of_content", "store_id", "sha256"),
    sa.Index("copies", "same_as", sqlite_where=sa.text("same_as IS NOT NULL")),
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("file_id", sa.ForeignKey("files.id"), nullable=False),
    sa.Column("key", sa.String, nullable=False),  # which document of the file; "" where it has one
    sa.Column("sha256", sa.String, nullable=False),  # of all that was read of it
    sa.Column("external_id", sa.String),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("text", sa.Text, nullable=False),  # what char_start and char_end count in
    sa.Column("pages", sa.JSON, nullable=False),  # [[page or null, characters], …] of the sections
    sa.Column("attributes", sa.JSON, nullable=False),
    sa.Column("born", sa.Integer, nullable=False),
    sa.Column("died", sa.Integer),
    sa.Index("documents_of_file", "file_id", "key"),
    sa.Index("documents_by_id", "external_id", sqlite_where=sa.text("external_id IS NOT NULL")),
    sa.Index("dead_documents", "died", sqlite_where=sa.text("died IS NOT NULL")),
)

chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # the id in vectors and keywords
    sa.Column("key", sa.String, nullable=False, unique=True),  # ch_ + ULID
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("document_id", sa.ForeignKey("documents.id"), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("char_start", sa.Integer, nullable=False),
    sa.Column("char_end", sa.Integer, nullable=False),
    sa.Column("page_start", sa.Integer),
    sa.Column("page_end", sa.Integer),
    sa.Column("headings", sa.JSON, nullable=False, server_default="[]"),  # outermost first
    sa.Column("lead", sa.Text, nullable=False, server_default=""),
    sa.Column("parent_start", sa.Integer),  # span of the passage to read, where chunks are only to match
    sa.Column("parent_end", sa.Integer),
    sa.Column("born", sa.Integer, nullable=False),
    sa.Column("died", sa.Integer),
    sa.Column("twin_of", sa.Integer),  # id of the first chunk that says nearly the same
    sa.Index("chunks_of_document", "document_id"),
    sa.Index("dead_chunks", "store_id", "died", sqlite_where=sa.text("died IS NOT NULL")),
    sa.Index("chunks_of_store", "store_id", "id"),
    sa.Index("twins", "twin_of", sqlite_where=sa.text("twin_of IS NOT NULL")),
)

likenesses = sa.Table(
    "likenesses",  # which chunk said something like this first; see `twins`
    metadata,
    sa.Column("store_id", sa.ForeignKey("stores.id"), primary_key=True),
    sa.Column("band", sa.BigInteger, primary_key=True),
    sa.Column("chunk_id", sa.Integer, nullable=False),
    sa.Index("likenesses_of_chunk", "chunk_id"),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # the folder's name
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("chunks", sa.Integer, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),  # {relative path: [sha256, bytes]}
    sa.Column("born", sa.Integer, nullable=False),
    sa.Column("series", sa.String, nullable=False, server_default=""),
    sa.Column("first_chunk", sa.Integer),  # range of its ids; null where it was not written down
    sa.Column("last_chunk", sa.Integer),
    sa.Index("segments_of_store", "store_id"),
)

generations = sa.Table(
    "generations",
    metadata,
    sa.Column("store_id", sa.ForeignKey("stores.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("published_at", sa.Integer, nullable=False),
    sa.Column("chunks", sa.Integer, nullable=False),  # live ones
    sa.Column("embedder", sa.String, nullable=False, server_default=""),
    sa.Column("embedder_digest", sa.String, nullable=False, server_default=""),
    sa.Column("dimension", sa.Integer, nullable=False, server_default="0"),
)

retired = sa.Table(
    "retired",  # chunks that left the catalogue: their keys only, so that a journal can let go of them too
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("store_id", sa.String, nullable=False),
    sa.Column("file_id", sa.String, nullable=False),
    sa.Column("wanted", sa.Boolean, nullable=False),  # deleted by request, not merely replaced
    sa.Column("retired_at", sa.Integer, nullable=False),
    sa.Index("retired_of_file", "store_id", "file_id"),
    sa.Index("retired_wanted", "wanted", sqlite_where=sa.text("wanted")),
)

uploads = sa.Table(
    "uploads",  # files as they came in; the bytes are in files/<sha256>
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # file- + ULID
    sa.Column("tenant", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("expires_at", sa.Integer),
    sa.Index("uploads_of_tenant", "tenant", "id"),
    sa.Index("uploads_of_content", "sha256"),
)

batches = sa.Table(
    "batches",  # files that were attached together
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # vsfb_ + ULID
    sa.Column("store_id", sa.String, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("cancelled_at", sa.Integer),
)

batch_files = sa.Table(
    "batch_files",
    metadata,
    sa.Column("batch_id", sa.String, primary_key=True),
    sa.Column("file_id", sa.String, primary_key=True),  # the row in files, not the upload
)

attempts = sa.Table(
    "attempts",  # what must be done once though it is asked for twice
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # a ULID; also of what the attempt makes
    sa.Column("caller", sa.String, nullable=False),
    sa.Column("name", sa.String),  # what the caller calls it, as a digest
    sa.Column("content", sa.String, nullable=False),  # digest of what was asked for
    sa.Column("begun_at", sa.Float, nullable=False),
    sa.Column("done_at", sa.Float),
    sa.Column("result", sa.Text),
    sa.UniqueConstraint("caller", "name"),
    sa.Index("attempts_of_content", "caller", "content"),
    sa.Index("attempts_by_age", "begun_at"),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("next", sa.Integer, nullable=False),
)
