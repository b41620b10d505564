"""What the optimiser answers: the assignment with its figures, or what stands in its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from soma_bench.optimize.table import (
    COST_UNITS,
    LATENCY_UNITS,
    ROUNDING,
    Candidate,
    Demand,
    Table,
    floor_figure,
)
from soma_bench.routing.constraints import Constraints, Percentile, Pipeline, chains
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName

Picks = Mapping[AgentName, Candidate]
SlackUnit = Literal["quality", "s", "bytes", "USD per 1000"]

# The search compares whole units; what it takes for equal is not a broken limit here.
_TOLERANCE: dict[SlackUnit, float] = {
    "quality": 0.0,
    "s": (ROUNDING + 3) / LATENCY_UNITS,
    "bytes": 0.0,
    "USD per 1000": 1000 * (ROUNDING + 3) / COST_UNITS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One agent's targets with what was measured of them."""

    agent: AgentName
    primary: Evidence
    fallback: Evidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """How far one limit is from being reached."""

    name: str
    unit: SlackUnit
    limit: float
    used: float
    """The worst figure that counts: for latency, with any one stage on its fallback."""

    @property
    def slack(self) -> float:
        """Room left; negative where the limit is broken."""
        room = self.limit - self.used
        return -room if self.unit == "quality" else room


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An assignment with its figures."""

    choices: tuple[Choice, ...]
    """In the agents' order."""
    quality: float
    """Sum of the primaries' mean quality, at most 5."""
    latency_p50_s: float
    latency_p95_s: float
    """Sums along the slowest chain of stages; a sum of p95 is an upper estimate of the p95."""
    memory_bytes: int | None
    """Over the distinct resident models, fallbacks included; None where one was not measured."""
    cost_usd_per_1000: float | None
    """Of 1000 analyses on the primaries; None where a price is not known."""
    slacks: tuple[Slack, ...]
    violated: tuple[str, ...]
    """Names of the demands that it breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best assignment under the constraints."""

    plan: Plan
    greedy: Plan
    """The best quality for each agent by itself, whether or not all of it fits together."""
    pipeline: Pipeline
    constraints: Constraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No assignment holds all constraints."""

    conflict: tuple[str, ...]
    """Names of demands that cannot be held together; without any one of them the rest can."""
    would_do: tuple[str | None, ...]
    """Beside each of them the limit that could be held with the others; None where it has none."""

    @property
    def message(self) -> str:
        """The conflict in one line."""
        named = [
            name if limit is None else f"{name} ({limit} would do)"
            for name, limit in zip(self.conflict, self.would_do, strict=True)
        ]
        among = "" if len(named) == 1 else "all of "
        return f"infeasible: nothing fits {among}{'; '.join(named)}"


def make_plan(table: Table, pipeline: Pipeline, primaries: Picks, fallbacks: Picks) -> Plan:
    """The figures of an assignment, and which demands it breaks."""
    rows = {agent: primaries[agent].row for agent in AGENTS}
    costs = [row.cost_usd for row in rows.values()]
    resident = {candidate.model for picks in (primaries, fallbacks) for candidate in picks.values()}
    sizes = [table.memory[model] for model in sorted(resident)]
    plan = Plan(
        choices=tuple(
            Choice(
                agent=agent,
                primary=rows[agent],
                fallback=fallbacks[agent].row if agent in fallbacks else None,
            )
            for agent in AGENTS
        ),
        quality=sum(row.quality for row in rows.values()),
        latency_p50_s=pipeline_latency(rows, pipeline, "p50"),
        latency_p95_s=pipeline_latency(rows, pipeline, "p95"),
        memory_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        cost_usd_per_1000=None if None in costs else 1000 * sum(cost or 0 for cost in costs),
        slacks=(),
        violated=(),
    )
    slacks = tuple(_slacks(table, pipeline, plan))
    broken = {demand.name for demand in table.demands if _is_broken(demand, primaries, fallbacks)}
    broken |= {slack.name for slack in slacks if slack.slack < -_TOLERANCE[slack.unit]}
    violated = tuple(demand.name for demand in table.demands if demand.name in broken)
    return replace(plan, slacks=slacks, violated=violated)


def pipeline_latency(
    rows: Mapping[AgentName, Evidence], pipeline: Pipeline, percentile: Percentile
) -> float:
    """Seconds that the slowest chain of stages takes."""
    stage = {
        agent: row.latency_p50_s if percentile == "p50" else row.latency_p95_s
        for agent, row in rows.items()
    }
    return max(sum(stage[agent] for agent in chain) for chain in chains(pipeline))


def _slacks(table: Table, pipeline: Pipeline, plan: Plan) -> list[Slack]:
    constraints = table.constraints
    kinds = {demand.kind: demand.name for demand in table.demands}
    slacks = []
    if constraints.max_latency_s is not None:
        used = max(
            pipeline_latency(rows, pipeline, constraints.latency) for rows in _states(plan.choices)
        )
        slacks.append(
            Slack(name=kinds["latency"], unit="s", limit=constraints.max_latency_s, used=used)
        )
    if constraints.max_memory_bytes is not None and plan.memory_bytes is not None:
        slacks.append(
            Slack(
                name=kinds["memory"],
                unit="bytes",
                limit=constraints.max_memory_bytes,
                used=plan.memory_bytes,
            )
        )
    if constraints.max_cost_usd_per_1000 is not None and plan.cost_usd_per_1000 is not None:
        slacks.append(
            Slack(
                name=kinds["cost"],
                unit="USD per 1000",
                limit=constraints.max_cost_usd_per_1000,
                used=plan.cost_usd_per_1000,
            )
        )
    floors = {demand.agent: demand.name for demand in table.demands if demand.kind == "floor"}
    for choice in plan.choices:
        if choice.agent in floors:
            rows = [row for row in (choice.primary, choice.fallback) if row is not None]
            slacks.append(
                Slack(
                    name=floors[choice.agent],
                    unit="quality",
                    limit=constraints.quality_floors[choice.agent],
                    used=min(floor_figure(row, constraints) for row in rows),
                )
            )
    return slacks


def _states(choices: tuple[Choice, ...]) -> list[dict[AgentName, Evidence]]:
    """What serves each stage: all primaries, or one of them on its fallback."""
    normal = {choice.agent: choice.primary for choice in choices}
    return [normal] + [
        {**normal, choice.agent: choice.fallback}
        for choice in choices
        if choice.fallback is not None
    ]


def _is_broken(demand: Demand, primaries: Picks, fallbacks: Picks) -> bool:
    """Whether a demand without a figure is broken."""
    used = [
        picks[agent]
        for picks in (primaries, fallbacks)
        for agent in picks
        if demand.agent in (None, agent)
    ]
    if demand.kind == "privacy":
        return not all(candidate.is_local for candidate in used)
    if demand.kind == "synthetic":
        return any(candidate.row.synthetic for candidate in used)
    return demand.kind == "fallback" and demand.agent not in fallbacks
