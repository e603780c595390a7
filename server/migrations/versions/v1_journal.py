"""The journal of release 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "exposures",
        sa.Column("turn", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False, index=True),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("unit_kind", sa.Text, nullable=False),
        sa.Column("experiment", sa.Text),
        sa.Column("arm", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("client_request_id", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
    )
    op.create_table(
        "plans",
        sa.Column("turn", sa.Text, sa.ForeignKey("exposures.turn"), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("base_sha256", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("template", sa.Text),
        sa.Column("template_sha256", sa.Text),
        sa.Column("demos", sa.Text, nullable=False),
        sa.Column("pool_sha256", sa.Text),
        sa.Column("chunks", sa.Text, nullable=False),
        sa.Column("generations", sa.Text, nullable=False),
        sa.Column("dropped", sa.Text, nullable=False),
        sa.Column("grounding", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("prompt_sha256", sa.Text, nullable=False, index=True),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("prompt_ids", sa.LargeBinary),
        sa.Column("messages", sa.Text),
    )
    op.create_table(
        "replies",
        sa.Column("turn", sa.Text, sa.ForeignKey("exposures.turn"), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer, nullable=False),
        sa.Column("cited", sa.Text, nullable=False),
        sa.Column("citations_dropped", sa.Integer, nullable=False),
        sa.Column("first_token_seconds", sa.Float),
        sa.Column("total_seconds", sa.Float, nullable=False),
        sa.Column("texts", sa.Text),
        sa.Column("token_ids", sa.LargeBinary),
        sa.Column("texts_sha256", sa.Text, nullable=False),
    )
