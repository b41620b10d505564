"""The store: one row per trial, unique by its key, in any database SQLAlchemy speaks to.

The contract: a trial is recorded in one transaction when it ends, so what is in the store is
whole, and what was running when a process died is simply not there. A trial that failed for
the backend's sake is kept as ``error`` and runs again on the next execution; every other row is
final. Requests and answers are kept, so that scoring can be repeated without calling a model.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import sqlalchemy as sa
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy.dialects import postgresql, sqlite

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.types import AgentName, FinishReason, Usage

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

_looks = sa.Table(
    "looks",
    _metadata,
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

_ADDED_LATER = frozenset({_looks.name})
"""Tables that a store may lack: what was measured before there were such is whole without them."""

TrialStatus = Literal["done", "error"]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


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
    agent: AgentName
    target: str
    provider: str
    model: str
    quantization: str | None
    thinking: str | None
    case_id: str
    repeat: int
    status: TrialStatus
    """``done``, or ``error`` for a backend's failure, which is not scored and runs again."""
    error: str | None = None
    request: Mapping[str, Any]
    identity: Mapping[str, Any]
    synthetic: bool
    answer: str | None = None
    thoughts: str | None = None
    finish: FinishReason | None = None
    structured_by: str | None = None
    prompt_tokens: _Count | None = None
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    output_tokens: _Count | None = None
    thinking_tokens: _Count | None = None
    queue_s: _Seconds | None = None
    load_s: _Seconds | None = None
    first_token_s: _Seconds | None = None
    first_answer_token_s: _Seconds | None = None
    prefill_s: _Seconds | None = None
    decode_s: _Seconds | None = None
    total_s: _Seconds | None = None
    start: str | None = None
    """``cold`` where this call loaded the model, ``warm`` where it was loaded already; None where
    the backend does not say, as clouds do not."""
    other_cpu_share: _Share | None = None
    """Share of this machine's CPU time that went to processes with no part in the trial."""
    busy: bool | None = None
    """Whether that was so much that the trial's latency is not to be relied on."""
    power_mode: str | None = None
    """macOS's power mode while it ran; None elsewhere."""
    memory_bytes: _Count | None = None
    cost_usd: _Dollars | None = None
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
    primary_value: Annotated[float, Field(ge=0, le=1)]
    failure: str | None
    """Why the answer failed (it did not parse, was cut off, was refused); None when it was read."""
    parts: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRecord:
    """One look of a race at one agent: what was seen and decided."""

    agent: AgentName
    look: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=2)]
    """Independent cases (clusters) that every target still in the race was measured on."""
    alpha: _Share
    """The look's share of the race's error."""
    standings: Sequence[Mapping[str, Any]]
    """Every target still in the race: ``target, mean, rival, t, p, dropped_by``."""
    regret: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Expected cost in score of stopping here with the leader."""
    stop: str | None
    """Why the race ended here; None where it went on."""
    chosen: str | None
    """The target that was picked when the race ended here."""
    rules: Mapping[str, Any]
    scorer_version: int

    @property
    def survivors(self) -> tuple[str, ...]:
        """Targets that stayed in the race."""
        return tuple(row["target"] for row in self.standings if row["dropped_by"] is None)


Record = TypeVar("Record")


def now() -> str:
    """The time in UTC, to the second, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_RUN, _TRIAL, _SCORE = TypeAdapter(RunRecord), TypeAdapter(TrialRecord), TypeAdapter(ScoreRecord)
