"""What a score is, and what every agent's scorer offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The value of one answer."""

    primary: float
    """The agent's primary metric for this answer, in [0, 1], higher is better."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What the primary was made of, and what was measured beside it; JSON values by name."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Judges the answers of one agent, without calling anything: a pure function of both texts."""

    agent: AgentName
    version: int
    """Raised with every change that may alter a score; stored with each score."""
    primary: str
    """Name of the primary metric, as tables show it."""
    score: Callable[[Any, Any], Score]
    """(output, reference) -> Score of an answer that parsed."""
    summarize: Callable[[Sequence[tuple[Mapping[str, Any] | None, Any]]], Mapping[str, float]]
    """Figures that only exist over many answers, from pairs of (a score's parts, None where the
    answer failed; the case's reference), such as macro-F1."""
