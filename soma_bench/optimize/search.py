"""The exact search: which candidate is each agent's primary, and which its fallback.

It takes one table for each order of the stages that may be chosen. Goals are met one after the
other over all of them: what cannot reach the best of a goal is left behind. The search is by
enumeration; what is too much for that, the solver decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from soma_bench.optimize import solver
from soma_bench.optimize.candidates import QUALITY_UNITS
from soma_bench.optimize.enumeration import Enumeration
from soma_bench.optimize.fallbacks import Fallbacks
from soma_bench.optimize.figures import Figures, GivenUp
from soma_bench.optimize.goals import QUALITY_FIRST, Gap, Step, steps
from soma_bench.optimize.model import Picks
from soma_bench.optimize.problem import Primaries, Problem, Tables, one_model_each, other_than, pose
from soma_bench.optimize.table import Demand, Table
from soma_bench.routing.constraints import Objective
from soma_bench.types import AGENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Each agent's primary, and the fallback of those that have one."""

    table: Table
    """The one, of those searched, whose order of stages it is for."""
    primaries: Picks
    fallbacks: Picks
    gap: Gap | None = None


def search(
    tables: Tables,
    demands: Collection[Demand],
    objective: Objective = "quality_latency_cost",
    *,
    deadline: float | None = None,
    one_model: bool = False,
    but: Picks | None = None,
) -> Assignment | None:
    """The best assignment that holds ``demands``; None where there is none.

    Primaries come first, by the objective; what it holds for equal goes by quality, latency, price
    and the targets' text. Given these, fallbacks: as many as can be, of another model than the
    primary where that can be, then by quality, latency and text.

    Args:
        tables: one for each order of the stages, the preferred one first.
        demands: what must hold.
        objective: what is best.
        deadline: on the clock of `time.monotonic`, when to stop with the best that is there.
        one_model: whether all primaries must be of one model.
        but: primaries that may not all be chosen again.

    Raises:
        SomaError: the deadline came before any answer.
    """
    problems = [pose(table, demands, prune=but is None) for table in tables]
    if one_model:
        problems = [part for problem in problems for part in one_model_each(problem)]
    if but is not None:
        problems = [part for problem in problems for part in other_than(problem, but)]
    found = best_primaries(problems, steps(objective), deadline)
    if found is None:
        return None
    return Assignment(
        table=found.table,
        primaries=found.picks,
        fallbacks=_best_fallbacks(found, demands),
        gap=found.gap,
    )


def best_quality(tables: Tables, demands: Collection[Demand]) -> int | None:
    """The highest sum of the primaries' quality, in units; None where nothing holds ``demands``."""
    losses: list[int] = []
    for problem in [pose(table, demands) for table in tables]:
        try:
            loss = Enumeration(problem).least(QUALITY_FIRST, min(losses, default=inf))
        except GivenUp:
            loss = solver.least(problem, QUALITY_FIRST)
        if loss is not None:
            losses.append(loss)
    return len(AGENTS) * QUALITY_UNITS - min(losses) if losses else None


def is_feasible(tables: Tables, demands: Collection[Demand]) -> bool:
    """Whether any assignment holds ``demands``."""
    return any_assignment(tables, demands) is not None


def any_assignment(tables: Tables, demands: Collection[Demand]) -> Assignment | None:
    """Some assignment that holds ``demands``, with no more fallbacks than these ask for."""
    for problem in [pose(table, demands) for table in tables]:
        try:
            found = Enumeration(problem).any()
        except GivenUp:
            found = solver.any_picks(problem)
        if found is not None:
            return Assignment(table=problem.table, primaries=found[0], fallbacks=found[1])
    return None


def easy_assignment(
    tables: Tables, demands: Collection[Demand], hoped: Collection[Demand]
) -> Assignment | None:
    """As `any_assignment`, but None also where nothing is found quickly.

    Args:
        tables: as for `search`.
        demands: what must hold.
        hoped: demands of which as many as is easy should be held too.
    """
    for problem in [pose(table, demands) for table in tables]:
        try:
            found = Enumeration(problem).easy(hoped)
        except GivenUp:
            continue
        if found is not None:
            return Assignment(table=problem.table, primaries=found[0], fallbacks=found[1])
    return None


