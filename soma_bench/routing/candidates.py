"""What a profile says of every target at an agent, in the form that the decision takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from soma_bench.routing.decision import Candidate, Order
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.overrides import default_model
from soma_bench.routing.profile import Profile, Route
from soma_bench.types import AGENTS, PROVIDERS, AgentName, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One agent's route, worked out once for all calls of a privacy level."""

    route: Route
    order: Order
    candidates: tuple[Candidate, ...]
    """The route's targets, as it names them."""
    others: tuple[Candidate, ...]
    """Every other target of the profile."""
    p95_s: dict[Target, float]
    """What the route's targets were measured to take."""


def plan_for(
    profile: Profile, route: Route, *, order: Order, context_tokens: Callable[[Target], int]
) -> Plan:
    """The plan of a route.

    Args:
        profile: under the environment.
        route: the agent's route in it, likewise.
        order: whether its order holds or the rules give one.
        context_tokens: the context that a local model is asked to hold.
    """
    agent = route.agent
    measured = {Target.parse(r.target): r for r in profile.evidence if r.agent == agent}
    places = {route.primary: "primary"}
    if route.fallback is not None:
        places[route.fallback] = "fallback"

    def candidate(target: Target) -> Candidate:
        is_local = profile.is_local(target)
        row = measured.get(target)
        return Candidate(
            target=target,
            is_local=is_local,
            enabled=profile.providers.enabled(target.provider),
            place=places.get(target),
            acceptable=_acceptable(profile, agent, row),
            quality=None if row is None else row.quality,
            window_tokens=context_tokens(target) if is_local else None,
        )

    others = dict.fromkeys(_targets(profile))
    return Plan(
        route=route,
        order=order,
        candidates=tuple(map(candidate, places)),
        others=tuple(candidate(target) for target in others if target not in places),
        p95_s={target: measured[target].latency_p95_s for target in places if target in measured},
    )


def _acceptable(profile: Profile, agent: AgentName, row: Evidence | None) -> bool | None:
    floor = profile.constraints.quality_floors.get(agent)
    if row is None or floor is None:
        return None
    on_mean = profile.constraints.floor_on == "mean"
    return (row.quality if on_mean else row.quality_low) >= floor


def _targets(profile: Profile) -> Iterator[Target]:
    """Every target that the profile names anywhere."""
    for agent in AGENTS:
        for text in (profile.routing[agent].primary, profile.routing[agent].fallback):
            if text is not None:
                yield profile.target(text)
    for provider, aliases in profile.models.items():
        for model in aliases.values():
            yield Target(provider, model)
    for provider in PROVIDERS:
        default = default_model(profile, provider)
        if default is not None:
            yield Target(provider, default)
    for row in profile.evidence:
        yield Target.parse(row.target)
