"""Reading runs, trials and scores row by row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from soma_bench.errors import ConfigError
from soma_bench.sweeps.store.database import Database
from soma_bench.sweeps.store.records import (
    LOOK,
    RUN,
    SCORE,
    TRIAL,
    LookRecord,
    RunProgress,
    RunRecord,
    ScoreRecord,
)
from soma_bench.sweeps.store.tables import CASES, HEAD, LOOKS, RUN_TRIALS, RUNS, SCORES, TRIALS
from soma_bench.types import AgentName, Usage

_JOINED = frozenset({"suite", "case_digest", "case"})
"""What `Reading.trials` gives beside the fields of a trial."""


class Reading(Database):
    """Reads what was written, and names what is damaged."""

    def latest_epoch(self, plan_digest: str) -> int | None:
        """How often the sweep with this digest was started anew; None if it never ran."""
        query = sa.select(sa.func.max(RUNS.c.epoch)).where(RUNS.c.plan_digest == plan_digest)
        with self._engine.connect() as connection:
            epoch = connection.execute(query).scalar()
        if epoch is not None and not isinstance(epoch, int):
            raise ConfigError(
                f"{self.location}: is damaged: a run's epoch is {epoch!r}, not a number"
            )
        return epoch

    def runs(self) -> list[RunRecord]:
        """All runs, the newest last."""
        rows = self.rows(sa.select(RUNS).order_by(RUNS.c.started_at, RUNS.c.id))
        return [self._record(RUN, row, f"run {row['id']}") for row in rows]

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

    @property
    def version(self) -> str:
        """The version of the store's tables."""
        return HEAD

    def progress(self) -> list[RunProgress]:
        """How far every run has come, the newest last."""
        ended = {
            name: sa.func.count(sa.case((TRIALS.c.status == status, 1))).label(name)
            for name, status in (("done", "done"), ("failed", "error"))
        }
        query = (
            sa.select(
                RUNS.c.id,
                RUNS.c.started_at,
                sa.func.count(RUN_TRIALS.c.key).label("planned"),
                *ended.values(),
            )
            .join(RUN_TRIALS, RUN_TRIALS.c.run_id == RUNS.c.id)
            .outerjoin(TRIALS, TRIALS.c.key == RUN_TRIALS.c.key)
            .group_by(RUNS.c.id, RUNS.c.started_at)
            .order_by(RUNS.c.started_at, RUNS.c.id)
        )
        return [RunProgress(**row) for row in self.rows(query)]

    def planned_count(self, run_id: str) -> int:
        """How many trials the run has in all."""
        query = sa.select(sa.func.count()).where(RUN_TRIALS.c.run_id == run_id)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def finished_keys(self, run_id: str) -> set[str]:
        """Keys of the run's trials that need not run again, whichever run they ran in."""
        query = (
            sa.select(RUN_TRIALS.c.key)
            .join(TRIALS, TRIALS.c.key == RUN_TRIALS.c.key)
            .where(RUN_TRIALS.c.run_id == run_id, TRIALS.c.status == "done")
        )
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def finished_positions(self, run_id: str) -> Iterator[int]:
        """Places in the plan of the run's trials that need not run again, in no order."""
        query = (
            sa.select(RUN_TRIALS.c.position)
            .join(TRIALS, TRIALS.c.key == RUN_TRIALS.c.key)
            .where(RUN_TRIALS.c.run_id == run_id, TRIALS.c.status == "done")
        )
        return (row["position"] for row in self.rows(query))

    def identities(self, agents: Collection[str]) -> Iterator[Mapping[str, Any]]:
        """What decided the answers of all trials of some agents, of whichever run."""
        names = (
            *("key", "agent", "case_id", "repeat", "status", "error"),
            *("provider", "request", "identity"),
        )
        columns = (TRIALS.c[name] for name in names)
        return self.rows(sa.select(*columns).where(TRIALS.c.agent.in_(agents)))

    def fees_usd(self, run_id: str) -> float:
        """What vendors were paid for the run's trials, as far as it is known, in US dollars."""
        query = (
            sa.select(sa.func.sum(TRIALS.c.cost_usd))
            .join(RUN_TRIALS, RUN_TRIALS.c.key == TRIALS.c.key)
            .where(RUN_TRIALS.c.run_id == run_id, TRIALS.c.cost_basis == "price list")
        )
        with self._engine.connect() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def trials(
        self, run_id: str, *, without_score: Mapping[AgentName, int] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """The run's trials that have ended, in the order of the plan, each with its case.

        Every mapping has the fields of `TrialRecord` and ``suite``, ``case_digest``, ``case``.

        Args:
            run_id: the run.
            without_score: a scorer's version by agent; only finished trials that have no score of
                that version are wanted.
        """
        query = (
            sa.select(
                TRIALS,
                RUN_TRIALS.c.suite,
                RUN_TRIALS.c.case_digest,
                CASES.c.content.label("case"),
            )
            .join(RUN_TRIALS, RUN_TRIALS.c.key == TRIALS.c.key)
            .join(CASES, CASES.c.digest == RUN_TRIALS.c.case_digest)
            .where(RUN_TRIALS.c.run_id == run_id)
            .order_by(RUN_TRIALS.c.position)
        )
        if without_score is not None:
            scored = sa.exists().where(
                SCORES.c.key == TRIALS.c.key,
                SCORES.c.case_digest == RUN_TRIALS.c.case_digest,
                SCORES.c.scorer_version == sa.case(dict(without_score), value=TRIALS.c.agent),
            )
            query = query.where(TRIALS.c.status == "done", ~scored)
        for row in self.rows(query):
            trial = {name: row[name] for name in row if name not in _JOINED}
            record = self._record(TRIAL, trial, f"trial {row['key']}")
            if record.status == "done" and None in (record.answer, record.finish, record.total_s):
                raise ConfigError(f"{self.location}: trial {record.key}: is done without an answer")
            if not isinstance(row["case"], dict):
                raise ConfigError(f"{self.location}: is damaged: the case of {record.key} is none")
            yield {**row, **{name: getattr(record, name) for name in trial}}

    def cases(self, run_id: str) -> dict[str, str]:
        """The run's cases as JSON, by their digest."""
        planned = sa.select(RUN_TRIALS.c.case_digest).where(RUN_TRIALS.c.run_id == run_id)
        query = sa.select(CASES.c.digest, sa.cast(CASES.c.content, sa.Text).label("content"))
        rows = self.rows(query.where(CASES.c.digest.in_(planned)))
        return {row["digest"]: row["content"] for row in rows}

    def scores(self, run_id: str) -> Iterator[ScoreRecord]:
        """All scores of the run's trials by the run's own cases, of every scorer version."""
        query = (
            sa.select(SCORES)
            .join(
                RUN_TRIALS,
                (RUN_TRIALS.c.key == SCORES.c.key)
                & (RUN_TRIALS.c.case_digest == SCORES.c.case_digest),
            )
            .where(RUN_TRIALS.c.run_id == run_id)
        )
        for row in self.rows(query):
            yield self._record(SCORE, row, f"score of trial {row['key']}")

    def looks(self, run_id: str) -> dict[AgentName, list[LookRecord]]:
        """The looks of a raced run by agent, in their order; empty for a run that was not raced."""
        found: dict[AgentName, list[LookRecord]] = {}
        query = sa.select(*(c for c in LOOKS.c if c is not LOOKS.c.run_id))
        query = query.where(LOOKS.c.run_id == run_id).order_by(LOOKS.c.agent, LOOKS.c.look)
        for row in self.rows(query):
            record = self._record(LOOK, row, f"look {row['look']} of {row['agent']}")
            found.setdefault(record.agent, []).append(record)
        return found

    def mean_seconds(self) -> dict[tuple[str, str], float]:
        """Mean measured time of a call by agent and target, over all finished trials, in seconds."""
        query = (
            sa.select(TRIALS.c.agent, TRIALS.c.target, sa.func.avg(TRIALS.c.total_s))
            .where(TRIALS.c.status == "done")
            .group_by(TRIALS.c.agent, TRIALS.c.target)
        )
        with self._engine.connect() as connection:
            return {(agent, target): mean for agent, target, mean in connection.execute(query)}

    def mean_usage(self) -> dict[tuple[str, str], Usage]:
        """Mean tokens of a call by agent and target, over all finished trials that counted them."""
        counted = (
            TRIALS.c.prompt_tokens,
            TRIALS.c.cached_tokens,
            TRIALS.c.cache_write_tokens,
            TRIALS.c.output_tokens,
        )
        query = (
            sa.select(TRIALS.c.agent, TRIALS.c.target, *map(sa.func.avg, counted))
            .where(TRIALS.c.status == "done")
            .where(TRIALS.c.prompt_tokens.is_not(None), TRIALS.c.output_tokens.is_not(None))
            .group_by(TRIALS.c.agent, TRIALS.c.target)
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
