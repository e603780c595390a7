"""API keys with a name, limits and their last use. Older releases made the table outside this chain."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

NEW = (
    ("name", sa.Text),
    ("requests_per_minute", sa.Integer),
    ("tokens_per_minute", sa.Integer),
    ("concurrent", sa.Integer),
    ("used_at", sa.Float),
)


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("keys"):
        for name, kind in NEW:
            op.add_column("keys", sa.Column(name, kind))
        return
    op.create_table(
        "keys",
        sa.Column("prefix", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
        *(sa.Column(name, kind) for name, kind in NEW),
    )
