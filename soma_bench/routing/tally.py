"""How calls have ended, target by target: what a service in production says of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from soma_bench.routing.breaker import State
from soma_bench.types import AgentName, Target


@dataclass(slots=True, kw_only=True)
class Count:
    """The calls of one target so far."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By the word that an `Attempt` has for it."""
    given_up: int = 0
    """Calls whose caller went away before the answer."""
    last_error: str | None = None
    last_error_at: str | None = None
    """ISO 8601, UTC."""


class Tally:
    """Counts calls; words and times only, nothing of what was asked or answered."""

    def __init__(self) -> None:
        self._counts: dict[Target, Count] = {}

    def of(self, target: Target) -> Count:
        """What was counted of a target."""
        return self._counts.setdefault(target, Count())

    def answered(self, target: Target) -> None:
        """It gave a usable answer."""
        self.of(target).answered += 1

    def failed(self, target: Target, kind: str) -> None:
        """It gave none."""
        count = self.of(target)
        count.failed[kind] += 1
        count.last_error = kind
        count.last_error_at = datetime.now(UTC).isoformat(timespec="seconds")

    def given_up(self, target: Target) -> None:
        """Nobody waits for its answer any more."""
        self.of(target).given_up += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSummary:
    """One target as the router has known it so far; no backend was asked for this."""

    target: str
    provider: str
    is_local: bool
    agents: tuple[AgentName, ...]
    """Whose routes name it."""
    breaker: State
    resting: str | None
    """Why it is left alone now; None where it is not."""
    answered: int
    failed: dict[str, int]
    """By the kind of the failure."""
    given_up: int
    last_error: str | None
    """Kind of the latest failure, never its text; None where there was none."""
    last_error_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSummary:
    """A router as it is now, without asking any backend."""

    profile: str
    digest: str
    """The profile's, whether its file states one or not."""
    targets: tuple[TargetSummary, ...]
    refused: dict[AgentName, str]
    """Agents that cannot be asked as the environment is, and why."""
    loaded_at: str | None = None
    """ISO 8601, UTC; None where the profile came from no file."""
    valid_until: str | None = None
    """When the profile's signature ends; None where it is unsigned."""
    reload_error: str | None = None
    """Why the profile's file, which has changed, was not taken; None where it was."""
