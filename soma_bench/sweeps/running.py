"""What a run's figures are while it still runs: progress, estimates, failures, spend, time left.

A run's trials are columns of numbers by their position in the plan, laid out once: however many
trials end, nothing grows, and every figure is worked out from the columns, so none can disagree.

A running estimate is the mean of the primary score so far with its 95 % interval, over the cases
that happen to be through. Each interval is sound where one looks once; who looks again and again and
stops at what he likes is not tested by it. A race (`soma_bench.sweeps.racing`) pays for its looks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soma_bench.errors import ConfigError
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.scoring.statistics import mean_interval
from soma_bench.scoring.statistics.intervals import MeanInterval
from soma_bench.sweeps.estimate import TrialKind, expected_time
from soma_bench.sweeps.plan import Plan, PlannedTrial
from soma_bench.sweeps.queries import (
    ANSWERED,
    OUTCOMES,
    UNSCORED,
    answers_of,
    figures_of,
    outcome_of,
    places,
    planned_cases,
)
from soma_bench.sweeps.scores import score_trial
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import RunRecord, ScoreRecord, Store
from soma_bench.types import AGENTS, AgentName

_OUTCOME = {name: index for index, name in enumerate(OUTCOMES)}

_WAITING = -1
_BASES = ("price list", "electricity")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What trials cost, in US dollars."""

    fees_usd: float = 0.0
    """By vendors' price lists."""
    electricity_usd: float = 0.0
    unknown: int = 0
    """Answered trials whose price nobody knows; they are in neither sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFigures:
    """One target at one agent, so far."""

    agent: AgentName
    target: str
    planned: int
    answered: int
    """Trials that were answered, those of earlier executions included."""
    backend_failures: int
    """Trials that the backend failed at; they run again with the next execution."""
    failures: Mapping[str, int]
    """Trials by class of failure, the backend's and the answers'."""
    metric: str
    estimate: MeanInterval | None
    """Mean of the primary score so far with its 95 % interval; None before there is a score."""
    cases: int
    """Cases that the estimate stands on."""
    mean_s: float | None
    """Mean time of a call so far."""
    seconds_left: float | None
    """For the trials that have not ended; None where neither this target nor its like was measured."""
    spend: Spend

    @property
    def ended(self) -> int:
        """Trials that need no more waiting."""
        return self.answered + self.backend_failures


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """A whole run, so far."""

    run_id: str
    targets: tuple[TargetFigures, ...]
    """Agent by agent, in the order of the sweep."""

    @property
    def planned(self) -> int:
        """Trials of the run."""
        return sum(row.planned for row in self.targets)

    @property
    def ended(self) -> int:
        """Trials that need no more waiting."""
        return sum(row.ended for row in self.targets)

    @property
    def backend_failures(self) -> int:
        """Trials that ended with a backend's failure."""
        return sum(row.backend_failures for row in self.targets)

    @property
    def spend(self) -> Spend:
        """What all of it cost so far."""
        rows = [row.spend for row in self.targets]
        return Spend(
            fees_usd=sum(row.fees_usd for row in rows),
            electricity_usd=sum(row.electricity_usd for row in rows),
            unknown=sum(row.unknown for row in rows),
        )

    @property
    def seconds_left(self) -> float:
        """For those targets of which it can be told; `untimed` counts the others."""
        return sum(row.seconds_left or 0.0 for row in self.targets)

    @property
    def untimed(self) -> int:
        """Targets that are not through and of which nobody can tell how long they take."""
        return sum(row.seconds_left is None for row in self.targets)


