"""A chosen plan on a clock: when each stage loads and answers, and what the analysis waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from soma_bench.optimize import Plan
from soma_bench.optimize.residency import READERS, previous
from soma_bench.providers.places import is_cloud_tag
from soma_bench.routing.constraints import Constraints, Percentile, Pipeline, chains
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage, in seconds from the start of the analysis."""

    agent: AgentName
    start_s: float
    load_s: float
    """How long its model is loaded before it answers; 0 for one that stays in memory."""
    end_s: float
    is_critical: bool
    """Whether the analysis waits for it."""


def clock(
    plan: Plan,
    pipeline: Pipeline,
    constraints: Constraints,
    evidence: Iterable[Evidence],
    percentile: Percentile,
) -> tuple[StageTime, ...]:
    """When each stage of a plan runs, all at the same percentile.

    The last stage ends at the plan's own latency: loads of swapped models and contention count as
    the optimiser counts them.

    Args:
        plan: the choice.
        pipeline: how its stages run.
        constraints: what it was chosen under.
        evidence: all rows it was chosen from; a model's load is the longest of its rows.
        percentile: of each stage's latency.
    """
    rows = {choice.agent: choice.primary for choice in plan.choices}
    models = {agent: model_of(row.target) for agent, row in rows.items()}
    longest: dict[str, float] = {}
    for row in evidence:
        model = model_of(row.target)
        longest[model] = max(longest.get(model, 0.0), row.load_s or 0.0)
    contends = pipeline == "parallel" and all(is_local(rows[agent].target) for agent in READERS)
    loads, lengths = {}, {}
    for agent, row in rows.items():
        answer = row.latency_p50_s if percentile == "p50" else row.latency_p95_s
        if contends and agent in READERS:
            answer *= constraints.contention
        before = {models[other] for other in previous(pipeline, agent)}
        swapped = models[agent] in plan.swapped and models[agent] not in before
        loads[agent] = longest[models[agent]] if swapped else 0.0
        lengths[agent] = loads[agent] + answer
    paths = chains(pipeline)
    slowest = max(paths, key=lambda path: sum(lengths[agent] for agent in path))
    ends: dict[AgentName, float] = {}
    stages = []
    for agent in AGENTS:
        awaited = {path[path.index(agent) - 1] for path in paths if agent in path[1:]}
        start = max((ends[other] for other in awaited), default=0.0)
        ends[agent] = start + lengths[agent]
        stages.append(
            StageTime(
                agent=agent,
                start_s=start,
                load_s=loads[agent],
                end_s=ends[agent],
                is_critical=agent in slowest,
            )
        )
    return tuple(stages)


@lru_cache(maxsize=4096)
def model_of(target: str) -> str:
    """``provider:model``: what is loaded for a target."""
    parsed = Target.parse(target)
    return parsed.whole_model


@lru_cache(maxsize=4096)
def is_local(target: str) -> bool:
    """Whether a target runs on one's own machine, as the optimiser sees it."""
    parsed = Target.parse(target)
    return parsed.is_local and not is_cloud_tag(parsed.model)
