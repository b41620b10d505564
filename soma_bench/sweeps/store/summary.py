"""Summing up a run's scored trials in the database, target by target.

What a comparison asks for is laid out once, narrow, in a temporary table of the connection; means,
counts and quantiles are aggregates of it, and the scores are read from it in the order in which they
lie. So of ten million trials there cross the wire one row a target, a few latencies, and their scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

import sqlalchemy as sa
from pydantic import Field, TypeAdapter, ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.sweeps.store.database import Database
from soma_bench.sweeps.store.records import Count, Dollars, Seconds
from soma_bench.sweeps.store.tables import CASES, RUN_TRIALS, SCORES, TRIALS
from soma_bench.types import AgentName, FinishReason

Record = TypeVar("Record")


class Group(NamedTuple):
    """Trials that are summed up together."""

    agent: AgentName
    target: str
    held_out: bool
    """Whether these are the trials on held-out cases; they are kept apart for raced agents only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The finished trials of a group, summed up; a mean is None where nobody counted."""

    n: Annotated[int, Field(ge=1)]
    failures: Count
    """Answers that failed; those ``truncated`` and ``refused`` are among them."""
    truncated: Count
    refused: Count
    clean: Count
    """Trials that were neither cold nor busy nor crowded."""
    cold: Count
    busy: Count
    crowded: Count
    """Trials beside which the sweep had other calls under way at the same account or host."""
    concurrency: Annotated[int, Field(ge=1)]
    """Most calls that were under way at a time."""
    cost_usd: Dollars | None
    """Mean; None where the price of one of them is not known."""
    memory_bytes: Count | None
    """The largest."""
    prompt_tokens: Annotated[float, Field(ge=0)] | None
    output_tokens: Annotated[float, Field(ge=0)] | None
    thinking_tokens: Annotated[float, Field(ge=0)] | None
    load_s: Seconds | None
    """The longest of the cold trials."""
    synthetic: bool
    ended_at: str
    """When the last of them ended."""


class CaseScores(NamedTuple):
    """A group's scores case by case, in the order of the plan; one list entry a case."""

    digests: list[str]
    counts: list[int]
    """How many repeats were scored."""
    totals: list[float]
    """Sums of their scores."""
    least: float
    """The lowest score of all."""
    most: float
    """The highest score of all."""


class Answers(NamedTuple):
    """A group's scored answers one by one, in the order of the plan."""

    digests: list[str]
    """Of the case of each."""
    scores: list[float]
    parts: list[str | None]
    """JSON; None, or JSON's null, where the answer failed; None where parts were not laid out."""

    def by_case(self) -> CaseScores:
        """The scores case by case, repeats summed up."""
        least, most = min(self.scores), max(self.scores)
        places = {digest: place for place, digest in enumerate(dict.fromkeys(self.digests))}
        if len(places) == len(self.digests):
            return CaseScores(self.digests, [1] * len(places), self.scores, least, most)
        counts, totals = [0] * len(places), [0.0] * len(places)
        for digest, score in zip(self.digests, self.scores, strict=True):
            counts[places[digest]] += 1
            totals[places[digest]] += score
        return CaseScores(list(places), counts, totals, least, most)


_SHOWN = sa.Table(
    "shown_trials",
    sa.MetaData(),
    *(sa.Column(name, sa.Text, primary_key=True) for name in ("agent", "target")),
    sa.Column("held_out", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Text) for name in ("case_digest", "ended_at", "strange", "parts")),
    *(sa.Column(name, sa.Integer) for name in ("failed", "cut", "refused", "noisy", "cold")),
    *(sa.Column(name, sa.Integer) for name in ("busy", "crowded", "concurrency", "synthetic")),
    *(sa.Column(f"{kind}_tokens", sa.Integer) for kind in ("prompt", "output", "thinking")),
    sa.Column("memory_bytes", sa.BigInteger),
    *(sa.Column(name, sa.Float) for name in ("score", "total_s", "load_s", "cost_usd")),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)
"""In SQLite the rows lie in the order of the key, so that no aggregate sorts them again."""
_GROUP = (_SHOWN.c.agent, _SHOWN.c.target, _SHOWN.c.held_out)
_MOST: Mapping[str, float] = {
    "score": 1,
    "total_s": 1e12,
    "load_s": 1e12,
    "cost_usd": 1e12,
    "memory_bytes": 2**62,
    "prompt_tokens": 2**31 - 1,
    "output_tokens": 2**31 - 1,
    "thinking_tokens": 2**31 - 1,
}
"""The greatest values of columns that hold numbers of at least 0. In SQLite a word is greater than
any number, so that none slips into a sum unseen."""
_ROWS_AT_ONCE = 5000
_FIGURES, _GROUPS = TypeAdapter(Figures), TypeAdapter(Group)


