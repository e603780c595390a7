"""The functions that a reply called."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    op.add_column("replies", sa.Column("calls", sa.Text))
