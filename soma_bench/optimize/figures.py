"""What many assignments of primaries come to, all at once, in exact whole units.

An assignment is a row of five indices into the candidates of each agent. Where models may be
swapped, one assignment can be run in several ways: each says which stages load their model. The
rules are those of `soma_bench.optimize.residency`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, QUALITY_UNITS, Candidate
from soma_bench.optimize.goals import Step
from soma_bench.optimize.problem import Problem
from soma_bench.optimize.residency import READERS, previous
from soma_bench.optimize.table import Demand, DemandKind, Table
from soma_bench.routing.constraints import Pipeline, Weighted, chains
from soma_bench.types import AGENTS

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

ColumnLimit = tuple[Sequence[Whole], int]
"""For each agent its primaries' figures, and the most that these may sum up to."""

NO_MODEL = -1
"""Stands for a model that takes no memory here: someone else's machine has it."""

_LARGEST = 2.0**60


class GivenUp(Exception):  # noqa: N818 - nothing is wrong: the solver takes over
    """There is more to look at than is quick, or a figure too large for whole numbers of 64 bits."""


_STAGES = np.arange(len(AGENTS))
_PATTERNS: Flags = (np.arange(1 << len(AGENTS))[:, None] >> _STAGES & 1).astype(bool)
"""All ways to say of each stage whether it loads its model; the first loads none."""
_FIRST, _SECOND = (AGENTS.index(agent) for agent in READERS)


