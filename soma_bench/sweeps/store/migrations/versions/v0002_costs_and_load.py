"""What a trial cost, how it started, and what else the machine did."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; trials that were measured before have none of it."""
    for name, kind in (
        ("cache_write_tokens", sa.Integer()),
        ("start", sa.Text()),
        ("other_cpu_share", sa.Float()),
        ("busy", sa.Boolean()),
        ("power_mode", sa.Text()),
        ("cost_basis", sa.Text()),
        ("cost_source", sa.Text()),
    ):
        op.add_column("trials", sa.Column(name, kind))
