"""What a replay needs beside the token ids, and the headers that tell a repeated request."""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"

NEW = {
    "exposures": (
        ("idempotency_key", sa.Text),
        ("retry_count", sa.Integer),
        ("trace", sa.Text),
    ),
    "plans": (
        ("engine", sa.Text),
        ("options", sa.Text),
        ("prompt_lengths", sa.Text),
        ("erased_at", sa.Float),
    ),
    "replies": (
        ("token_lengths", sa.Text),
        ("finishes", sa.Text),
    ),
}


def upgrade() -> None:
    for table, columns in NEW.items():
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind))
