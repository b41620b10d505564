"""Indexes for what is asked of a store with many trials."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make them."""
    op.create_index("runs_by_plan", "runs", ["plan_digest", "epoch"])
    op.create_index("run_trials_by_position", "run_trials", ["run_id", "position"])
    if op.get_bind().dialect.name == "sqlite":
        op.create_index(
            "run_trials_by_key", "run_trials", ["run_id", "key", "case_digest", "position"]
        )
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
