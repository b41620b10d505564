"""The routing that a run's figures speak for, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, field

from soma_bench.comparison import Comparison
from soma_bench.optimize import (
    Binding,
    Infeasible,
    Order,
    Plan,
    RunnerUp,
    ShadowPrice,
    Solution,
    best_single_model,
    build_profile,
    optimize,
    runner_up,
    shadow_prices,
    what_binds,
)
from soma_bench.routing.constraints import Constraints, Objective
from soma_bench.routing.profile import Profile, resolve
from soma_bench.types import AGENTS, AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What the routing must hold, and what is best."""

    constraints: Constraints = field(default_factory=Constraints)
    pipeline: Order = "sequential"
    objective: Objective = "quality_latency_cost"
    profile: Profile | None = None
    """The profile that the demands were taken from, which the choice is held against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """An agent that the profile routes otherwise than the run's figures speak for."""

    agent: AgentName
    profile: str
    """The profile's primary and fallback."""
    figures: str
    """Those of the choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The choice, what stands beside it, and how sure it is."""

    solution: Solution
    profile: Profile
    """The choice as a profile, for the figures that are drawn of one."""
    binding: tuple[Binding, ...]
    prices: tuple[ShadowPrice, ...]
    second: RunnerUp | None
    single: Plan | None
    departures: tuple[Departure, ...]

    @property
    def synthetic(self) -> tuple[AgentName, ...]:
        """Agents whose primary or fallback has synthetic weights."""
        return tuple(
            choice.agent
            for choice in self.solution.plan.choices
            if choice.primary.synthetic
            or (choice.fallback is not None and choice.fallback.synthetic)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Why there is no choice."""

    missing: tuple[AgentName, ...] = ()
    """Agents without figures."""
    infeasible: Infeasible | None = None


def decide(comparison: Comparison, demands: Demands) -> Decision | Undecided:
    """Choose as ``soma-bench optimize`` does, and hold the choice against its rivals.

    Raises:
        ConfigError: a limit cannot be checked, such as one on cost where a price is not known.
    """
    evidence, limits = comparison.evidence, demands.constraints
    measured = {row.agent for row in evidence}
    missing = tuple(agent for agent in AGENTS if agent not in measured)
    if missing:
        return Undecided(missing=missing)
    solution = optimize(evidence, limits, pipeline=demands.pipeline, objective=demands.objective)
    if isinstance(solution, Infeasible):
        return Undecided(infeasible=solution)
    return Decision(
        solution=solution,
        profile=build_profile(
            solution,
            name=comparison.run.name,
            evidence=evidence,
            provenance=comparison.provenance,
        ),
        binding=what_binds(evidence, limits, pipeline=demands.pipeline),
        prices=shadow_prices(evidence, limits, pipeline=demands.pipeline),
        second=runner_up(evidence, solution, pipeline=demands.pipeline, scores=comparison.scores),
        single=best_single_model(
            evidence, limits, pipeline=demands.pipeline, objective=demands.objective
        ),
        departures=_departures(solution, demands.profile),
    )


def _departures(solution: Solution, profile: Profile | None) -> tuple[Departure, ...]:
    if profile is None:
        return ()
    found = []
    for choice in solution.plan.choices:
        route = resolve(profile, choice.agent)
        theirs = (str(route.primary), None if route.fallback is None else str(route.fallback))
        fallback = None if choice.fallback is None else choice.fallback.target
        ours = (choice.primary.target, fallback)
        if ours != theirs:
            found.append(
                Departure(agent=choice.agent, profile=_route(*theirs), figures=_route(*ours))
            )
    return tuple(found)


def _route(primary: str, fallback: str | None) -> str:
    return f"{primary}, fallback {fallback or 'none'}"
