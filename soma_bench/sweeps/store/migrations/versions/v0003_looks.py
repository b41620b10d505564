"""The looks of races."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "looks",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("look", sa.Integer, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("alpha", sa.Float, nullable=False),
        sa.Column("standings", sa.JSON, nullable=False),
        sa.Column("regret", sa.Float, nullable=False),
        sa.Column("stop", sa.Text),
        sa.Column("chosen", sa.Text),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("scorer_version", sa.Integer, nullable=False),
    )
