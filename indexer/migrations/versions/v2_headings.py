"""Headings, lead and parent passage of every chunk."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.add_column("chunks", sa.Column("headings", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("chunks", sa.Column("lead", sa.Text, nullable=False, server_default=""))
    op.add_column("chunks", sa.Column("parent_start", sa.Integer))
    op.add_column("chunks", sa.Column("parent_end", sa.Integer))
