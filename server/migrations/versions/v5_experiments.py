"""Experiments: what each exposure met, files and phases, decisions, what is served by default."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    for name, kind in (("phase", sa.Integer), ("propensity", sa.Float), ("slice", sa.Boolean)):
        op.add_column("exposures", sa.Column(name, kind))
    op.create_index("ix_exposures_experiment", "exposures", ["experiment", "unit"])
    for name in ("served", "asked", "variables"):
        op.add_column("plans", sa.Column(name, sa.Text))
    op.create_table(
        "definitions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("phase", sa.Integer, nullable=False),
        sa.Column("arms", sa.Text, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("report_sha256", sa.Text),
    )
    op.create_table(
        "defaults",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("recipe", sa.Text),
        sa.Column("decision", sa.Integer, sa.ForeignKey("decisions.id"), nullable=False),
    )
