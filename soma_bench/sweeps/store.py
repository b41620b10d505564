"""The store: one row per trial, unique by its key, in any database SQLAlchemy speaks to.

The contract: a trial is recorded in one transaction when it ends, so what is in the store is
whole, and what was running when a process died is simply not there. A trial that failed for
the backend's sake is kept as ``error`` and runs again on the next execution; every other row is
final. Requests and answers are kept, so that scoring can be repeated without calling a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from soma_bench.errors import ConfigError
from soma_bench.types import Usage

_metadata = sa.MetaData()

_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("plan_digest", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("sweep", sa.JSON, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("environment", sa.JSON, nullable=False),
)

_cases = sa.Table(
    "cases",
    _metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
)

_run_trials = sa.Table(
    "run_trials",
    _metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("case_digest", sa.Text, sa.ForeignKey("cases.digest"), nullable=False),
    sa.Column("suite", sa.Text, nullable=False),
)

_trials = sa.Table(
    "trials",
    _metadata,
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
    sa.Column("memory_bytes", sa.BigInteger),
    sa.Column("cost_usd", sa.Float),
    sa.Column("cost_basis", sa.Text),
    sa.Column("cost_source", sa.Text),
    sa.Column("ended_at", sa.Text, nullable=False),
)

_scores = sa.Table(
    "scores",
    _metadata,
    sa.Column("key", sa.Text, sa.ForeignKey("trials.key"), primary_key=True),
    sa.Column("case_digest", sa.Text, primary_key=True),
    sa.Column("scorer_version", sa.Integer, primary_key=True),
    sa.Column("primary_value", sa.Float, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Column("parts", sa.JSON),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution of a sweep."""

    id: str
    name: str
    plan_digest: str
    """Digest of the plan at epoch 0: the same for every start of the same sweep."""
    epoch: int
    sweep: Mapping[str, Any]
    started_at: str
    environment: Mapping[str, Any]
    """Hardware and library versions that the run began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """A trial's place in a run, and the case it is scored by."""

    key: str
    agent: str
    suite: str
    case_digest: str
    case: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial as it ended. Seconds end in ``_s``; None is what nobody said."""

    key: str
    agent: str
    target: str
    provider: str
    model: str
    quantization: str | None
    thinking: str | None
    case_id: str
    repeat: int
    status: str
    """``done``, or ``error`` for a backend's failure, which is not scored and runs again."""
    error: str | None = None
    request: Mapping[str, Any]
    identity: Mapping[str, Any]
    synthetic: bool
    answer: str | None = None
    thoughts: str | None = None
    finish: str | None = None
    structured_by: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    queue_s: float | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    first_answer_token_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None
    start: str | None = None
    """``cold`` where this call loaded the model, ``warm`` where it was loaded already; None where
    the backend does not say, as clouds do not."""
    other_cpu_share: float | None = None
    """Share of this machine's CPU time that went to processes with no part in the trial."""
    busy: bool | None = None
    """Whether that was so much that the trial's latency is not to be relied on."""
    power_mode: str | None = None
    """macOS's power mode while it ran; None elsewhere."""
    memory_bytes: int | None = None
    cost_usd: float | None = None
    """Price of the call: its fee in the cloud, its electricity on one's own machine; None where it
    is not known."""
    cost_basis: str | None = None
    """``price list`` or ``electricity``."""
    cost_source: str | None = None
    """Where the price stands, or why there is none."""
    ended_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """A scorer's verdict on a trial."""

    key: str
    case_digest: str
    scorer_version: int
    primary_value: float
    failure: str | None
    """Why the answer failed (it did not parse, was cut off, was refused); None when it was read."""
    parts: Mapping[str, Any] | None


