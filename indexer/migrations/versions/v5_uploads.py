"""Uploaded files, the stores and attachments their owners see, and batches of them."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    for column in (
        sa.Column("tenant", sa.String),
        sa.Column("label", sa.String),
        sa.Column("description", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("expires_days", sa.Integer),
        sa.Column("last_active_at", sa.Integer),
        sa.Column("described", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("stores", column)
    for column in (
        sa.Column("upload_id", sa.String),
        sa.Column("attributes", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("chunking", sa.JSON),
        sa.Column("replaces", sa.String),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("pages", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("files", column)
    op.create_index("stores_of_tenant", "stores", ["tenant", "id"])
    op.create_index("files_of_upload", "files", ["upload_id"])
    op.create_index(
        "files_to_read", "files", ["state", "updated_at"], sqlite_where=sa.text("state = 'in_progress'")
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String, primary_key=True),
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
    op.create_table(
        "batches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("store_id", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("cancelled_at", sa.Integer),
    )
    op.create_table(
        "batch_files",
        sa.Column("batch_id", sa.String, primary_key=True),
        sa.Column("file_id", sa.String, primary_key=True),
    )
