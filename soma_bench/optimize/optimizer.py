"""From evidence and constraints to a solution, or to the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from soma_bench.errors import ConfigError
from soma_bench.optimize.candidates import Candidate
from soma_bench.optimize.conflict import smallest_conflict
from soma_bench.optimize.model import Picks
from soma_bench.optimize.search import search
from soma_bench.optimize.solution import Infeasible, Solution, make_plan
from soma_bench.optimize.table import Demand, Table, read_table
from soma_bench.routing.constraints import Constraints, Objective, Pipeline, Weighted
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

Order = Pipeline | Literal["either"]
"""How the stages run, or that the better of both ways may be chosen."""


def optimize(
    evidence: Sequence[Evidence],
    constraints: Constraints,
    *,
    pipeline: Order = "sequential",
    objective: Objective = "quality_latency_cost",
    time_limit_s: float | None = None,
) -> Solution | Infeasible:
    """The best assignment of targets to agents; the same evidence always gives the same one.

    By default the highest sum of the primaries' mean quality, then the lowest pipeline latency (at
    ``constraints.latency``, loads of swapped models included), then the lowest price of the
    primaries, then the first by the targets' text. Sums are compared in whole units
    (`soma_bench.optimize.table`); what differs by less is equal. Given the primaries, each agent
    gets a fallback where one fits: it meets the agent's privacy level (also the inherited one) and
    quality floor, stands as far from the primary as is asked, counts towards memory and, as often
    as the primary fails, towards cost, and keeps the pipeline within the latency limit when its
    stage falls back. Another model than the primary is preferred, then the best quality. Of both
    orders of the stages the sequential one is taken where they do equally well.

    Args:
        evidence: one row per agent and target.
        constraints: what must hold.
        pipeline: how the stages run.
        objective: what is best.
        time_limit_s: when to stop looking for better primaries; the solution then states its gap.

    Raises:
        ConfigError: an agent has no evidence, a row stands twice, a candidate's price or memory is
            unknown while there is a limit on it, or its price while the objective weighs it.
        SomaError: the time limit came before any assignment was found.
    """
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    _refuse_unknown_prices(tables, demands, objective)
    found = search(tables, demands, objective, deadline=deadline)
    if found is None:
        return smallest_conflict(tables, demands)
    return Solution(
        plan=make_plan(found.table, found.primaries, found.fallbacks),
        greedy=make_plan(found.table, *_greedy(found.table)),
        pipeline=found.table.pipeline,
        constraints=constraints,
        objective=objective,
        gap=found.gap,
    )


def read_tables(
    evidence: Sequence[Evidence], constraints: Constraints, pipeline: Order
) -> tuple[Table, ...]:
    """A table for each order of the stages that may be chosen.

    Raises:
        ConfigError: as `optimize`.
    """
    orders: tuple[Pipeline, ...] = (
        ("sequential", "parallel") if pipeline == "either" else (pipeline,)
    )
    return tuple(read_table(evidence, constraints, order) for order in orders)


def all_demands(tables: Sequence[Table]) -> tuple[Demand, ...]:
    """The demands of all tables, each once."""
    return tuple(dict.fromkeys(demand for table in tables for demand in table.demands))


def _refuse_unknown_prices(
    tables: Sequence[Table], demands: Sequence[Demand], objective: Objective
) -> None:
    if not isinstance(objective, Weighted) or not objective.cost_per_usd_per_1000:
        return
    for table in tables:
        for agent in AGENTS:
            for candidate in table.eligible(agent, demands):
                if candidate.cost is None:
                    raise ConfigError(
                        f"evidence: the price of {candidate.row.target} for {agent} is not known,"
                        " so it cannot be weighed; add its price or give cost no weight"
                    )


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
