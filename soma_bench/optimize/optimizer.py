"""From evidence and constraints to a solution, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from soma_bench.optimize.search import Picks, best_quality, is_feasible, least_limit, search
from soma_bench.optimize.solution import Infeasible, Solution, make_plan
from soma_bench.optimize.table import (
    COST_UNITS,
    LATENCY_UNITS,
    QUALITY_UNITS,
    ROUNDING,
    Candidate,
    Demand,
    Table,
    floor_figure,
    read_table,
)
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS


def optimize(
    evidence: Sequence[Evidence], constraints: Constraints, *, pipeline: Pipeline = "sequential"
) -> Solution | Infeasible:
    """The best assignment of targets to agents; the same evidence always gives the same one.

    Lexicographic: the highest sum of the primaries' mean quality, then the lowest pipeline latency
    (at ``constraints.latency``), then the lowest price, then the first by the targets' text. Sums
    are compared in whole units (`soma_bench.optimize.table`); what differs by less is equal. Given
    the primaries, each agent gets a fallback where one fits: it meets the agent's privacy level
    and quality floor, counts towards memory, and keeps the pipeline within the latency limit when
    its stage falls back. Another model than the primary is preferred, then the best quality.

    Raises:
        ConfigError: an agent has no evidence, a row stands twice, or a candidate's price or memory
            is unknown while there is a limit on it.
    """
    table = read_table(evidence, constraints)
    found = search(table, table.demands, pipeline)
    if found is None:
        return _explain(table, pipeline)
    return Solution(
        plan=make_plan(table, pipeline, found.primaries, found.fallbacks),
        greedy=make_plan(table, pipeline, *_greedy(table)),
        pipeline=pipeline,
        constraints=constraints,
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """A demand that keeps the choice from being better."""

    name: str
    quality_gain: float
    """By how much the sum of the primaries' quality would rise without it."""


def what_binds(
    evidence: Sequence[Evidence], constraints: Constraints, *, pipeline: Pipeline = "sequential"
) -> tuple[Binding, ...]:
    """The demands that cost quality, the dearest first, each taken by itself.

    Raises:
        ConfigError: as `optimize`.
    """
    table = read_table(evidence, constraints)
    now = best_quality(table, table.demands, pipeline)
    if now is None:
        return ()
    bindings = []
    for demand in table.demands:
        without = best_quality(table, [d for d in table.demands if d != demand], pipeline)
        if without is not None and without - now > ROUNDING:
            bindings.append(Binding(demand.name, (without - now) / QUALITY_UNITS))
    return tuple(sorted(bindings, key=lambda binding: (-binding.quality_gain, binding.name)))


def _greedy(table: Table) -> tuple[Picks, Picks]:
    """The best primary of each agent by itself; the best other target where it needs a fallback."""
    row_demands = [d for d in table.demands if d.kind in ("privacy", "synthetic", "floor")]
    primaries: Picks = {}
    fallbacks: Picks = {}
    needed = {demand.agent for demand in table.demands if demand.kind == "fallback"}
    for agent in AGENTS:
        ranked = sorted(table.eligible(agent, row_demands), key=_rank)
        primaries[agent] = ranked[0]
        others = sorted(ranked[1:], key=lambda c: (c.model == ranked[0].model, _rank(c)))
        if others and agent in needed:
            fallbacks[agent] = others[0]
    return primaries, fallbacks


def _rank(candidate: Candidate) -> tuple[int, int, bool, int, str]:
    return (
        -candidate.quality,
        candidate.latency,
        candidate.cost is None,
        candidate.cost or 0,
        candidate.row.target,
    )


def _explain(table: Table, pipeline: Pipeline) -> Infeasible:
    """The smallest conflict that dropping demands one by one finds.

    A single demand that nothing holds comes first. Otherwise demands are dropped as long as the
    rest stays infeasible, in both orders, and the shorter remainder is taken: without any one of
    its demands the rest of it can be held.
    """
    conflicts: list[tuple[Demand, ...]] = [
        (demand,) for demand in table.demands if not is_feasible(table, [demand], pipeline)
    ]
    if not conflicts:
        orders = (table.demands, table.demands[::-1])
        conflicts = [_without_needless(table, order, pipeline) for order in orders]
    conflict = min(conflicts, key=len)
    return Infeasible(
        conflict=tuple(demand.name for demand in conflict),
        would_do=tuple(_would_do(table, conflict, demand, pipeline) for demand in conflict),
    )


def _without_needless(
    table: Table, order: Sequence[Demand], pipeline: Pipeline
) -> tuple[Demand, ...]:
    """Drop each demand without which the others still cannot be held."""
    kept = list(order)
    for demand in order:
        rest = [other for other in kept if other != demand]
        if not is_feasible(table, rest, pipeline):
            kept = rest
    return tuple(demand for demand in table.demands if demand in kept)


def _would_do(
    table: Table, conflict: Sequence[Demand], demand: Demand, pipeline: Pipeline
) -> str | None:
    """The limit nearest to the demand's that can be held beside the others, rounded to its safe side."""
    if demand.kind == "floor":
        return _floor_that_would_do(table, conflict, demand, pipeline)
    if demand.kind not in ("latency", "memory", "cost"):
        return None
    least = least_limit(table, conflict, demand, pipeline)
    if least is None:
        return None
    if demand.kind == "latency":
        return f"{ceil(least / LATENCY_UNITS * 100) / 100:g} s"
    if demand.kind == "cost":
        return f"{ceil(1000 * least / COST_UNITS * 100) / 100:g} USD"
    return f"{ceil(least / (1 << 30) * 100) / 100:g} GiB"


def _floor_that_would_do(
    table: Table, conflict: Sequence[Demand], demand: Demand, pipeline: Pipeline
) -> str | None:
    assert demand.agent is not None
    figures = {
        floor_figure(candidate.row, table.constraints)
        for candidate in table.candidates[demand.agent]
    }
    for figure in sorted(figures, reverse=True):
        floors = {**table.constraints.quality_floors, demand.agent: figure}
        constraints = table.constraints.model_copy(update={"quality_floors": floors})
        if is_feasible(replace(table, constraints=constraints), conflict, pipeline):
            return f"{floor(figure * 1000) / 1000:g}"
    return None
