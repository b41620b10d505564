"""One deadline for the pipeline, shared out to its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from soma_bench.pipeline.graph import Stage
from soma_bench.routing.profile import Profile, resolve
from soma_bench.types import AGENTS, AgentName

Weights = Mapping[AgentName, float]
"""How long the stages take beside one another; an agent that is not named weighs 1."""

_LEAST_WEIGHT = 1e-3


def stage_weights(profile: Profile) -> dict[AgentName, float]:
    """Weights from the profile's evidence: the median latency of each agent's primary.

    An agent whose primary was not measured weighs as much as the mean of the others; where nothing
    was measured all weigh the same.
    """
    measured = {(row.agent, row.target): row.latency_p50_s for row in profile.evidence}
    keys = {agent: (agent, str(resolve(profile, agent).primary)) for agent in AGENTS}
    known = {agent: measured[key] for agent, key in keys.items() if key in measured}
    mean = sum(known.values()) / len(known) if known else 1.0
    return {agent: max(_LEAST_WEIGHT, known.get(agent, mean)) for agent in AGENTS}


def budget_s(left_s: float, agent: AgentName, stages: Sequence[Stage], weights: Weights) -> float:
    """Seconds that ``agent``'s stage may use of the ``left_s`` until the pipeline's deadline.

    The stages after it on the slowest way to the end keep a reserve in proportion to their
    weights. What a stage does not use is shared out again among those after it.
    """
    by_agent = {stage.agent: stage for stage in stages}
    own = weights.get(agent, 1.0)
    return max(0.0, left_s) * own / (own + _after_s(by_agent[agent], stages, weights))


def _after_s(stage: Stage, stages: Sequence[Stage], weights: Weights) -> float:
    """Weight of the slowest way from the end of ``stage`` to the end of the pipeline."""
    return max(
        (
            weights.get(other.agent, 1.0) + _after_s(other, stages, weights)
            for other in stages
            if stage.agent in other.waits_for(stages)
        ),
        default=0.0,
    )
