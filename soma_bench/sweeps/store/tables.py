"""The tables of the store.

A change of them takes a migration in ``migrations/versions`` and its number in `REVISIONS`.
"""

from __future__ import annotations

import sqlalchemy as sa

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""Every version that the tables have had, the present one last."""
HEAD = REVISIONS[-1]

METADATA = sa.MetaData()


class Words(sa.types.TypeDecorator[str]):
    """Text that a model wrote, and that a database can keep.

    A lone half of a surrogate pair is no Unicode, and PostgreSQL's text cannot hold a NUL; either
    is kept as U+FFFD.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: D102
        if value is None or not isinstance(value, str):
            return value
        if dialect.name == "postgresql":
            value = value.replace("\0", "\ufffd")
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("plan_digest", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("sweep", sa.JSON, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("environment", sa.JSON, nullable=False),
)

CASES = sa.Table(
    "cases",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
)

RUN_TRIALS = sa.Table(
    "run_trials",
    METADATA,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("case_digest", sa.Text, sa.ForeignKey("cases.digest"), nullable=False),
    sa.Column("suite", sa.Text, nullable=False),
)

TRIALS = sa.Table(
    "trials",
    METADATA,
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
    sa.Column("error", Words),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("synthetic", sa.Boolean, nullable=False),
    sa.Column("answer", Words),
    sa.Column("thoughts", Words),
    sa.Column("finish", sa.Text),
    sa.Column("structured_by", sa.Text),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("cache_write_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("thinking_tokens", sa.Integer),
    sa.Column("queue_s", sa.Float),
    sa.Column("load_s", sa.Float),
    sa.Column("first_token_s", sa.Float),
    sa.Column("first_answer_token_s", sa.Float),
    sa.Column("prefill_s", sa.Float),
    sa.Column("decode_s", sa.Float),
    sa.Column("total_s", sa.Float),
    sa.Column("start", sa.Text),
    sa.Column("other_cpu_share", sa.Float),
    sa.Column("busy", sa.Boolean),
    sa.Column("power_mode", sa.Text),
    sa.Column("concurrency", sa.Integer),
    sa.Column("memory_bytes", sa.BigInteger),
    sa.Column("cost_usd", sa.Float),
    sa.Column("cost_basis", sa.Text),
    sa.Column("cost_source", sa.Text),
    sa.Column("ended_at", sa.Text, nullable=False),
)

SCORES = sa.Table(
    "scores",
    METADATA,
    sa.Column("key", sa.Text, sa.ForeignKey("trials.key"), primary_key=True),
    sa.Column("case_digest", sa.Text, primary_key=True),
    sa.Column("scorer_version", sa.Integer, primary_key=True),
    sa.Column("primary_value", sa.Float, nullable=False),
    sa.Column("failure", Words),
    sa.Column("parts", sa.JSON),
)

LOOKS = sa.Table(
    "looks",
    METADATA,
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

# A comparison looks up every trial of a run by its key, and in the order of the keys these lookups
# are next to each other.
sa.Index(
    "run_trials_by_key",
    *(RUN_TRIALS.c[name] for name in ("run_id", "key", "case_digest", "position")),
).ddl_if(dialect="sqlite")
# What a comparison sums up stands behind prompts and answers of many kilobytes in an SQLite row; an
# index that holds it all is read instead of the rows. PostgreSQL keeps long texts apart by itself.
sa.Index(
    "trials_by_key_with_figures",
    *(
        TRIALS.c[name]
        for name in (
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
        )
    ),
).ddl_if(dialect="sqlite")
sa.Index("runs_by_plan", RUNS.c.plan_digest, RUNS.c.epoch)
sa.Index("run_trials_by_position", RUN_TRIALS.c.run_id, RUN_TRIALS.c.position)

VERSION = sa.Table(
    "store_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)
"""Where a migration writes how far it came: Alembic's own table, under a name that no other
program's migrations in the same database use."""