class ShownTrials:
    """The finished trials of a run, laid out for summing up; see `Summing.shown_trials`."""

    def __init__(self, location: str, connection: sa.Connection) -> None:
        self._location = location
        self._connection = connection

    def unscored(self) -> int:
        """How many of them have no score by the scorer's version asked for."""
        query = sa.select(sa.func.count()).where(_SHOWN.c.score.is_(None))
        return int(self._connection.execute(query).scalar_one())

    def leave_out_unscored(self) -> None:
        """Go on as if those without a score had not ended yet."""
        self._connection.execute(sa.delete(_SHOWN).where(_SHOWN.c.score.is_(None)))

    def figures(self) -> dict[Group, Figures]:
        """Every group's figures.

        Raises:
            ConfigError: a trial or score holds what cannot be.
        """
        c, total = _SHOWN.c, sa.func.sum
        sums = {
            name: total(c[name])
            for name in (
                *("failed", "cut", "refused", "noisy", "cold", "busy", "crowded", "synthetic"),
            )
        }
        means = {
            name: (total(c[name]), sa.func.count(c[name]))
            for name in ("prompt_tokens", "output_tokens", "thinking_tokens", "cost_usd")
        }
        query = sa.select(
            *_GROUP,
            sa.func.count().label("n"),
            *(column.label(f"sum_{name}") for name, column in sums.items()),
            *(summed.label(f"sum_{name}") for name, (summed, _) in means.items()),
            *(known.label(f"known_{name}") for name, (_, known) in means.items()),
            sa.func.max(c.strange).label("strange"),
            sa.func.max(c.memory_bytes).label("memory_bytes"),
            sa.func.max(c.concurrency).label("concurrency"),
            sa.func.max(sa.case((c.cold == 1, c.load_s))).label("longest_load_s"),
            sa.func.max(c.ended_at).label("ended_at"),
        ).group_by(*_GROUP)
        found = {}
        for row in self._connection.execute(query).mappings():
            group = self._checked(_GROUPS, (row["agent"], row["target"], bool(row["held_out"])))
            place = f"a trial of {group.target} at {group.agent}"
            if row["strange"] is not None:
                raise ConfigError(
                    f"{self._location}: is damaged: {place}: {row['strange']}: cannot be what it is"
                )
            found[group] = self._checked(_FIGURES, _figures_of(dict(row)), place)
        return found

    def latencies(self, ranks: Collection[int]) -> dict[Group, dict[int, float]]:
        """Seconds of the trials at some ranks of every group, from 0 for the fastest.

        Clean trials come first, and cold, busy and crowded ones after the slowest of them.
        """
        rank = sa.func.row_number().over(
            partition_by=_GROUP, order_by=(_SHOWN.c.noisy, _SHOWN.c.total_s)
        )
        ranked = sa.select(*_GROUP, _SHOWN.c.total_s, (rank - 1).label("rank")).subquery()
        query = sa.select(ranked).where(ranked.c.rank.in_(sorted(ranks)))
        found: dict[Group, dict[int, float]] = {}
        for agent, target, held_out, total_s, place in self._connection.execute(query):
            found.setdefault(Group(agent, target, bool(held_out)), {})[place] = total_s
        return found

    def answers(self) -> Iterator[tuple[Group, Answers]]:
        """Every group's answers, one group after the other in memory."""
        c = _SHOWN.c
        query = sa.select(*_GROUP, c.case_digest, c.score, c.parts).order_by(*_GROUP, c.position)
        for group, columns in self._by_group(query):
            yield group, Answers(*columns)

    def _by_group(self, query: sa.Select[Any]) -> Iterator[tuple[Group, list[list[Any]]]]:
        """The columns of each group beside its own, which come first; the query is sorted by them."""
        # Not row by row: SQLAlchemy takes longer to hand over a row than SQLite to find it.
        options = {"stream_results": True}
        result = self._connection.execute(query, execution_options=options)
        rows = chain.from_iterable(result.partitions(_ROWS_AT_ONCE))
        for (agent, target, held_out), found in groupby(rows, key=itemgetter(0, 1, 2)):
            columns = [list(column) for column in zip(*found, strict=True)]
            yield Group(agent, target, bool(held_out)), columns[3:]

    def _checked(self, kind: TypeAdapter[Record], value: Any, place: str = "a trial") -> Record:
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            raise ConfigError(
                f"{self._location}: is damaged: {place}: {first_problem(error)}"
            ) from error


