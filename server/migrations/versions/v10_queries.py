"""What was searched for, and how it came of the question."""

import sqlalchemy as sa
from alembic import op

revision = "10"
down_revision = "9"


def upgrade() -> None:
    op.add_column("plans", sa.Column("queries", sa.Text))
    op.add_column("plans", sa.Column("rewrite", sa.Text))
