"""What the store holds, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from soma_bench.types import AgentName, FinishReason

TrialStatus = Literal["done", "error"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution of a sweep."""

    id: str
    name: str
    plan_digest: str
    """Digest of the plan at epoch 0: the same for every start of the same sweep."""
    epoch: int
    sweep: Mapping[str, Any]
    started_at: str
    environment: Mapping[str, Any]
    """Hardware and library versions that the run began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far a run has come."""

    id: str
    started_at: str
    planned: int
    done: int
    failed: int
    """Trials that ended with a backend's failure and run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """A trial's place in a run, and the case it is scored by."""

    key: str
    agent: str
    suite: str
    case_digest: str
    case: Mapping[str, Any] | None
    """None where an earlier row of the plan has brought it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial as it ended. Seconds end in ``_s``; None is what nobody said."""

    key: str
    agent: AgentName
    target: str
    provider: str
    model: str
    quantization: str | None
    thinking: str | None
    case_id: str
    repeat: int
    status: TrialStatus
    """``done``, or ``error`` for a backend's failure, which is not scored and runs again."""
    error: str | None = None
    request: Mapping[str, Any]
    identity: Mapping[str, Any]
    synthetic: bool
    answer: str | None = None
    thoughts: str | None = None
    finish: FinishReason | None = None
    structured_by: str | None = None
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    output_tokens: Count | None = None
    thinking_tokens: Count | None = None
    queue_s: Seconds | None = None
    load_s: Seconds | None = None
    first_token_s: Seconds | None = None
    first_answer_token_s: Seconds | None = None
    prefill_s: Seconds | None = None
    decode_s: Seconds | None = None
    total_s: Seconds | None = None
    start: str | None = None
    """``cold`` where this call loaded the model, ``warm`` where it was loaded already; None where
    the backend does not say, as clouds do not."""
    other_cpu_share: Share | None = None
    """Share of this machine's CPU time that went to processes with no part in the trial."""
    busy: bool | None = None
    """Whether that was so much that the trial's latency is not to be relied on."""
    power_mode: str | None = None
    """macOS's power mode while it ran; None elsewhere."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Calls that the sweep had under way at the same account or host when this one began or ended,
    itself included, whichever were more; None where nobody counted."""
    memory_bytes: Count | None = None
    cost_usd: Dollars | None = None
    """Price of the call: its fee in the cloud, its electricity on one's own machine; None where it
    is not known."""
    cost_basis: str | None = None
    """``price list`` or ``electricity``."""
    cost_source: str | None = None
    """Where the price stands, or why there is none."""
    ended_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """A scorer's verdict on a trial."""

    key: str
    case_digest: str
    scorer_version: int
    primary_value: Annotated[float, Field(ge=0, le=1)]
    failure: str | None
    """Why the answer failed (it did not parse, was cut off, was refused); None when it was read."""
    parts: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRecord:
    """One look of a race at one agent: what was seen and decided."""

    agent: AgentName
    look: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=2)]
    """Independent cases (clusters) that every target still in the race was measured on."""
    alpha: Share
    """The look's share of the race's error."""
    standings: Sequence[Mapping[str, Any]]
    """Every target still in the race: ``target, mean, rival, t, p, dropped_by``."""
    regret: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Expected cost in score of stopping here with the leader."""
    stop: str | None
    """Why the race ended here; None where it went on."""
    chosen: str | None
    """The target that was picked when the race ended here."""
    rules: Mapping[str, Any]
    scorer_version: int

    @property
    def survivors(self) -> tuple[str, ...]:
        """Targets that stayed in the race."""
        return tuple(row["target"] for row in self.standings if row["dropped_by"] is None)


RUN, TRIAL, SCORE = TypeAdapter(RunRecord), TypeAdapter(TrialRecord), TypeAdapter(ScoreRecord)
LOOK = TypeAdapter(LookRecord)


def now() -> str:
    """The time in UTC, to the second, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def row_of(record: RunRecord | TrialRecord | ScoreRecord | LookRecord) -> dict[str, Any]:
    """A record's fields by name, its values as they are: a deep copy of a prompt buys nothing."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
