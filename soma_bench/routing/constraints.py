"""What a researcher demands of a routing: the limits the optimiser holds and a profile records."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soma_bench.agents.base import Strict
from soma_bench.routing.evidence import Share
from soma_bench.types import AGENTS, AgentName, PrivacyLevel

Pipeline = Literal["sequential", "parallel"]
"""How the five stages run: one after another, or radiologist and pathologist side by side."""

Percentile = Literal["p50", "p95"]

Apart = Literal["target", "provider", "machine"]
"""How far a fallback stands from its primary, so that one failure does not take both: another
target; another provider (another process or vendor); another machine, where everything that runs on
one's own counts as one."""

Goal = Literal["quality", "latency", "cost"]
GOALS: tuple[Goal, ...] = get_args(Goal)

Tolerance = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Lexicographic(Strict):
    """One goal after the other: each is as good as can be, then held there within its tolerance."""

    order: Annotated[tuple[Goal, ...], Field(strict=False)] = GOALS
    """All three goals, the one that matters most first."""
    quality_tolerance: Tolerance = 0.0
    """How much of the sum of the primaries' quality later goals may give up."""
    latency_tolerance_s: Tolerance = 0.0
    cost_tolerance_usd_per_1000: Tolerance = 0.0

    @model_validator(mode="after")
    def _names_each_goal_once(self) -> Lexicographic:
        if sorted(self.order) != sorted(GOALS):
            raise ValueError(f"order must name each of {', '.join(GOALS)} once")
        return self


class Weighted(Strict):
    """The highest weighted sum: quality counts for it, latency and cost against it."""

    quality: Tolerance = 1.0
    """Per unit of the sum of the primaries' quality."""
    latency_per_s: Tolerance = 0.0
    """Per second of the pipeline's latency."""
    cost_per_usd_per_1000: Tolerance = 0.0
    """Per dollar that 1000 analyses on the primaries cost."""

    @model_validator(mode="after")
    def _weighs_something(self) -> Weighted:
        if not (self.quality or self.latency_per_s or self.cost_per_usd_per_1000):
            raise ValueError("one weight at least must be above 0")
        return self


def _text_or_goals(value: object) -> object:
    """One sentence for what is neither, in place of one for each kind that it might have been."""
    if value == "quality_latency_cost" or isinstance(value, dict | Lexicographic | Weighted):
        return value
    raise ValueError("is 'quality_latency_cost', an order with tolerances, or weights")


Objective = Annotated[
    Literal["quality_latency_cost"] | Lexicographic | Weighted, BeforeValidator(_text_or_goals)
]
"""The text stands for the usual order, without tolerance: highest sum of the primaries' quality,
then lowest pipeline latency, then lowest cost."""


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
    """Over the whole pipeline, also with any one stage on its fallback unless that has its own limit."""
    max_degraded_latency_s: Annotated[
        float | None,
        Field(gt=0, le=86_400, allow_inf_nan=False, exclude_if=lambda limit: limit is None),
    ] = None
    """Over the whole pipeline with any one stage on its fallback; not below ``max_latency_s``."""
    latency: Percentile = "p95"
    """Which latency of a stage counts. A sum of p95 is an upper estimate of the pipeline's p95."""
    max_memory_bytes: Annotated[int, Field(gt=0, le=1 << 50)] | None = None
    """Over the models that are in memory together with their caches, fallbacks included: the working
    set, see `working_set_bytes`."""
    may_swap: Annotated[bool, Field(exclude_if=lambda may: not may)] = False
    """Whether models may be loaded for their stage in each analysis, where not all fit together.
    Without it every model in use stays resident."""
    contention: Annotated[
        float, Field(ge=1, le=10, allow_inf_nan=False, exclude_if=lambda factor: factor == 1)
    ] = 1.0
    """By how much radiologist and pathologist are slower when both work on one's own machine at the
    same time, as measured; 1 is no slower, which flatters a parallel pipeline on one accelerator."""
    max_cost_usd_per_1000: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    """Price of 1000 analyses: on the primaries, and on the fallbacks as often as primaries fail."""
    fallback_rate: Annotated[Share | None, Field(exclude_if=lambda rate: rate is None)] = None
    """Share of calls that end on the fallback; None for each primary's own, from its evidence."""
    fallback_apart: Annotated[Apart, Field(exclude_if=lambda apart: apart == "target")] = "target"
    require_fallback: bool | Annotated[dict[AgentName, bool], AfterValidator(_by_agent)] = False
    allow_synthetic: bool = False
    """Whether targets with synthetic weights may be chosen, whose figures prove nothing about a
    model anyone would deploy."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Constraints:
        degraded = self.max_degraded_latency_s
        if degraded is not None and (self.max_latency_s is None or degraded < self.max_latency_s):
            raise ValueError(
                "max_degraded_latency_s must stand beside max_latency_s and not be below it"
            )
        if self.may_swap and self.max_memory_bytes is None:
            raise ValueError("may_swap needs max_memory_bytes; without a limit nothing is swapped")
        return self

    def privacy_of(self, agent: AgentName) -> PrivacyLevel:
        """The agent's privacy level; ``local_only`` where none is given."""
        return self.privacy.get(agent, "local_only")

    def needs_fallback(self, agent: AgentName) -> bool:
        """Whether a routing without a fallback for ``agent`` is refused."""
        if isinstance(self.require_fallback, bool):
            return self.require_fallback
        return self.require_fallback.get(agent, False)


def working_set_bytes(memory_bytes: int) -> int:
    """What models may take of a Mac's unified memory: Metal's default of 75 %, 27 GiB of 36."""
    return memory_bytes * 3 // 4


def chains(pipeline: Pipeline) -> tuple[tuple[AgentName, ...], ...]:
    """The stages that wait for one another; the pipeline takes as long as its slowest chain."""
    if pipeline == "sequential":
        return (AGENTS,)
    return (
        tuple(agent for agent in AGENTS if agent != "pathologist"),
        tuple(agent for agent in AGENTS if agent != "radiologist"),
    )
