"""Looking into a stored run: pages of trials by filter, one trial whole, how a run's trials ended.

Everything is picked, ordered and cut in SQL, and the long texts of a trial (request, answer,
thinking) are read when that one trial is asked for, so a run of 100,000 trials opens at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from soma_bench.errors import ConfigError, ProviderFailure
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.scores import SCORER_VERSIONS, FailureKind
from soma_bench.sweeps.store import Store
from soma_bench.sweeps.store.tables import CASES, RUN_TRIALS, SCORES, TRIALS
from soma_bench.types import AgentName

ANSWERED, UNSCORED, OTHER_FAILURE = "answered", "unscored", "backend"
OUTCOMES: tuple[str, ...] = (
    ANSWERED,
    *get_args(FailureKind),
    UNSCORED,
    *(kind for kind in get_args(ProviderFailure) if kind != OTHER_FAILURE),
    OTHER_FAILURE,
)
"""How a trial can have ended: it was ``answered``; its answer failed (`FailureKind`); it has no score
of the current scorer yet (``unscored``); or the backend failed (`ProviderFailure`)."""

Order = Literal["plan", "worst", "slowest"]
"""In the order of the plan; lowest score first, unscored ones last; longest call first."""

_MOST_ROWS = 500
"""Rows of a page: more than anyone reads at once."""
_FINISH_KINDS: Mapping[str, FailureKind] = {"length": "truncated", "refusal": "refused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFilter:
    """Which trials of a run are wanted; what is None or empty leaves all in."""

    agent: AgentName | None = None
    target: str | None = None
    """A whole target, such as ``ollama:qwen3:8b?thinking=off``."""
    case: str = ""
    """Part of a case's id."""
    outcome: str | None = None
    """One of `OUTCOMES`."""
    score_low: float | None = None
    """Lowest primary score, from 0 to 1; unscored trials are left out."""
    score_high: float | None = None
    text: str = ""
    """Part of the answer, the thinking or the error, in whichever case of letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One line of a table of trials. Seconds end in ``_s``; None is what nobody said."""

    key: str
    agent: AgentName
    target: str
    case_id: str
    repeat: int
    outcome: str
    """One of `OUTCOMES`."""
    score: float | None
    """Primary score by the current scorer, in [0, 1]; None for a trial without one."""
    total_s: float | None
    output_tokens: int | None
    cost_usd: float | None
    cold: bool
    """Whether this call loaded its model."""
    busy: bool
    """Whether other programs used so much of the machine that its latency is not to be relied on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the trials that a filter leaves in."""

    rows: tuple[TrialRow, ...]
    total: int
    """Trials that the filter leaves in."""
    offset: int
    """Trials before the first of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How many trials of a target ended in one way."""

    agent: AgentName
    target: str
    outcome: str
    count: int


def outcome_of(finish: str | None, failure: str | None) -> str:
    """The outcome of a trial that was answered and scored.

    Args:
        finish: how the answer ended, as the trial says.
        failure: why it could not be read, as its score says; None where it was read.
    """
    return ANSWERED if failure is None else _FINISH_KINDS.get(finish or "", "unparsed")


def ended_counts(store: Store, run_id: str) -> list[Ended]:
    """How the run's trials ended, counted by agent, target and outcome."""
    # Grouped by its name: PostgreSQL takes the same expression with its parameters for another one.
    query = (
        _of_run(run_id, TRIALS.c.agent, TRIALS.c.target, _outcome().label("outcome"))
        .add_columns(sa.func.count().label("count"))
        .group_by(TRIALS.c.agent, TRIALS.c.target, "outcome")
        .order_by(TRIALS.c.agent, TRIALS.c.target, "outcome")
    )
    return [Ended(**row) for row in store.rows(query)]


def trial_page(
    store: Store,
    run_id: str,
    wanted: TrialFilter,
    *,
    order: Order = "plan",
    offset: int = 0,
    limit: int = 50,
) -> Page:
    """One page of a run's trials that have ended.

    Args:
        store: the store.
        run_id: the run's id.
        wanted: which trials.
        order: what comes first.
        offset: trials before the page.
        limit: most trials on the page, 1 to 500.

    Raises:
        ConfigError: the filter, the order or the page is none that there can be.
    """
    _check(wanted, order, offset, limit)
    conditions = _conditions(wanted)
    # The page is picked by its keys alone: whole rows would be carried through the sort.
    picked = (
        _of_run(run_id, RUN_TRIALS.c.key)
        .where(*conditions)
        .order_by(*_ordering(order))
        .limit(limit)
        .offset(offset)
    )
    keys = [row["key"] for row in store.rows(picked)]
    count = _of_run(run_id).add_columns(sa.func.count().label("count")).where(*conditions)
    (counted,) = store.rows(count)
    return Page(rows=_rows_of(store, run_id, keys), total=counted["count"], offset=offset)


