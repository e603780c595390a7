"""Keys of chunks that are gone, for those who kept what the chunks said."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    op.create_table(
        "retired",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("store_id", sa.String, nullable=False),
        sa.Column("file_id", sa.String, nullable=False),
        sa.Column("wanted", sa.Boolean, nullable=False),
        sa.Column("retired_at", sa.Integer, nullable=False),
        sa.Index("retired_of_file", "store_id", "file_id"),
        sa.Index("retired_wanted", "wanted", sqlite_where=sa.text("wanted")),
    )
