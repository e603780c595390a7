"""The catalogue's tables.

`born` and `died` are generation numbers of the row's store: a row is seen by generation g when
born <= g and (died is null or died > g).
"""

import sqlalchemy as sa

VERSION = 2
metadata = sa.MetaData()

stores = sa.Table(
    "stores",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # vs_ + ULID
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("embedder", sa.String, nullable=False),
    sa.Column("embedder_digest", sa.String, nullable=False),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),  # the newest published
    sa.Column("created_at", sa.Integer, nullable=False),  # unix seconds
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # file- + ULID; stays when the content changes
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("source", sa.String, nullable=False),  # where it was read: an absolute path
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),  # of the content last read
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # in_progress | completed | failed
    sa.Column("errors", sa.JSON, nullable=False),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.UniqueConstraint("store_id", "source"),
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
    sa.Index("chunks_of_document", "document_id"),
    sa.Index("dead_chunks", "store_id", "died", sqlite_where=sa.text("died IS NOT NULL")),
    sa.Index("chunks_of_store", "store_id", "id"),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # the folder's name
    sa.Column("store_id", sa.ForeignKey("stores.id"), nullable=False),
    sa.Column("chunks", sa.Integer, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),  # {relative path: [sha256, bytes]}
    sa.Column("born", sa.Integer, nullable=False),
    sa.Index("segments_of_store", "store_id"),
)

generations = sa.Table(
    "generations",
    metadata,
    sa.Column("store_id", sa.ForeignKey("stores.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("published_at", sa.Integer, nullable=False),
    sa.Column("chunks", sa.Integer, nullable=False),  # live, for `verify`
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("next", sa.Integer, nullable=False),
)
