"""What the router gives back: an agent's answer with the way it took, and the events of a live chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from soma_bench.types import AgentName, Attempt, Completion, PrivacyLevel, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """An agent's answer, and the way it took."""

    agent: AgentName
    target: Target
    completion: Completion
    output: Any
    """The agent's typed output."""
    passed_over: tuple[str, ...]
    """Why each target before this one gave no answer; empty when the first one answered."""
    reason: str = ""
    """Why this target was asked."""
    attempts: tuple[Attempt, ...] = ()
    """Every try, in order; the last one answered."""
    privacy: PrivacyLevel = "local_only"
    """Effective level of the call, which its output inherits."""
    cost_usd: float | None = None
    """Price of the answered call; None where it is not known."""
    fallback_used: bool = False
    """Whether another target than the first answered."""
    saw_images: bool = False
    """Whether the target was shown the case's pictures."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The answer begins anew: what a live chat has shown of it so far is void."""

    target: Target
    """Which target answers now."""
    why: str
    """Kind of the failure before, as an `Attempt` names it."""


Event = str | Restarted | Routed
"""A piece of text, a restart, or, last, the whole."""
