"""Runs, their cases and trials, and scores."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("plan_digest", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("sweep", sa.JSON, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("environment", sa.JSON, nullable=False),
    )
    op.create_table(
        "cases",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
    )
    op.create_table(
        "run_trials",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("case_digest", sa.Text, sa.ForeignKey("cases.digest"), nullable=False),
        sa.Column("suite", sa.Text, nullable=False),
    )
    op.create_table(
        "trials",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("quantization", sa.Text),
        sa.Column("thinking", sa.Text),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("identity", sa.JSON, nullable=False),
        sa.Column("synthetic", sa.Boolean, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("thoughts", sa.Text),
        sa.Column("finish", sa.Text),
        sa.Column("structured_by", sa.Text),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("thinking_tokens", sa.Integer),
        sa.Column("queue_s", sa.Float),
        sa.Column("load_s", sa.Float),
        sa.Column("first_token_s", sa.Float),
        sa.Column("first_answer_token_s", sa.Float),
        sa.Column("prefill_s", sa.Float),
        sa.Column("decode_s", sa.Float),
        sa.Column("total_s", sa.Float),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.Column("cost_usd", sa.Float),
        sa.Column("ended_at", sa.Text, nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("key", sa.Text, sa.ForeignKey("trials.key"), primary_key=True),
        sa.Column("case_digest", sa.Text, primary_key=True),
        sa.Column("scorer_version", sa.Integer, primary_key=True),
        sa.Column("primary_value", sa.Float, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("parts", sa.JSON),
    )
