"""Indexes for deletes: who repeats a file, which document has an id."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    op.create_index("copies", "files", ["same_as"], sqlite_where=sa.text("same_as IS NOT NULL"))
    op.create_index(
        "documents_by_id", "documents", ["external_id"], sqlite_where=sa.text("external_id IS NOT NULL")
    )