def least_limit(tables: Tables, demands: Collection[Demand], free: Demand) -> int | None:
    """The lowest limit (in units) in place of that of ``free``, itself one of ``demands``.

    Args:
        tables: as for `search`.
        demands: what must hold.
        free: the demand for latency, memory or cost whose limit is looked for.
    """
    found = []
    for problem in [pose(table, demands, free=free) for table in tables]:
        try:
            least = Enumeration(problem).least_limit()
        except GivenUp:
            least = solver.least_limit(problem)
        if least is not None:
            found.append(least)
    return min(found, default=None)


def least_limit_for_quality(
    tables: Tables, demands: Collection[Demand], free: Demand, quality: int
) -> int | None:
    """As `least_limit`, where more quality must be reached than the limit of ``free`` allows.

    Args:
        tables: as for `search`.
        demands: what must hold.
        free: the demand for latency, memory or cost whose limit is looked for.
        quality: the lowest sum of the primaries' quality, in units.
    """
    most_loss = len(AGENTS) * QUALITY_UNITS - quality
    found = []
    for problem in [pose(table, demands, free=free, most_loss=most_loss) for table in tables]:
        try:
            least = Enumeration(problem).least_limit_for_quality()
        except GivenUp:
            least = solver.least_limit(problem)
        if least is not None:
            found.append(least)
    return min(found, default=None)


def best_primaries(
    problems: Sequence[Problem], steps: Sequence[Step], deadline: float | None = None
) -> Primaries | None:
    """What meets all steps one after the other, then the first by text; None where nothing fits.

    Args:
        problems: those of the preferred order of the stages first.
        steps: the figures to minimise.
        deadline: as for `search`.

    Raises:
        SomaError: the deadline came before any answer.
    """
    try:
        return _enumerated(problems, steps, deadline)
    except GivenUp:
        return solver.best_primaries(problems, steps, deadline)


def _enumerated(
    problems: Sequence[Problem], steps: Sequence[Step], deadline: float | None
) -> Primaries | None:
    """By enumeration.

    Raises:
        GivenUp: there is too much to look at.
    """
    left = [Enumeration(problem, deadline) for problem in problems]
    for step in steps:
        values: list[int | None] = []
        for enumeration in left:
            best = min((value for value in values if value is not None), default=inf)
            values.append(enumeration.least(step, best + step.slack))
        known = [value for value in values if value is not None]
        if not known:
            return None
        limit = min(known) + step.slack
        left = [
            enumeration
            for enumeration, value in zip(left, values, strict=True)
            if value is not None and value <= limit
        ]
        for enumeration in left:
            enumeration.hold(step, limit)
    table = left[0].problem.table
    found = [each.first_by_text() for each in left if each.problem.table is table]
    return min(found, key=lambda primaries: primaries.text)


def _best_fallbacks(found: Primaries, demands: Collection[Demand]) -> Picks:
    table = found.table
    groups = {agent: table.eligible(agent, demands) for agent in AGENTS}
    needed = {demand.agent for demand in demands if demand.kind == "fallback"}
    problem = Problem(
        table=table,
        demands=tuple(demands),
        primaries={agent: (found.picks[agent],) for agent in AGENTS},
        fallbacks=groups,
    )
    try:
        figures = Figures(problem)
        runs = figures.runs(np.zeros((1, len(AGENTS)), dtype=np.int64))
        if problem.may_swap:
            # A fallback that stays in memory must not drive out what keeps the primaries quick.
            runs = runs.take(figures.latency(runs.stages) <= found.latency)
        best = Fallbacks(figures, groups, optional=frozenset(AGENTS) - needed).best(runs)
    except GivenUp:
        return solver.best_fallbacks(problem, found.latency)
    assert best is not None, "the primaries were chosen with the fallbacks that they need"
    return best