def same_case(store: Store, run_id: str, key: str) -> tuple[TrialRow, ...]:
    """All trials of the run on the case that the trial ``key`` was on, in the order of the plan.

    Raises:
        ConfigError: the run has no such trial that has ended.
    """
    trial = _only(store, run_id, key, _of_run(run_id, *_SAME))
    query = (
        _of_run(run_id, RUN_TRIALS.c.key)
        .where(*(column == trial[column.name] for column in _SAME))
        .order_by(RUN_TRIALS.c.position)
    )
    return _rows_of(store, run_id, [row["key"] for row in store.rows(query)])


def whole_trial(store: Store, run_id: str, key: str) -> Mapping[str, Any]:
    """Everything that is stored of one trial.

    Returns:
        The fields of `TrialRecord` with ``suite``, ``case``, ``outcome``, and ``score``, ``failure``
        and ``parts`` of the current scorer's verdict, None where there is none.

    Raises:
        ConfigError: the run has no such trial that has ended.
    """
    query = _of_run(
        run_id,
        *TRIALS.c,
        RUN_TRIALS.c.suite,
        CASES.c.content.label("case"),
        _outcome().label("outcome"),
        SCORES.c.primary_value.label("score"),
        SCORES.c.failure,
        SCORES.c.parts,
    ).join(CASES, CASES.c.digest == RUN_TRIALS.c.case_digest)
    return _only(store, run_id, key, query)


def places(store: Store, run_id: str, since: int = 0) -> Iterator[tuple[int, str, str]]:
    """Position in the plan, key and status of the trials that have ended, from a position on."""
    columns = (RUN_TRIALS.c.position, RUN_TRIALS.c.key, TRIALS.c.status)
    query = _of_run(run_id, *columns).where(RUN_TRIALS.c.position >= since)
    for row in store.rows(query):
        yield row["position"], row["key"], row["status"]


def planned_cases(store: Store, run_id: str) -> Iterator[Mapping[str, Any]]:
    """The run's cases in the order of the plan: ``digest, agent, id, cluster``."""
    first = (
        sa.select(
            RUN_TRIALS.c.case_digest.label("digest"),
            sa.func.min(RUN_TRIALS.c.position).label("position"),
        )
        .where(RUN_TRIALS.c.run_id == run_id)
        .group_by(RUN_TRIALS.c.case_digest)
        .subquery()
    )
    query = (
        sa.select(
            CASES.c.digest,
            CASES.c.agent,
            CASES.c.content["id"].as_string().label("id"),
            CASES.c.content["cluster"].as_string().label("cluster"),
        )
        .join(first, first.c.digest == CASES.c.digest)
        .order_by(first.c.position)
    )
    yield from store.rows(query)


