"""Why nothing fits: the fewest demands that cannot be held together, and what would do instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor

from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, floor_figure
from soma_bench.optimize.problem import Tables
from soma_bench.optimize.programme import Programme
from soma_bench.optimize.search import any_assignment, is_feasible, least_limit
from soma_bench.optimize.solution import Infeasible, make_plan
from soma_bench.optimize.table import Demand
from soma_bench.types import AGENTS


def smallest_conflict(tables: Tables, demands: Sequence[Demand]) -> Infeasible:
    """The fewest of ``demands`` that cannot be held together, of these those on fewest agents.

    Exact, by hitting sets: whatever demands a feasible set leaves out, a conflict must have one of
    them. So the smallest set that has one of each such remainder is a lower bound; once it cannot
    be held itself, it is the smallest conflict. As long as it can be held, it is made as large as
    can be, and what it leaves out is the next remainder.
    """
    remainders: list[tuple[Demand, ...]] = []
    while True:
        conflict = _hitting(demands, remainders)
        held = _most_held(tables, demands, conflict)
        if held is None:
            break
        remainders.append(tuple(demand for demand in demands if demand not in held))
    return Infeasible(
        conflict=tuple(demand.name for demand in conflict),
        would_do=tuple(_would_do(tables, conflict, demand) for demand in conflict),
    )


def _hitting(
    demands: Sequence[Demand], remainders: Sequence[Sequence[Demand]]
) -> tuple[Demand, ...]:
    """The fewest demands with one of each remainder."""
    programme = Programme()
    taken = dict(zip(demands, programme.variables(len(demands)), strict=True))
    left = dict(zip(demands, programme.variables(len(demands)), strict=True))
    for demand in demands:
        programme.exactly_one([taken[demand], left[demand]])
    for remainder in remainders:
        programme.at_most({left[demand]: 1 for demand in remainder}, len(remainder) - 1)
    programme.minimise(dict.fromkeys(taken.values(), 1))
    named = dict(zip(AGENTS, programme.variables(len(AGENTS)), strict=True))
    for demand in demands:
        if demand.agent is not None:
            programme.implies([taken[demand]], named[demand.agent])
    programme.minimise(dict.fromkeys(named.values(), 1))
    chosen = programme.minimise({taken[demand]: i for i, demand in enumerate(demands)})
    assert chosen is not None, "taking every demand has one of each remainder"
    return tuple(demand for demand in demands if taken[demand] in chosen)


def _most_held(
    tables: Tables, demands: Sequence[Demand], wanted: Sequence[Demand]
) -> frozenset[Demand] | None:
    """As many demands as can be added to ``wanted`` one by one; None where these cannot be held."""
    found = any_assignment(tables, wanted)
    if found is None:
        return None
    violated = make_plan(found.table, found.primaries, found.fallbacks).violated
    shown = {demand for demand in found.table.demands if demand.name not in violated}
    # Without a memory limit nothing is swapped, so its plan may break what the search found held.
    held = {*wanted, *shown} if shown.issuperset(wanted) else set(wanted)
    for demand in demands:
        if demand not in held and is_feasible(tables, [*held, demand]):
            held.add(demand)
    return frozenset(held)


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
    assert demand.agent is not None
    limits = tables[0].constraints
    figures = {
        floor_figure(candidate.row, limits) for candidate in tables[0].candidates[demand.agent]
    }
    for figure in sorted(figures, reverse=True):
        if figure >= limits.quality_floors[demand.agent]:
            continue
        floors = {**limits.quality_floors, demand.agent: figure}
        constraints = limits.model_copy(update={"quality_floors": floors})
        if is_feasible([replace(table, constraints=constraints) for table in tables], conflict):
            return f"{floor(figure * 1000) / 1000:g}"
    return None