def now() -> str:
    """The time in UTC, to the second, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class StoreMissingError(ConfigError):
    """There is no store at a location, though there may come to be one."""


class Store:
    """Reads and writes runs, trials and scores.

    Args:
        location: a database URL, or the path of an SQLite file.
        create: make the tables, and the file and its folder, when they do not exist; otherwise
            that is an error and nothing is written.

    Raises:
        StoreMissingError: there is none and it is not to be made.
        ConfigError: the store cannot be opened, or the file is something else.
    """

    def __init__(self, location: str, *, create: bool = False) -> None:
        self.location = location
        if "://" not in location:
            path = Path(location)
            if not create and not path.is_file():
                raise StoreMissingError(
                    f"{path}: no such store; run a sweep first, or name it by --store"
                )
            if create:
                _make_folder(path.parent)
            location = f"sqlite:///{path}"
        try:
            self._engine = sa.create_engine(location)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _set_pragmas)
            if create:
                _metadata.create_all(self._engine)
            missing = set(_metadata.tables) - set(sa.inspect(self._engine).get_table_names())
            lacking = {} if missing else _lacking_columns(self._engine)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise ConfigError(f"{self.location}: cannot be used as a store: {reason}") from error
        if missing:
            raise StoreMissingError(
                f"{self.location}: holds no runs; run a sweep first, or name its store by --store"
            )
        for table, columns in lacking.items():
            raise ConfigError(
                f"{self.location}: was made by an earlier version (table {table} lacks "
                f"{', '.join(columns)}); keep it with that version, and measure into another store, "
                "named by --store"
            )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest_epoch(self, plan_digest: str) -> int | None:
        """How often the sweep with this digest was started anew; None if it never ran."""
        query = sa.select(sa.func.max(_runs.c.epoch)).where(_runs.c.plan_digest == plan_digest)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def begin_run(self, run: RunRecord, planned: Sequence[PlannedRow]) -> None:
        """Record a run and its plan in one transaction; a run that is there already stays."""
        cases = {
            row.case_digest: {"digest": row.case_digest, "agent": row.agent, "content": row.case}
            for row in planned
        }
        places = [
            {
                "run_id": run.id,
                "key": row.key,
                "position": position,
                "case_digest": row.case_digest,
                "suite": row.suite,
            }
            for position, row in enumerate(planned)
        ]
        with self._engine.begin() as connection:
            connection.execute(
                self._insert(_runs).on_conflict_do_nothing(), dataclasses.asdict(run)
            )
            connection.execute(self._insert(_cases).on_conflict_do_nothing(), list(cases.values()))
            connection.execute(self._insert(_run_trials).on_conflict_do_nothing(), places)

    def finished_keys(self, run_id: str) -> set[str]:
        """Keys of the run's trials that need not run again, whichever run they ran in."""
        query = (
            sa.select(_run_trials.c.key)
            .join(_trials, _trials.c.key == _run_trials.c.key)
            .where(_run_trials.c.run_id == run_id, _trials.c.status == "done")
        )
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def record(self, trial: TrialRecord) -> None:
        """Keep a trial that has ended. A finished row is never replaced; an error row is."""
        values = dataclasses.asdict(trial)
        insert = self._insert(_trials).values(values)
        update = {name: insert.excluded[name] for name in values if name != "key"}
        statement = insert.on_conflict_do_update(
            index_elements=["key"], set_=update, where=_trials.c.status == "error"
        )
        with self._engine.begin() as connection:
            connection.execute(statement)

    def save_scores(self, scores: Iterable[ScoreRecord]) -> None:
        """Keep scores, replacing those of the same trial, case and scorer version."""
        rows = [dataclasses.asdict(score) for score in scores]
        if not rows:
            return
        insert = self._insert(_scores)
        values = ("primary_value", "failure", "parts")
        statement = insert.on_conflict_do_update(
            index_elements=["key", "case_digest", "scorer_version"],
            set_={name: insert.excluded[name] for name in values},
        )
        with self._engine.begin() as connection:
            connection.execute(statement, rows)

    def runs(self) -> list[RunRecord]:
        """All runs, the newest last."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_runs).order_by(_runs.c.started_at, _runs.c.id))
            return [RunRecord(**row) for row in rows.mappings()]

    def find_run(self, text: str) -> RunRecord:
        """The run called ``text``: its id, a sweep's name (its newest run) or ``latest``.

        Raises:
            ConfigError: there is none; the message lists the runs there are.
        """
        runs = self.runs()
        for run in reversed(runs):
            if text in (run.id, run.name, "latest"):
                return run
        known = ", ".join(run.id for run in runs[-5:]) or "none"
        raise ConfigError(f"{self.location}: no run {text!r}; the newest runs: {known}")

    def trials(self, run_id: str) -> Iterator[Mapping[str, Any]]:
        """The run's trials that have ended, in the order of the plan, each with its case.

        Every mapping has the fields of `TrialRecord` and ``suite``, ``case_digest``, ``case``.
        """
        query = (
            sa.select(
                _trials,
                _run_trials.c.suite,
                _run_trials.c.case_digest,
                _cases.c.content.label("case"),
            )
            .join(_run_trials, _run_trials.c.key == _trials.c.key)
            .join(_cases, _cases.c.digest == _run_trials.c.case_digest)
            .where(_run_trials.c.run_id == run_id)
            .order_by(_run_trials.c.position)
        )
        with self._engine.connect() as connection:
            for row in connection.execute(query).mappings():
                yield dict(row)

    def scores(self, run_id: str) -> Iterator[ScoreRecord]:
        """All scores of the run's trials by the run's own cases, of every scorer version."""
        query = (
            sa.select(_scores)
            .join(
                _run_trials,
                (_run_trials.c.key == _scores.c.key)
                & (_run_trials.c.case_digest == _scores.c.case_digest),
            )
            .where(_run_trials.c.run_id == run_id)
        )
        with self._engine.connect() as connection:
            for row in connection.execute(query).mappings():
                yield ScoreRecord(**row)

    def planned_count(self, run_id: str) -> int:
        """How many trials the run has in all."""
        query = sa.select(sa.func.count()).where(_run_trials.c.run_id == run_id)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def mean_seconds(self) -> dict[tuple[str, str], float]:
        """Mean measured time of a call by agent and target, over all finished trials, in seconds."""
        query = (
            sa.select(_trials.c.agent, _trials.c.target, sa.func.avg(_trials.c.total_s))
            .where(_trials.c.status == "done")
            .group_by(_trials.c.agent, _trials.c.target)
        )
        with self._engine.connect() as connection:
            return {(agent, target): mean for agent, target, mean in connection.execute(query)}

    def mean_usage(self) -> dict[tuple[str, str], Usage]:
        """Mean tokens of a call by agent and target, over all finished trials that counted them."""
        counted = (
            _trials.c.prompt_tokens,
            _trials.c.cached_tokens,
            _trials.c.cache_write_tokens,
            _trials.c.output_tokens,
        )
        query = (
            sa.select(_trials.c.agent, _trials.c.target, *map(sa.func.avg, counted))
            .where(_trials.c.status == "done")
            .where(_trials.c.prompt_tokens.is_not(None), _trials.c.output_tokens.is_not(None))
            .group_by(_trials.c.agent, _trials.c.target)
        )
        with self._engine.connect() as connection:
            return {
                (agent, target): Usage(
                    **{
                        column.name: None if mean is None else round(mean)
                        for column, mean in zip(counted, means, strict=True)
                    }
                )
                for agent, target, *means in connection.execute(query)
            }

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)


def open_if_made(location: str) -> Store | None:
    """The store at a location; None where none has been made yet.

    Raises:
        ConfigError: what is there is no store.
    """
    try:
        return Store(location)
    except StoreMissingError:
        return None


def _lacking_columns(engine: sa.Engine) -> dict[str, list[str]]:
    """Columns that this version writes and the database does not have, by table."""
    inspector = sa.inspect(engine)
    lacking = {}
    for name, table in _metadata.tables.items():
        present = {column["name"] for column in inspector.get_columns(name)}
        absent = [column.name for column in table.columns if column.name not in present]
        if absent:
            lacking[name] = absent
    return lacking


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made for the store: {error.strerror}") from error


def _set_pragmas(connection: Any, _: object) -> None:
    """Readers do not wait for the writer, and a killed process loses nothing that was committed."""
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "busy_timeout = 30000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
