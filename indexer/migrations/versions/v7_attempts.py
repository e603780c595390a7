"""Attempts: what must be done once though it is asked for twice."""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("caller", sa.String, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("content", sa.String, nullable=False),
        sa.Column("begun_at", sa.Float, nullable=False),
        sa.Column("done_at", sa.Float),
        sa.Column("result", sa.Text),
        sa.UniqueConstraint("caller", "name"),
    )
    op.create_index("attempts_of_content", "attempts", ["caller", "content"])
    op.create_index("attempts_by_age", "attempts", ["begun_at"])
