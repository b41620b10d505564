"""Writing to the store. Whatever is written twice is there once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cached_property
from itertools import islice
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from soma_bench.sweeps.store.database import Database
from soma_bench.sweeps.store.records import (
    LookRecord,
    PlannedRow,
    RunRecord,
    ScoreRecord,
    TrialRecord,
    row_of,
)
from soma_bench.sweeps.store.schema import lock
from soma_bench.sweeps.store.tables import CASES, LOOKS, RUN_TRIALS, RUNS, SCORES, TRIALS
from soma_bench.types import AgentName

_ROWS_AT_ONCE = 1000
"""Rows of a plan that are held while it is written."""


class Writing(Database):
    """Keeps runs, trials, scores and looks.

    Many may write at once. Rows of one transaction go in the order of their keys, so that no two
    writers wait for each other.
    """

    def begin_run(self, run: RunRecord, planned: Iterable[PlannedRow]) -> None:
        """Record a run and its plan in one transaction, some rows at a time.

        A run that is there already stays, and its plan is not read.
        """
        rows = iter(planned)
        with self._engine.begin() as connection:
            # Two runs may bring the same cases in different orders: one of them waits here.
            lock(connection)
            begun = self._insert(RUNS).on_conflict_do_nothing().values(row_of(run))
            if connection.execute(begun).rowcount == 0:
                return
            position = 0
            while part := list(islice(rows, _ROWS_AT_ONCE)):
                cases = [
                    {"digest": row.case_digest, "agent": row.agent, "content": row.case}
                    for row in part
                    if row.case is not None
                ]
                places = [
                    {
                        "run_id": run.id,
                        "key": row.key,
                        "position": place,
                        "case_digest": row.case_digest,
                        "suite": row.suite,
                    }
                    for place, row in enumerate(part, start=position)
                ]
                for table, values in ((CASES, cases), (RUN_TRIALS, places)):
                    if values:
                        connection.execute(self._insert(table).on_conflict_do_nothing(), values)
                position += len(part)

    def record(self, trial: TrialRecord) -> None:
        """Keep a trial that has ended. A finished row is never replaced; an error row is."""
        self.record_many([trial])

    def record_many(self, trials: Iterable[TrialRecord]) -> None:
        """Keep trials that have ended, all of them or none, in one transaction.

        A finished row is never replaced; an error row is. So a batch may be given again.
        """
        rows = sorted(map(row_of, trials), key=itemgetter("key"))
        if not rows:
            return
        self._execute(self._keep_trial, rows)

    @cached_property
    def _keep_trial(self) -> Any:
        """Made once, because making it takes longer than writing a trial."""
        insert = self._insert(TRIALS)
        names = (field.name for field in fields(TrialRecord) if field.name != "key")
        return insert.on_conflict_do_update(
            index_elements=["key"],
            set_={name: insert.excluded[name] for name in names},
            where=TRIALS.c.status == "error",
        )

    def save_scores(self, scores: Iterable[ScoreRecord]) -> None:
        """Keep scores, replacing those of the same trial, case and scorer version."""
        rows = sorted(map(row_of, scores), key=itemgetter("key"))
        if not rows:
            return
        insert = self._insert(SCORES)
        values = ("primary_value", "failure", "parts")
        statement = insert.on_conflict_do_update(
            index_elements=["key", "case_digest", "scorer_version"],
            set_={name: insert.excluded[name] for name in values},
        )
        self._execute(statement, rows)

    def save_looks(self, run_id: str, agent: AgentName, looks: Sequence[LookRecord]) -> None:
        """Keep the looks of a race at one agent, in place of those that were kept before."""
        rows = [{"run_id": run_id, **row_of(look)} for look in looks]
        old = sa.delete(LOOKS).where(LOOKS.c.run_id == run_id, LOOKS.c.agent == agent)
        with self._engine.begin() as connection:
            connection.execute(old)
            if rows:
                connection.execute(sa.insert(LOOKS), rows)

    def _execute(self, statement: Any, rows: Sequence[dict[str, Any]]) -> None:
        with self._engine.begin() as connection:
            connection.execute(statement, rows)
