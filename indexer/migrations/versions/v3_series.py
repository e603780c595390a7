"""Series of vectors, deletion, twins, options of a store, the state of a file."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("store_id", sa.String, sa.ForeignKey("stores.id"), nullable=False),
        sa.Column("embedder", sa.String, nullable=False),
        sa.Column("embedder_digest", sa.String, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("verified", sa.JSON),
        sa.UniqueConstraint("store_id", "embedder_digest"),
    )
    op.create_table(
        "likenesses",
        sa.Column("store_id", sa.String, sa.ForeignKey("stores.id"), primary_key=True),
        sa.Column("band", sa.BigInteger, primary_key=True),
        sa.Column("chunk_id", sa.Integer, nullable=False),
        sa.Index("likenesses_of_chunk", "chunk_id"),
    )
    op.add_column("stores", sa.Column("series", sa.String, nullable=False, server_default=""))
    op.add_column("stores", sa.Column("options", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("stores", sa.Column("deleted_at", sa.Integer))
    op.add_column("segments", sa.Column("series", sa.String, nullable=False, server_default=""))
    op.add_column("segments", sa.Column("first_chunk", sa.Integer))
    op.add_column("segments", sa.Column("last_chunk", sa.Integer))
    op.add_column("files", sa.Column("last_error", sa.JSON))
    op.add_column("files", sa.Column("chunks", sa.Integer, nullable=False, server_default="0"))
    op.add_column("files", sa.Column("updated_at", sa.Integer, nullable=False, server_default="0"))
    op.add_column("files", sa.Column("same_as", sa.String))
    op.add_column("chunks", sa.Column("twin_of", sa.Integer))
    op.add_column("generations", sa.Column("embedder", sa.String, nullable=False, server_default=""))
    op.add_column("generations", sa.Column("embedder_digest", sa.String, nullable=False, server_default=""))
    op.add_column("generations", sa.Column("dimension", sa.Integer, nullable=False, server_default="0"))
    op.create_index("files_of_content", "files", ["store_id", "sha256"])
    op.create_index("twins", "chunks", ["twin_of"], sqlite_where=sa.text("twin_of IS NOT NULL"))
    op.create_index("dead_documents", "documents", ["died"], sqlite_where=sa.text("died IS NOT NULL"))
    # One series per store so far; it takes the store's id, a new one gets an id of its own.
    op.execute(
        "INSERT INTO series (id, store_id, embedder, embedder_digest, dimension, created_at) "
        "SELECT id, id, embedder, embedder_digest, dimension, created_at FROM stores"
    )
    op.execute("UPDATE stores SET series = id")
    op.execute("UPDATE segments SET series = store_id")
    op.execute(
        "UPDATE generations SET (embedder, embedder_digest, dimension) = (SELECT s.embedder, "
        "s.embedder_digest, s.dimension FROM stores s WHERE s.id = generations.store_id)"
    )
    op.execute("UPDATE files SET updated_at = created_at")
    op.execute(
        "UPDATE files SET chunks = (SELECT count(*) FROM documents d JOIN chunks c ON c.document_id = d.id "
        "WHERE d.file_id = files.id AND c.died IS NULL)"
    )