class RunningFigures:
    """Follows a run through the store.

    Args:
        store: the store; it is used by one thread.
        run: the run.
        executes: whether this process executes the run. Then scores are kept in the store as answers
            come, and stored failures, which run again, are not counted before they have. Who only
            watches writes nothing.
        expected_s: seconds of a trial by agent and target, for those that this run has not measured.

    Raises:
        ConfigError: the store does not hold a whole plan of the run.
    """

    def __init__(
        self,
        store: Store,
        run: RunRecord,
        *,
        executes: bool = False,
        expected_s: Mapping[TrialKind, float] | None = None,
    ) -> None:
        self._store, self._run, self._executes = store, run, executes
        self._expected_s = expected_s or {}
        sweep = sweep_from(dict(run.sweep), f"run {run.id}")
        cases: dict[str, list[Mapping[str, Any]]] = {}
        for case in planned_cases(store, run.id):
            cases.setdefault(case["agent"], []).append(case)
        self._groups: list[TrialKind] = [
            (agent, str(target))
            for agent in AGENTS
            if agent in sweep.suites
            for declared in sweep.targets
            if agent in (declared.agents or sweep.suites)
            for target in declared.targets()
        ]
        self._group_index = {group: index for index, group in enumerate(self._groups)}
        self._planned = [len(cases.get(agent, ())) * sweep.repeats for agent, _ in self._groups]
        count = store.planned_count(run.id)
        if sum(self._planned) != count:
            raise ConfigError(
                f"{store.location}: is damaged: run {run.id} declares {sum(self._planned)} trials"
                f" and plans {count}"
            )
        rows = [case for agent in cases for case in cases[agent]]
        self._case_index = {row["digest"]: index for index, row in enumerate(rows)}
        self._clusters = [row["cluster"] or row["id"] for row in rows]
        self._outcome = np.full(count, _WAITING, dtype=np.int16)
        self._group = np.full(count, -1, dtype=np.int32)
        self._case = np.full(count, -1, dtype=np.int32)
        self._score = np.full(count, np.nan)
        self._seconds = np.full(count, np.nan)
        self._cost = np.full(count, np.nan)
        self._basis = np.full(count, -1, dtype=np.int8)
        self._estimates: dict[int, tuple[int, int, MeanInterval]] = {}

    def read(self) -> None:
        """Take in whatever has ended since, whoever ran it.

        Raises:
            ConfigError: the store is damaged or gone.
        """
        failed = self._is_backend_failure(self._outcome)
        is_open = (self._outcome == _WAITING) | failed
        if not is_open.any():
            return
        since = int(is_open.argmax())
        new = [
            key
            for position, key, status in places(self._store, self._run.id, since)
            if is_open[position]
            and (status == "done" or (not failed[position] and not self._executes))
        ]
        self.take(new)

    def take(self, keys: Sequence[str]) -> None:
        """Take in trials that are known to have ended.

        Raises:
            ConfigError: the store is damaged or gone.
        """
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            rows = list(figures_of(self._store, self._run.id, some))
            self._put(rows)
            self._score_answers([row["key"] for row in rows if row["outcome"] == UNSCORED])

    def estimate(self, budget_s: float = float("inf")) -> bool:
        """Bring running estimates up to date, for about so long: an interval is worth milliseconds.

        Those that were never made come first, and at least one is made where one is due.

        Returns:
            Whether all are up to date.
        """
        began = time.monotonic()
        scored = self._sums(np.isfinite(self._score).astype(float))
        due = [
            index
            for index, count in enumerate(scored)
            if count and self._estimates.get(index, (0,))[0] != count
        ]
        due.sort(key=self._estimates.__contains__)
        for made, index in enumerate(due):
            if made and time.monotonic() - began > budget_s:
                return False
            values, clusters = self._values(index)
            interval = mean_interval(values, clusters=clusters)
            self._estimates[index] = (int(scored[index]), len(values), interval)
        return True

    def snapshot(self) -> RunFigures:
        """The figures as they are now."""
        known = self._group >= 0
        shape = (len(self._groups), len(OUTCOMES))
        counts = np.zeros(shape, dtype=np.int64)
        np.add.at(counts, (self._group[known], self._outcome[known]), 1)
        seconds = self._sums(self._seconds)
        timed = self._sums(np.isfinite(self._seconds).astype(float))
        costs = [self._sums(np.where(self._basis == code, self._cost, np.nan)) for code in (0, 1)]
        priced = self._sums((self._basis >= 0).astype(float))
        targets = []
        for index, (agent, target) in enumerate(self._groups):
            ended = counts[index]
            backend = int(self._backend_counts(ended).sum())
            answered = int(ended.sum()) - backend
            _, cases, interval = self._estimates.get(index, (0, 0, None))
            mean_s = float(seconds[index] / timed[index]) if timed[index] else None
            expected = mean_s if mean_s is not None else self._expected_s.get((agent, target))
            left = self._planned[index] - answered - backend
            targets.append(
                TargetFigures(
                    agent=agent,  # type: ignore[arg-type]
                    target=target,
                    planned=self._planned[index],
                    answered=answered,
                    backend_failures=backend,
                    failures=_failures(ended),
                    metric=SCORER_BY_AGENT[agent].primary,  # type: ignore[index]
                    estimate=interval,
                    cases=cases,
                    mean_s=mean_s,
                    seconds_left=0.0 if not left else None if expected is None else left * expected,
                    spend=Spend(
                        fees_usd=float(costs[0][index]),
                        electricity_usd=float(costs[1][index]),
                        unknown=answered - int(priced[index]),
                    ),
                )
            )
        return RunFigures(run_id=self._run.id, targets=tuple(targets))

    def _put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        at = [row["position"] for row in rows]
        try:
            self._group[at] = [self._group_index[row["agent"], row["target"]] for row in rows]
            self._case[at] = [self._case_index[row["case_digest"]] for row in rows]
        except KeyError as error:
            raise ConfigError(
                f"{self._store.location}: is damaged: run {self._run.id} holds trials of"
                f" {error.args[0]}, which it does not declare"
            ) from error
        self._outcome[at] = [_OUTCOME[row["outcome"]] for row in rows]
        # numpy writes what nobody said, None, as not a number.
        self._score[at] = [row["score"] for row in rows]
        self._seconds[at] = [row["total_s"] for row in rows]
        self._cost[at] = [row["cost_usd"] for row in rows]
        self._basis[at] = [_basis(row) for row in rows]

    def _score_answers(self, keys: Sequence[str]) -> None:
        scores: list[ScoreRecord] = []
        for row in answers_of(self._store, self._run.id, keys):
            score = score_trial(row)
            scores.append(score)
            self._score[row["position"]] = score.primary_value
            self._outcome[row["position"]] = _OUTCOME[outcome_of(row["finish"], score.failure)]
        if self._executes:
            self._store.save_scores(scores)

    def _values(self, group: int) -> tuple[list[list[float]], list[str]]:
        """The group's scores case by case, and each case's cluster."""
        here = np.flatnonzero((self._group == group) & np.isfinite(self._score))
        by_case: dict[int, list[float]] = {}
        for case, score in zip(self._case[here], self._score[here], strict=True):
            by_case.setdefault(int(case), []).append(float(score))
        return list(by_case.values()), [self._clusters[case] for case in by_case]

    def _sums(self, column: np.ndarray) -> np.ndarray:
        """Sums by group over the trials that have ended; what is not a number counts nothing."""
        known = self._group >= 0
        weights = np.nan_to_num(column[known])
        return np.bincount(self._group[known], weights=weights, minlength=len(self._groups))

    @staticmethod
    def _is_backend_failure(outcomes: np.ndarray) -> np.ndarray:
        return outcomes > _OUTCOME[UNSCORED]

    @staticmethod
    def _backend_counts(counts: np.ndarray) -> np.ndarray:
        return counts[_OUTCOME[UNSCORED] + 1 :]