class Summing(Database):
    """Sums up runs in the database."""

    @contextmanager
    def shown_trials(
        self,
        run_id: str,
        versions: Mapping[AgentName, int],
        *,
        apart: Collection[AgentName] = (),
        parts: bool = False,
    ) -> Iterator[ShownTrials]:
        """A run's finished trials, laid out for summing up as they are at this moment.

        Args:
            run_id: the run.
            versions: the scorer's version of each agent whose scores count.
            apart: agents whose held-out cases are summed up by themselves.
            parts: lay out the scores' parts as well, for `ShownTrials.answers`.
        """
        with self._engine.connect() as connection:
            _SHOWN.create(connection, checkfirst=False)
            try:
                query = _narrow(run_id, versions, apart, parts=parts)
                names = [column.name for column in query.selected_columns]
                connection.execute(sa.insert(_SHOWN).from_select(names, query))
                yield ShownTrials(self.location, connection)
            finally:
                connection.rollback()
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_SHOWN.name}")


def _narrow(
    run_id: str, versions: Mapping[AgentName, int], apart: Collection[AgentName], *, parts: bool
) -> sa.Select[Any]:
    t, r = TRIALS.c, RUN_TRIALS.c
    failed = SCORES.c.failure.is_not(None)
    cold, busy = t.start == "cold", t.busy.is_(True)
    crowded = sa.func.coalesce(t.concurrency, 1) > 1
    held_out: sa.ColumnElement[int] = sa.literal(0)
    if apart:
        split = CASES.c.content["split"].as_string()
        held_out = _flag(sa.and_(t.agent.in_(apart), split == "held_out"))
    query = (
        sa.select(
            t.agent,
            t.target,
            r.case_digest,
            held_out.label("held_out"),
            r.position,
            _flag(failed).label("failed"),
            _flag(sa.and_(failed, t.finish == "length")).label("cut"),
            _flag(sa.and_(failed, t.finish == "refusal")).label("refused"),
            _flag(sa.or_(cold, busy, crowded)).label("noisy"),
            _flag(crowded).label("crowded"),
            _flag(cold).label("cold"),
            _flag(busy).label("busy"),
            _flag(t.synthetic.is_(True)).label("synthetic"),
            _strange_field().label("strange"),
            t.concurrency,
            t.prompt_tokens,
            t.output_tokens,
            t.thinking_tokens,
            t.memory_bytes,
            SCORES.c.primary_value.label("score"),
            t.total_s,
            t.load_s,
            t.cost_usd,
            t.ended_at,
            *([sa.cast(SCORES.c.parts, sa.Text).label("parts")] if parts else []),
        )
        .select_from(RUN_TRIALS)
        .join(TRIALS, sa.and_(t.key == r.key, t.status == "done"))
        .outerjoin(
            SCORES,
            sa.and_(
                SCORES.c.key == r.key,
                SCORES.c.case_digest == r.case_digest,
                SCORES.c.scorer_version == sa.case(dict(versions), value=t.agent),
            ),
        )
        .where(r.run_id == run_id)
        .order_by(t.agent, t.target, "held_out", r.position)
    )
    return query.join(CASES, CASES.c.digest == r.case_digest) if apart else query


def _strange_field() -> sa.ColumnElement[str | None]:
    """The name of a field that holds what cannot be, where there is one."""
    t = TRIALS.c
    columns = {"score": SCORES.c.primary_value, **{n: t[n] for n in _MOST if n != "score"}}
    no_boolean = sa.and_(t.busy.is_not(None), t.busy.is_not(True), t.busy.is_not(False))
    return sa.case(
        *(
            (sa.not_(column.between(0, _MOST[name])), sa.literal_column(f"'{name}'"))
            for name, column in columns.items()
        ),
        (t.total_s.is_(None), sa.literal_column("'total_s'")),
        (
            sa.or_(t.finish.is_(None), t.finish.not_in(get_args(FinishReason))),
            sa.literal_column("'finish'"),
        ),
        (no_boolean, sa.literal_column("'busy'")),
    )


def _flag(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _figures_of(row: Mapping[str, Any]) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        known = row[f"known_{name}"]
        return float(row[f"sum_{name}"]) / known if known else None

    cost = mean("cost_usd") if row["known_cost_usd"] == row["n"] else None
    return {
        "n": row["n"],
        "failures": row["sum_failed"],
        "truncated": row["sum_cut"],
        "refused": row["sum_refused"],
        "clean": row["n"] - row["sum_noisy"],
        "cold": row["sum_cold"],
        "busy": row["sum_busy"],
        "crowded": row["sum_crowded"],
        "concurrency": row["concurrency"] or 1,
        # The order in which a database adds is its own, and with it the last digits of a sum.
        "cost_usd": None if cost is None else float(f"{cost:.13g}"),
        "memory_bytes": row["memory_bytes"],
        "prompt_tokens": mean("prompt_tokens"),
        "output_tokens": mean("output_tokens"),
        "thinking_tokens": mean("thinking_tokens"),
        "load_s": row["longest_load_s"],
        "synthetic": row["sum_synthetic"] > 0,
        "ended_at": row["ended_at"],
    }