_LOOK = TypeAdapter(LookRecord)
_JOINED = frozenset({"suite", "case_digest", "case"})
"""What `Store.trials` gives beside the fields of a trial."""


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
        url = _url_of(location)
        # A password in the URL is for the database alone: errors are read by others.
        self.location = url.render_as_string() if "://" in location else location
        if url.get_backend_name() == "sqlite":
            self._look_at_file(url.database or "", create=create)
        try:
            self._engine = sa.create_engine(url, json_deserializer=_read_json)
            sa.event.listen(self._engine, "handle_error", self._refuse)
            if url.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _set_pragmas)
            if create:
                _metadata.create_all(self._engine)
            present = set(sa.inspect(self._engine).get_table_names())
            missing = set(_metadata.tables) - present - _ADDED_LATER
            lacking = {} if missing else _lacking_columns(self._engine, present)
            self._keeps_looks = _looks.name in present
        except (sa.exc.SQLAlchemyError, ImportError, TypeError) as error:
            raise self._unusable(error) from error
        if missing:
            self.close()
            raise self._none_made()
        if lacking:
            self.close()
            raise self._older(lacking)

    def _look_at_file(self, name: str, *, create: bool) -> None:
        """Refuse an SQLite file that is not there, or not ours, without changing anything.

        Opening it as a store would: the journal's mode is written into the file.
        """
        if not name or name.startswith((":", "file:")):
            raise ConfigError(f"{self.location}: keeps nothing; name the store's file by its path")
        path = Path(name)
        try:
            there = path.exists()
            tables = _tables_in(path) if there else {}
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        if not there and not create:
            raise StoreMissingError(
                f"{path}: no such store; run a sweep first, or name it by --store"
            )
        ours = {table.name: set(table.columns.keys()) for table in _metadata.tables.values()}
        found = {name: ours[name] <= tables[name] for name in ours.keys() & tables.keys()}
        whole = found.keys() >= ours.keys() - _ADDED_LATER
        if whole and not all(found.values()):
            raise self._older({name: sorted(ours[name] - tables[name]) for name in found})
        if not all(found.values()) or (tables and not found):
            raise ConfigError(
                f"{self.location}: is a database of something else; name another file by --store"
            )
        # A sweep that was killed while the tables were made is completed by the next one.
        if not whole and not create:
            raise self._none_made()
        if create:
            _make_folder(path.parent)

    def _none_made(self) -> StoreMissingError:
        return StoreMissingError(
            f"{self.location}: holds no runs; run a sweep first, or name its store by --store"
        )

    def _older(self, lacking: Mapping[str, Sequence[str]]) -> ConfigError:
        table, columns = next((name, absent) for name, absent in lacking.items() if absent)
        return ConfigError(
            f"{self.location}: was made by an earlier version (table {table} lacks "
            f"{', '.join(columns)}); keep it with that version, and measure into another store, "
            "named by --store"
        )

    def _refuse(self, context: sa.engine.ExceptionContext) -> None:
        """Say as one sentence what the database could not do: it is full, read-only, damaged, gone."""
        error = context.sqlalchemy_exception
        if isinstance(error, sa.exc.OperationalError) or type(error) is sa.exc.DatabaseError:
            raise self._unusable(error)

    def _unusable(self, error: Exception) -> ConfigError:
        lines = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        reason = error.strerror if isinstance(error, OSError) and error.strerror else lines[0]
        return ConfigError(f"{self.location}: cannot be used as a store: {reason}")

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
            epoch = connection.execute(query).scalar()
        if epoch is not None and not isinstance(epoch, int):
            raise ConfigError(
                f"{self.location}: is damaged: a run's epoch is {epoch!r}, not a number"
            )
        return epoch

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
        rows = self._rows(sa.select(_runs).order_by(_runs.c.started_at, _runs.c.id))
        return [self._record(_RUN, row, f"run {row['id']}") for row in rows]

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
        for row in self._rows(query):
            trial = {name: row[name] for name in row if name not in _JOINED}
            record = self._record(_TRIAL, trial, f"trial {row['key']}")
            if record.status == "done" and None in (record.answer, record.finish, record.total_s):
                raise ConfigError(f"{self.location}: trial {record.key}: is done without an answer")
            if not isinstance(row["case"], dict):
                raise ConfigError(f"{self.location}: is damaged: the case of {record.key} is none")
            yield {**row, **{name: getattr(record, name) for name in trial}}

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
        for row in self._rows(query):
            yield self._record(_SCORE, row, f"score of trial {row['key']}")

    def save_looks(self, run_id: str, agent: AgentName, looks: Sequence[LookRecord]) -> None:
        """Keep the looks of a race at one agent, in place of those that were kept before."""
        rows = [{"run_id": run_id, **dataclasses.asdict(look)} for look in looks]
        old = sa.delete(_looks).where(_looks.c.run_id == run_id, _looks.c.agent == agent)
        with self._engine.begin() as connection:
            connection.execute(old)
            if rows:
                connection.execute(sa.insert(_looks), rows)

    def looks(self, run_id: str) -> dict[AgentName, list[LookRecord]]:
        """The looks of a raced run by agent, in their order; empty for a run that was not raced."""
        found: dict[AgentName, list[LookRecord]] = {}
        if not self._keeps_looks:
            return found
        query = sa.select(*(c for c in _looks.c if c is not _looks.c.run_id))
        query = query.where(_looks.c.run_id == run_id).order_by(_looks.c.agent, _looks.c.look)
        for row in self._rows(query):
            record = self._record(_LOOK, row, f"look {row['look']} of {row['agent']}")
            found.setdefault(record.agent, []).append(record)
        return found

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

    def _rows(self, query: sa.Select[Any]) -> Iterator[dict[str, Any]]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings()
            try:
                yield from map(dict, rows)
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{self.location}: is damaged: a field that should hold JSON does not: {error}"
                ) from error

    def _record(self, kind: TypeAdapter[Record], row: dict[str, Any], place: str) -> Record:
        """A row as its record; a database holds whatever was written to it, by whomever."""
        try:
            return kind.validate_python(row)
        except ValidationError as error:
            raise ConfigError(
                f"{self.location}: is damaged: {place}: {first_problem(error)}"
            ) from error

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


def _lacking_columns(engine: sa.Engine, tables: Container[str]) -> dict[str, list[str]]:
    """Columns that this version writes and the database's tables do not have."""
    inspector = sa.inspect(engine)
    lacking = {}
    for name, table in _metadata.tables.items():
        if name not in tables:
            continue
        present = {column["name"] for column in inspector.get_columns(name)}
        absent = [column.name for column in table.columns if column.name not in present]
        if absent:
            lacking[name] = absent
    return lacking


def _read_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _url_of(location: str) -> sa.URL:
    """The database URL of a store's location, which may be a path."""
    scheme, is_url, _ = location.partition("://")
    if not is_url:
        return sa.URL.create("sqlite", database=location)
    try:
        return sa.make_url(location)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError(
            f"{scheme}://...: is not a database URL, e.g. postgresql+psycopg://user@host/database"
        ) from error


def _tables_in(path: Path) -> dict[str, set[str]]:
    """The columns of every table in an SQLite file, read without leaving a trace.

    Raises:
        OSError: the file cannot be read.
        sqlite3.Error: it is no database.
    """
    with path.open("rb") as stream:
        if not stream.read(1):
            return {}
    # Nobody writes to a file that has no log beside it, and reading it needs no lock on it.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
        rows = connection.execute(
            "SELECT tables.name, columns.name FROM sqlite_master AS tables,"
            " pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
    return found


def _make_folder(folder: Path) -> None:
    try:
        # Resolved first, so that ``new/..`` does not make ``new``.
        folder.resolve().mkdir(parents=True, exist_ok=True)
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
