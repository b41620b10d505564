"""How many calls were under way with a trial's, for latencies to be told apart by it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; what is there already was called one at a time."""
    op.add_column("trials", sa.Column("concurrency", sa.Integer))
    op.execute(sa.text("UPDATE trials SET concurrency = 1 WHERE status = 'done'"))
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("trials_by_key_with_figures")
        op.create_index(
            "trials_by_key_with_figures",
            "trials",
            [
                "key",
                "status",
                "agent",
                "target",
                "start",
                "busy",
                "concurrency",
                "total_s",
                "load_s",
                "cost_usd",
                "memory_bytes",
                "prompt_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "output_tokens",
                "thinking_tokens",
                "finish",
                "synthetic",
                "ended_at",
            ],
        )