class Models:
    """The local models by number, with what each takes; the last entry is for ``NO_MODEL``."""

    def __init__(self, table: Table) -> None:
        local = {c.model for group in table.candidates.values() for c in group if c.is_local}
        self.numbers = {model: number for number, model in enumerate(sorted(local))}
        self.size: Whole = np.array([*(table.memory[m] or 0 for m in self.numbers), 0])
        self.load: Whole = np.array([*(table.load[m] or 0 for m in self.numbers), 0])
        self.may_load: Flags = np.array(
            [*(table.load[model] is not None for model in self.numbers), False]
        )

    def of(self, candidates: Sequence[Candidate]) -> Whole:
        """The number of each candidate's model."""
        return np.array([self.numbers.get(c.model, NO_MODEL) for c in candidates], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Stages:
    """What serves each stage; one row for each pipeline looked at, one column for each agent."""

    answer: Whole
    """Microseconds that the answer takes, nobody in the way."""
    model: Whole
    local: Flags
    away: Flags
    """Whether the stage's model is loaded for it."""

    def take(self, rows: Any) -> Stages:
        """Some of the rows."""
        return Stages(self.answer[rows], self.model[rows], self.local[rows], self.away[rows])


@dataclass(frozen=True, slots=True)
class Runs:
    """Ways to run assignments."""

    picks: Whole
    """Index of each agent's primary."""
    stages: Stages
    resident: Whole
    """Bytes of the models that stay in memory."""
    loaded: Whole
    """The most bytes that are loaded beside these at once."""

    def __len__(self) -> int:
        return len(self.picks)

    def take(self, rows: Any) -> Runs:
        """Some of the rows."""
        return Runs(
            self.picks[rows], self.stages.take(rows), self.resident[rows], self.loaded[rows]
        )


class Figures:
    """The candidates' figures of one problem as arrays."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.table = problem.table
        self.models = Models(problem.table)
        self._swaps = problem.may_swap
        groups = [problem.primaries[agent] for agent in AGENTS]
        self._answer = _padded([[c.latency for c in group] for group in groups])
        self._model = _padded([self.models.of(group) for group in groups])
        self._local = _padded([[c.is_local for c in group] for group in groups]).astype(bool)
        self._loss = _padded([[QUALITY_UNITS - c.quality for c in group] for group in groups])
        self._price = _padded([[c.cost or 0 for c in group] for group in groups])
        self._unpriced = _padded([[c.cost is None for c in group] for group in groups])

    @property
    def all_priced(self) -> bool:
        """Whether all primaries' prices are known."""
        return not self._unpriced.any()

    def limits(self) -> list[ColumnLimit]:
        """The limits on sums over the primaries: what is cheaply seen of those that must hold."""
        counts = [len(self.problem.primaries[agent]) for agent in AGENTS]
        answer, price = (
            [column[stage, :count] for stage, count in enumerate(counts)]
            for column in (self._answer, self._price)
        )
        limits: list[ColumnLimit] = []
        most_cost, most_latency = self.problem.limit("cost"), self.problem.limit("latency")
        if most_cost is not None:
            limits.append((price, most_cost))
        if most_latency is not None:
            for chain in chains(self.table.pipeline):
                waits = [
                    figures * (agent in chain)
                    for agent, figures in zip(AGENTS, answer, strict=True)
                ]
                limits.append((waits, most_latency))
        return limits

    def runs(self, picks: Whole) -> Runs:
        """The ways to run these assignments that hold the limits, fallbacks left out.

        Where an assignment needs nothing swapped and has no fallback to make room for, that is its
        only way: any other is slower.
        """
        problem = self.problem
        for column, most in (
            (self._price, problem.limit("cost")),
            (self._price, problem.most_price),
            (self._loss, problem.most_loss),
        ):
            if most is not None:
                picks = picks[self._sum(column, picks) <= most]
        stages = Stages(
            self._answer[_STAGES, picks],
            self._model[_STAGES, picks],
            self._local[_STAGES, picks],
            np.zeros(picks.shape, dtype=bool),
        )
        runs = Runs(picks, stages, self._distinct(stages.model), np.zeros(len(picks), np.int64))
        if "memory" not in problem.kinds:
            return self._in_time(runs)
        runs = self._in_time(runs)
        most_memory = problem.limit("memory")
        if not self._swaps:
            return runs if most_memory is None else runs.take(runs.resident <= most_memory)
        if most_memory is not None and not problem.fallbacks:
            fits = runs.resident <= most_memory
            return _joined(runs.take(fits), self._in_time(self._swapped(runs.take(~fits))))
        return self._in_time(self._swapped(runs))

    def value(self, runs: Runs, step: Step) -> Whole:
        """The figure of a step for each run."""
        if step.figure == "latency":
            return self.latency(runs.stages)
        if step.figure == "weighted":
            assert step.weights is not None
            return self._weighted(runs, step.weights)
        columns = {"loss": self._loss, "unpriced": self._unpriced, "price": self._price}
        return self._sum(columns[step.figure], runs.picks)

    def limited(self, runs: Runs, kind: DemandKind) -> Whole:
        """What a demand limits, fallbacks left out: a lower bound beside these."""
        if kind == "latency":
            return self.latency(runs.stages)
        if kind == "memory":
            return runs.resident + runs.loaded
        return self.price(runs) if kind == "cost" else np.zeros(len(runs), dtype=np.int64)

    def strain(self, runs: Runs) -> NDArray[np.float64]:
        """How near each run comes to its limits, as a share of the one that it comes nearest to."""
        strain = np.zeros(len(runs))
        for kind in ("latency", "memory", "cost"):
            limit = self.problem.limit(kind)
            if limit is not None:
                strain = np.maximum(strain, self.limited(runs, kind) / max(1, limit))
        return strain

    def hardships(self, hoped: Collection[Demand]) -> list[NDArray[np.float64]]:
        """By agent and primary, how much it takes of all limits there are, and what it breaks.

        Args:
            hoped: demands that count one each where a candidate is nothing for them.
        """
        constraints = self.table.constraints
        limits = (constraints.max_latency_s, constraints.max_memory_bytes)
        seconds, size = (1.0 / limit if limit else 0.0 for limit in limits)
        cost = 1000 / constraints.max_cost_usd_per_1000 if constraints.max_cost_usd_per_1000 else 0
        hardships = []
        for stage, agent in enumerate(AGENTS):
            group = self.problem.primaries[agent]
            count = len(group)
            wanted = {id(candidate) for candidate in self.table.eligible(agent, hoped)}
            broken = np.array([id(candidate) not in wanted for candidate in group], dtype=float)
            hardships.append(
                broken
                + self._answer[stage, :count] / LATENCY_UNITS * seconds
                + self.models.size[self._model[stage, :count]] * size
                + self._price[stage, :count] / COST_UNITS * cost
            )
        return hardships

    def price(self, runs: Runs) -> Whole:
        """What an analysis costs on the primaries."""
        return self._sum(self._price, runs.picks)

    def latency(self, stages: Stages) -> Whole:
        """Microseconds of the slowest chain."""
        answer, slower, waiting = self._parts(stages)
        return slowest_chain(answer + slower + waiting, self.table.pipeline)

    def loaded(self, stages: Stages, *, beside: int | None = None) -> Whole:
        """The most bytes that are loaded at once; or those in the step of one stage alone."""
        size = np.where(stages.away, self.models.size[stages.model], 0)
        if self.table.pipeline == "parallel":
            same = stages.model[:, _FIRST] == stages.model[:, _SECOND]
            together = size[:, _FIRST] + np.where(same, 0, size[:, _SECOND])
            size[:, _FIRST] = size[:, _SECOND] = np.maximum(together, size[:, _SECOND])
        return size.max(axis=1) if beside is None else size[:, beside]

    def _sum(self, column: Whole, picks: Whole) -> Whole:
        return _total(column[_STAGES, picks])

    def _in_time(self, runs: Runs) -> Runs:
        for most in (self.problem.limit("latency"), self.problem.most_latency):
            if most is not None:
                runs = runs.take(self.latency(runs.stages) <= most)
        return runs

    def _parts(self, stages: Stages) -> tuple[Whole, Whole, Whole]:
        """The answers, by how much they are slower for the other reader, and the loads."""
        slower = np.zeros_like(stages.answer)
        contention = self.table.constraints.contention
        if self.table.pipeline == "parallel" and contention > 1:
            both = stages.local[:, [_FIRST]] & stages.local[:, [_SECOND]]
            readers = [_FIRST, _SECOND]
            lost = np.rint((contention - 1) * stages.answer[:, readers]).astype(np.int64)
            slower[:, readers] = np.where(both, lost, 0)
        if not self._swaps:
            return stages.answer, slower, np.zeros_like(stages.answer)
        waits = stages.away.copy()
        for stage, agent in enumerate(AGENTS):
            for before in previous(self.table.pipeline, agent):
                waits[:, stage] &= stages.model[:, stage] != stages.model[:, AGENTS.index(before)]
        return stages.answer, slower, np.where(waits, self.models.load[stages.model], 0)

    def _weighted(self, runs: Runs, weights: Weighted) -> Whole:
        """As `Model.weighted`: each figure is weighed and rounded by itself."""

        def weighed(weight: float, figures: Whole) -> Whole:
            exact = np.rint(weight * figures)
            if exact.size and exact.max() > _LARGEST:
                raise GivenUp
            whole: Whole = exact.astype(np.int64)
            return whole

        answer, slower, waiting = self._parts(runs.stages)
        seconds = weighed(weights.latency_per_s, answer) + weighed(weights.latency_per_s, slower)
        seconds += weighed(weights.latency_per_s, waiting)
        rest = weighed(weights.quality, self._loss[_STAGES, runs.picks])
        rest += weighed(weights.cost_per_usd_per_1000, self._price[_STAGES, runs.picks])
        return slowest_chain(seconds, self.table.pipeline) + _total(rest)

    def _distinct(self, model: Whole) -> Whole:
        """Bytes of the models of each row, each counted once."""
        size = self.models.size[model]
        for one, other in combinations(range(model.shape[1]), 2):
            size[:, other] = np.where(model[:, one] == model[:, other], 0, size[:, other])
        return _total(size)

    def _swapped(self, runs: Runs) -> Runs:
        """All splits into what stays and what is loaded that fit into memory."""
        count = len(_PATTERNS)
        rows = np.repeat(np.arange(len(runs)), count)
        away = np.tile(_PATTERNS, (len(runs), 1))
        model = runs.stages.model[rows]
        possible = (self.models.may_load[model] | ~away).all(axis=1)
        for one, other in combinations(range(len(AGENTS)), 2):
            possible &= (model[:, one] != model[:, other]) | (away[:, one] == away[:, other])
        rows, away, model = rows[possible], away[possible], model[possible]
        stages = replace(runs.stages.take(rows), away=away)
        resident = self._distinct(np.where(away, NO_MODEL, model))
        split = Runs(runs.picks[rows], stages, resident, self.loaded(stages))
        most = self.problem.limit("memory")
        return split if most is None else split.take(resident + split.loaded <= most)


def slowest_chain(seconds: Whole, pipeline: Pipeline) -> Whole:
    """The sum along the slowest chain of stages, row by row."""
    if pipeline == "sequential":
        return _total(seconds)
    return _total(seconds) - np.minimum(seconds[:, _FIRST], seconds[:, _SECOND])


def _total(figures: Whole) -> Whole:
    total: Whole = figures.sum(axis=1)
    return total


def _joined(one: Runs, other: Runs) -> Runs:
    def both(name: str) -> Any:
        return np.concatenate([getattr(one.stages, name), getattr(other.stages, name)])

    return Runs(
        np.concatenate([one.picks, other.picks]),
        Stages(both("answer"), both("model"), both("local"), both("away")),
        np.concatenate([one.resident, other.resident]),
        np.concatenate([one.loaded, other.loaded]),
    )


def _padded(rows: Sequence[Sequence[Any] | Whole]) -> Whole:
    """Rows of one length; what is added is never looked at."""
    table = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
