"""What a running pipeline tells of its progress. No event carries text of the case."""

from __future__ import annotations

from dataclasses import dataclass

from soma_bench.pipeline.analysis import StageResult
from soma_bench.types import AgentName, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage has its machine and is asked now."""

    agent: AgentName
    round: int
    """1 for the agent's first answer in this case, 2 for its second, ..."""
    queued_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFellBack:
    """A stage was answered by another target than its first; told as the stage ends."""

    agent: AgentName
    target: Target
    passed_over: tuple[str, ...]
    """Why each target before it gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A stage has its answer."""

    result: StageResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFailed:
    """A stage got no answer, and the pipeline ends or goes on without it."""

    agent: AgentName
    round: int
    kind: str
    """Kind of the failure, without its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteStarted:
    """The review found critical issues, and the report goes back to its writer."""

    critical: int
    """How many critical issues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteFailed:
    """The report could not be written anew; the draft stands, with its critical issues."""

    why: str


Event = StageStarted | StageFellBack | StageEnded | StageFailed | RewriteStarted | RewriteFailed
