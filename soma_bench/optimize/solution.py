"""What the optimiser answers: the assignment with its figures, or what stands in its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from soma_bench.optimize.candidates import (
    COST_UNITS,
    LATENCY_UNITS,
    ROUNDING,
    Candidate,
    floor_figure,
)
from soma_bench.optimize.goals import Gap
from soma_bench.optimize.residency import best_resident, latency_s, peak_bytes, states
from soma_bench.optimize.table import Demand, Table
from soma_bench.routing.constraints import Constraints, Objective, Percentile, Pipeline, chains
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
    degraded_latency_s: float
    """The same, at the percentile of the constraints, with that stage on its fallback which takes
    longest then; the primaries' own where there is no fallback."""
    memory_bytes: int | None
    """The most that is in memory at once, fallbacks included; None where a size was not measured."""
    resident: tuple[str, ...]
    """The local models that stay in memory."""
    swapped: tuple[str, ...]
    """Those that are loaded for their stage in each analysis, which the latencies include."""
    cost_usd_per_1000: float | None
    """Of 1000 analyses on the primaries, and on the fallbacks as often as these fail; None where a
    price is not known."""
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
    objective: Objective = "quality_latency_cost"
    gap: Gap | None = None
    """How far it may be from the best, where the time limit cut the search off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No assignment holds all constraints."""

    conflict: tuple[str, ...]
    """Names of the fewest demands that cannot be held together; without any one the rest can."""
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


def make_plan(table: Table, primaries: Picks, fallbacks: Picks) -> Plan:
    """The figures of an assignment, and which demands it breaks."""
    rows = {agent: primaries[agent].row for agent in AGENTS}
    serving = states(primaries, fallbacks)
    resident = best_resident(table, primaries, fallbacks)
    used = {c.model for state in serving for c in state.values() if c.is_local}
    percentile = table.constraints.latency
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
        latency_p50_s=latency_s(table, primaries, resident, "p50"),
        latency_p95_s=latency_s(table, primaries, resident, "p95"),
        degraded_latency_s=max(
            (latency_s(table, state, resident, percentile) for state in serving[1:]),
            default=latency_s(table, primaries, resident, percentile),
        ),
        memory_bytes=peak_bytes(table, serving, resident),
        resident=tuple(sorted(resident)),
        swapped=tuple(sorted(used - resident)),
        cost_usd_per_1000=_cost_usd_per_1000(primaries, fallbacks),
        slacks=(),
        violated=(),
    )
    slacks = tuple(_slacks(table, plan))
    broken = {
        demand.name for demand in table.demands if _is_broken(table, demand, primaries, fallbacks)
    }
    broken |= {slack.name for slack in slacks if slack.slack < -_TOLERANCE[slack.unit]}
    violated = tuple(demand.name for demand in table.demands if demand.name in broken)
    return replace(plan, slacks=slacks, violated=violated)


def _cost_usd_per_1000(primaries: Picks, fallbacks: Picks) -> float | None:
    shares = [(candidate.row.cost_usd, 1.0) for candidate in primaries.values()]
    shares += [
        (candidate.row.cost_usd, float(primaries[agent].failures))
        for agent, candidate in fallbacks.items()
        if primaries[agent].failures
    ]
    if any(cost is None for cost, _ in shares):
        return None
    return 1000 * sum((cost or 0) * share for cost, share in shares)


def pipeline_latency(
    rows: Mapping[AgentName, Evidence], pipeline: Pipeline, percentile: Percentile
) -> float:
    """Seconds that the slowest chain of stages takes, all models loaded and nobody in the way."""
    stage = {
        agent: row.latency_p50_s if percentile == "p50" else row.latency_p95_s
        for agent, row in rows.items()
    }
    return max(sum(stage[agent] for agent in chain) for chain in chains(pipeline))


def _slacks(table: Table, plan: Plan) -> list[Slack]:
    constraints = table.constraints
    kinds = {demand.kind: demand.name for demand in table.demands}
    slacks = []
    if constraints.max_latency_s is not None:
        p50 = constraints.latency == "p50"
        used = plan.latency_p50_s if p50 else plan.latency_p95_s
        if constraints.max_degraded_latency_s is None:
            used = max(used, plan.degraded_latency_s)
        slacks.append(
            Slack(name=kinds["latency"], unit="s", limit=constraints.max_latency_s, used=used)
        )
    if constraints.max_degraded_latency_s is not None:
        slacks.append(
            Slack(
                name=kinds["degraded"],
                unit="s",
                limit=constraints.max_degraded_latency_s,
                used=plan.degraded_latency_s,
            )
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


def _is_broken(table: Table, demand: Demand, primaries: Picks, fallbacks: Picks) -> bool:
    """Whether a demand without a figure is broken."""
    used = [
        picks[agent]
        for picks in (primaries, fallbacks)
        for agent in picks
        if table.covers(demand, agent)
    ]
    if demand.kind == "privacy":
        return not all(candidate.is_local for candidate in used)
    if demand.kind == "synthetic":
        return any(candidate.row.synthetic for candidate in used)
    if demand.kind == "apart":
        return any(primaries[agent].domain == c.domain for agent, c in fallbacks.items())
    return demand.kind == "fallback" and demand.agent not in fallbacks