def figures_of(store: Store, run_id: str, keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The figures of trials that have ended, without their texts.

    Each mapping has ``position, key, agent, target, case_digest, repeat, outcome, score, total_s,
    cost_usd, cost_basis``.
    """
    trial = TRIALS.c
    query = _of_run(
        run_id,
        *(RUN_TRIALS.c.position, RUN_TRIALS.c.key, RUN_TRIALS.c.case_digest),
        *(trial.agent, trial.target, trial.repeat, trial.total_s, trial.cost_usd, trial.cost_basis),
        SCORES.c.primary_value.label("score"),
        _outcome().label("outcome"),
    )
    for some in _batches(keys):
        yield from store.rows(query.where(RUN_TRIALS.c.key.in_(some)))


def answers_of(store: Store, run_id: str, keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """What scoring takes of finished trials.

    Each mapping has ``position, key, agent, case_digest, answer, finish, total_s, case``.
    """
    trial = TRIALS.c
    query = _of_run(
        run_id,
        *(RUN_TRIALS.c.position, RUN_TRIALS.c.key, RUN_TRIALS.c.case_digest),
        *(trial.agent, trial.answer, trial.finish, trial.total_s),
        CASES.c.content.label("case"),
    ).join(CASES, CASES.c.digest == RUN_TRIALS.c.case_digest)
    for some in _batches(keys):
        yield from store.rows(query.where(RUN_TRIALS.c.key.in_(some)))


_SAME = (TRIALS.c.agent, TRIALS.c.case_id)


def _of_run(run_id: str, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The run's trials that have ended, each with its score by the current scorer, if it has one."""
    joined = RUN_TRIALS.join(TRIALS, TRIALS.c.key == RUN_TRIALS.c.key).outerjoin(
        SCORES,
        (SCORES.c.key == RUN_TRIALS.c.key)
        & (SCORES.c.case_digest == RUN_TRIALS.c.case_digest)
        & (SCORES.c.scorer_version == _current_version()),
    )
    return sa.select(*columns).select_from(joined).where(RUN_TRIALS.c.run_id == run_id)


def _only(store: Store, run_id: str, key: str, query: sa.Select[Any]) -> Mapping[str, Any]:
    """The row of the trial ``key``."""
    rows = list(store.rows(query.where(RUN_TRIALS.c.key == key)))
    if not rows:
        raise ConfigError(f"run {run_id} has no trial {key!r} that has ended")
    return rows[0]


def _current_version() -> sa.ColumnElement[Any]:
    return sa.case(dict(SCORER_VERSIONS), value=TRIALS.c.agent)


def _outcome() -> sa.ColumnElement[Any]:
    """`OUTCOMES` in SQL; ``finish``, which stands behind the long texts, is read for failures only."""
    known = [kind for kind in get_args(ProviderFailure) if kind != OTHER_FAILURE]
    failed = sa.case(
        *((TRIALS.c.error.startswith(f"{kind}:", autoescape=True), kind) for kind in known),
        else_=OTHER_FAILURE,
    )
    return sa.case(
        (TRIALS.c.status == "error", failed),
        (SCORES.c.primary_value.is_(None), UNSCORED),
        (SCORES.c.failure.is_(None), ANSWERED),
        else_=sa.case(_FINISH_KINDS, value=TRIALS.c.finish, else_="unparsed"),
    )


def _rows_of(store: Store, run_id: str, keys: Sequence[str]) -> tuple[TrialRow, ...]:
    trial = TRIALS.c
    plain = (
        *(RUN_TRIALS.c.key, trial.agent, trial.target, trial.case_id, trial.repeat),
        *(trial.total_s, trial.output_tokens, trial.cost_usd),
    )
    query = _of_run(
        run_id,
        *plain,
        _outcome().label("outcome"),
        SCORES.c.primary_value.label("score"),
        sa.func.coalesce(trial.start == "cold", False).label("cold"),
        sa.func.coalesce(trial.busy, False).label("busy"),
    ).where(RUN_TRIALS.c.key.in_(keys))
    found = {row["key"]: row for row in store.rows(query)}
    return tuple(
        TrialRow(
            **{**found[key], "cold": bool(found[key]["cold"]), "busy": bool(found[key]["busy"])}
        )
        for key in keys
        if key in found
    )


def _ordering(order: Order) -> tuple[sa.ColumnElement[Any], ...]:
    position = RUN_TRIALS.c.position
    if order == "worst":
        return (SCORES.c.primary_value.asc().nulls_last(), position)
    if order == "slowest":
        return (TRIALS.c.total_s.desc().nulls_last(), position)
    return (position,)


def _conditions(wanted: TrialFilter) -> list[sa.ColumnElement[bool]]:
    score = SCORES.c.primary_value
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.agent is not None:
        conditions.append(TRIALS.c.agent == wanted.agent)
    if wanted.target is not None:
        conditions.append(TRIALS.c.target == wanted.target)
    if wanted.case:
        conditions.append(TRIALS.c.case_id.contains(wanted.case, autoescape=True))
    if wanted.outcome is not None:
        conditions.append(_outcome() == wanted.outcome)
    if wanted.score_low is not None:
        conditions.append(score >= wanted.score_low)
    if wanted.score_high is not None:
        conditions.append(score <= wanted.score_high)
    if wanted.text:
        texts = (TRIALS.c.answer, TRIALS.c.thoughts, TRIALS.c.error)
        conditions.append(
            sa.or_(*(column.icontains(wanted.text, autoescape=True) for column in texts))
        )
    return conditions


def _check(wanted: TrialFilter, order: str, offset: int, limit: int) -> None:
    if wanted.agent is not None and wanted.agent not in SCORER_BY_AGENT:
        raise ConfigError(f"agent {wanted.agent!r} is none of {', '.join(SCORER_BY_AGENT)}")
    if wanted.outcome is not None and wanted.outcome not in OUTCOMES:
        raise ConfigError(f"outcome {wanted.outcome!r} is none of {', '.join(OUTCOMES)}")
    low = 0.0 if wanted.score_low is None else wanted.score_low
    high = 1.0 if wanted.score_high is None else wanted.score_high
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"scores from {low:g} to {high:g} are no range within 0 to 1")
    if order not in get_args(Order):
        raise ConfigError(f"order {order!r} is none of {', '.join(get_args(Order))}")
    if offset < 0 or not 1 <= limit <= _MOST_ROWS:
        raise ConfigError(
            f"a page of {limit} trials after {offset} cannot be shown;"
            f" take 1 to {_MOST_ROWS} after 0 or more"
        )


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Keys in portions that every database takes as one list."""
    for start in range(0, len(keys), _MOST_ROWS):
        yield keys[start : start + _MOST_ROWS]
