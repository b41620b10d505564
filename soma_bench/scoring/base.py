"""What a score is, and what every agent's scorer offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The value of one answer."""

    primary: float
    """The agent's primary metric for this answer, in [0, 1], higher is better."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What the primary was made of, and what was measured beside it; JSON values by name."""


class Answer(NamedTuple):
    """One scored answer, as the figures over many of them see it."""

    parts: Mapping[str, Any] | None
    """Parts of its score; None where the answer failed, which counts as wrong."""
    reference: Any
    case: str = ""
    """The case's id: repeats of one case share it."""
    cluster: str | None = None
    """What the case shares with others, such as the message that they paraphrase."""
    tags: tuple[str, ...] = ()


def _no_breakdown(_: Sequence[Answer]) -> Mapping[str, Any]:
    return {}


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
    summarize: Callable[[Sequence[Answer]], Mapping[str, float]]
    """Figures that only exist over many answers, such as macro-F1."""
    headline: tuple[str, ...]
    """Those of the figures that a narrow table shows."""
    breakdown: Callable[[Sequence[Answer]], Mapping[str, Any]] = _no_breakdown
    """Those figures by class, too many for a table; JSON values by name."""