def expected_seconds(
    plan: Plan, *, finished: set[str], mean_seconds: Mapping[TrialKind, float]
) -> dict[TrialKind, float]:
    """Seconds of a trial by agent and target, as `soma_bench.sweeps.estimate` reckons them.

    Measured where the store has any, else predicted upper bounds; a target is left out where nobody
    can tell.
    """
    groups: dict[TrialKind, list[PlannedTrial]] = {}
    for trial in plan.trials:
        if trial.key not in finished:
            groups.setdefault((trial.agent, str(trial.target)), []).append(trial)
    expected = {}
    for group, trials in groups.items():
        seconds, _ = expected_time(plan, trials, mean_seconds)
        if seconds is not None:
            expected[group] = seconds / len(trials)
    return expected


def _basis(row: Mapping[str, Any]) -> int:
    """Index of what the price was made by; -1 for a price that nobody knows."""
    known = row["cost_usd"] is not None and row["cost_basis"] in _BASES
    return _BASES.index(row["cost_basis"]) if known else -1


def _failures(counts: Iterable[int]) -> dict[str, int]:
    """Trials by class of failure, those that occur."""
    return {
        name: int(count)
        for name, count in zip(OUTCOMES, counts, strict=True)
        if count and name not in (ANSWERED, UNSCORED)
    }
