"""What a researcher demands of a routing: the limits the optimiser holds and a profile records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from soma_bench.agents.base import Strict
from soma_bench.routing.evidence import Share
from soma_bench.types import AGENTS, AgentName, PrivacyLevel

Pipeline = Literal["sequential", "parallel"]
"""How the five stages run: one after another, or radiologist and pathologist side by side."""

Percentile = Literal["p50", "p95"]

Objective = Literal["quality_latency_cost"]
"""Highest sum of the primaries' quality, then lowest pipeline latency, then lowest cost."""


def _by_agent(value: dict[AgentName, Any]) -> dict[AgentName, Any]:
    return {agent: value[agent] for agent in AGENTS if agent in value}


class Constraints(Strict):
    """Limits on an assignment of targets to agents; None is no limit."""

    quality_floors: Annotated[dict[AgentName, Share], AfterValidator(_by_agent)] = Field(
        default_factory=dict
    )
    """Lowest quality that an agent's targets (primary and fallback) may have."""
    floor_on: Literal["low", "mean"] = "low"
    """What a floor is compared with: the lower end of the 95 % interval, or the mean."""
    privacy: Annotated[dict[AgentName, PrivacyLevel], AfterValidator(_by_agent)] = Field(
        default_factory=dict
    )
    """An agent that is not named is ``local_only``."""
    max_latency_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    """Over the whole pipeline, also with any one stage on its fallback."""
    latency: Percentile = "p95"
    """Which latency of a stage counts. A sum of p95 is an upper estimate of the pipeline's p95."""
    max_memory_bytes: Annotated[int, Field(gt=0, le=1 << 50)] | None = None
    """Over the distinct models that must be resident together, fallbacks included."""
    max_cost_usd_per_1000: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    """Price of 1000 analyses on the primaries."""
    require_fallback: bool | Annotated[dict[AgentName, bool], AfterValidator(_by_agent)] = False
    allow_synthetic: bool = False
    """Whether targets with synthetic weights may be chosen, whose figures prove nothing about a
    model anyone would deploy."""

    def privacy_of(self, agent: AgentName) -> PrivacyLevel:
        """The agent's privacy level; ``local_only`` where none is given."""
        return self.privacy.get(agent, "local_only")

    def needs_fallback(self, agent: AgentName) -> bool:
        """Whether a routing without a fallback for ``agent`` is refused."""
        if isinstance(self.require_fallback, bool):
            return self.require_fallback
        return self.require_fallback.get(agent, False)


def chains(pipeline: Pipeline) -> tuple[tuple[AgentName, ...], ...]:
    """The stages that wait for one another; the pipeline takes as long as its slowest chain."""
    if pipeline == "sequential":
        return (AGENTS,)
    return (
        tuple(agent for agent in AGENTS if agent != "pathologist"),
        tuple(agent for agent in AGENTS if agent != "radiologist"),
    )
