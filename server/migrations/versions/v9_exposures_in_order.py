"""An experiment's exposures in the order of time: evaluation reads on from where it was."""

from alembic import op

revision = "9"
down_revision = "8"


def upgrade() -> None:
    op.create_index("ix_exposures_experiment_at", "exposures", ["experiment", "at"])
