"""Why nothing fits: the fewest demands that cannot be held together, and what would do instead."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import ceil, floor

from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, floor_figure
from soma_bench.optimize.problem import Tables, pose
from soma_bench.optimize.search import (
    Assignment,
    any_assignment,
    easy_assignment,
    is_feasible,
    least_limit,
)
from soma_bench.optimize.solution import Infeasible, make_plan
from soma_bench.optimize.table import ROW_KINDS, Demand
from soma_bench.types import AGENTS


def smallest_conflict(tables: Tables, demands: Sequence[Demand]) -> Infeasible:
    """The fewest of ``demands`` that cannot be held together, of these those on fewest agents.

    Exact, by hitting sets: whatever demands a feasible set leaves out, a conflict must have one of
    them. So the smallest set that has one of each such remainder is a lower bound; once it cannot
    be held itself, it is the smallest conflict. As long as it can be held, it is made as large as
    is easy, and what it leaves out is the next remainder.
    """
    remainders: list[tuple[Demand, ...]] = []
    feasibility = _Feasibility(tables, demands)
    while True:
        conflict = _hitting(demands, remainders)
        held = feasibility.most_held(conflict)
        if held is None:
            break
        remainders.append(tuple(demand for demand in demands if demand not in held))
    return Infeasible(
        conflict=tuple(demand.name for demand in conflict),
        would_do=tuple(_would_do(tables, conflict, demand) for demand in conflict),
    )


def _hitting(
    demands: Sequence[Demand], remainders: Sequence[Collection[Demand]]
) -> tuple[Demand, ...]:
    """The fewest demands with one of each remainder: of these those on fewest agents, then the first."""
    masks = [_bits(demands, remainder) for remainder in remainders]
    size = 0
    found: set[int] = {0}
    while True:
        hitting = [taken for taken in found if all(taken & mask for mask in masks)]
        if hitting:
            break
        size += 1
        # Each set of that size that hits all has one of the first remainder that a smaller one missed.
        found = {
            taken | 1 << place
            for taken in found
            for mask in [next(mask for mask in masks if not taken & mask)]
            for place in range(len(demands))
            if mask >> place & 1
        }

    def rank(taken: int) -> tuple[int, int, list[int]]:
        places = [place for place in range(len(demands)) if taken >> place & 1]
        agents = {demands[place].agent for place in places} - {None}
        return len(agents), sum(places), places

    return tuple(demands[place] for place in min(map(rank, hitting))[2])


def _bits(demands: Sequence[Demand], some: Collection[Demand]) -> int:
    return sum(1 << place for place, demand in enumerate(demands) if demand in some)


class _Feasibility:
    """Which sets of demands can be held, remembered: what holds many demands holds any of them."""

    def __init__(self, tables: Tables, demands: Sequence[Demand]) -> None:
        self._tables = tables
        self._demands = demands
        self._held: list[frozenset[Demand]] = []
        self._refused: list[frozenset[Demand]] = []

    def most_held(self, wanted: Sequence[Demand]) -> frozenset[Demand] | None:
        """``wanted`` and what is easily held beside it; None where these alone cannot be held."""
        held = self._easily(wanted)
        if held is None:
            found = any_assignment(self._tables, wanted)
            if found is None:
                return None
            held = self._remember(wanted, found)
        for demand in self._demands:
            if demand not in held:
                held = self._easily([*held, demand]) or held
        return held

    def _easily(self, wanted: Collection[Demand]) -> frozenset[Demand] | None:
        for held in self._held:
            if held.issuperset(wanted):
                return held
        if any(refused.issubset(wanted) for refused in self._refused):
            return None
        refused = _nobody_serves(self._tables, wanted)
        if refused is not None:
            self._refused.append(refused)
            return None
        found = easy_assignment(self._tables, tuple(wanted), self._demands)
        return None if found is None else self._remember(wanted, found)

    def _remember(self, wanted: Collection[Demand], found: Assignment) -> frozenset[Demand]:
        violated = make_plan(found.table, found.primaries, found.fallbacks).violated
        shown = {demand for demand in found.table.demands if demand.name not in violated}
        # Without a memory limit nothing is swapped, so its plan may break what the search found held.
        held = frozenset(shown.union(wanted) if shown.issuperset(wanted) else wanted)
        self._held.append(held)
        return held


def _nobody_serves(tables: Tables, wanted: Collection[Demand]) -> frozenset[Demand] | None:
    """Those of the demands that leave some agent without a candidate; None where they leave one to all."""
    together: frozenset[Demand] = frozenset()
    for table in tables:
        primaries = pose(table, wanted).primaries
        agent = next((agent for agent in AGENTS if not primaries[agent]), None)
        if agent is None:
            return None
        together |= {
            demand
            for demand in wanted
            if demand.kind == "apart"
            or (demand.kind in ROW_KINDS and table.covers(demand, agent))
            or (demand.kind == "fallback" and demand.agent == agent)
        }
    return together


def _would_do(tables: Tables, conflict: Sequence[Demand], demand: Demand) -> str | None:
    """The limit nearest to the demand's that can be held beside the others, rounded to its safe side."""
    if demand.kind == "floor":
        return _floor_that_would_do(tables, conflict, demand)
    if demand.kind not in ("latency", "degraded", "memory", "cost"):
        return None
    least = least_limit(tables, conflict, demand)
    if least is None:
        return None
    if demand.kind == "cost":
        return f"{ceil(1000 * least / COST_UNITS * 100) / 100:g} USD"
    if demand.kind == "memory":
        return f"{ceil(least / (1 << 30) * 100) / 100:g} GiB"
    return f"{ceil(least / LATENCY_UNITS * 100) / 100:g} s"


def _floor_that_would_do(tables: Tables, conflict: Sequence[Demand], demand: Demand) -> str | None:
    agent = demand.agent
    assert agent is not None
    limits = tables[0].constraints
    figures = {floor_figure(candidate.row, limits) for candidate in tables[0].candidates[agent]}
    floor_now = limits.quality_floors[agent]
    lower = sorted(figure for figure in figures if figure < floor_now)

    def can_be_held(figure: float) -> bool:
        floors = {**limits.quality_floors, agent: figure}
        constraints = limits.model_copy(update={"quality_floors": floors})
        return is_feasible([replace(table, constraints=constraints) for table in tables], conflict)

    # What a floor leaves to choose from only shrinks as it rises.
    count = bisect_left(lower, True, key=lambda figure: not can_be_held(figure))
    return f"{floor(lower[count - 1] * 1000) / 1000:g}" if count else None
