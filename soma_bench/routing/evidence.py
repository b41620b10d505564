"""What was measured of one target at one agent.

It is the row that compare prints, that the optimiser chooses from and that a profile carries as
its proof.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from soma_bench.agents.base import Strict
from soma_bench.types import AgentName, Target

UNCALIBRATED = "uncalibrated judge:"
"""Opens the name of a metric that rests on a judge without enough labels; no evidence has one."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Mean = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Selection = Literal["held_out", "same cases"]


class Evidence(Strict):
    """One agent on one target: how good, how fast, how dear, and how sure."""

    agent: AgentName
    target: str
    """Canonical text of the target."""
    metric: str
    """Name of the agent's primary metric."""
    n: Annotated[int, Field(ge=1)]
    """Trials behind the figures; a failed answer counts and scores 0."""
    cases: Annotated[int, Field(ge=1)]
    """Distinct cases among them; the interval resamples cases, not trials."""
    quality: Share
    """Mean of the primary metric."""
    quality_low: Share
    quality_high: Share
    """95 % interval of the mean."""
    selection: Selection = "same cases"
    """Whether the figures are of cases that had no part in choosing the target, or of the same cases
    by which targets are chosen, which flatter the one that is."""
    answer_failures: Count
    """Answers that did not parse, were cut off or refused, all counted in ``n``."""
    latency_p50_s: Seconds
    latency_p95_s: Seconds
    """Over the trials that found their model loaded and the machine quiet, where there are any."""
    cost_usd: Mean | None
    """Mean price of one call: its fee in the cloud, its electricity on one's own machine; None when
    it is not known."""
    memory_bytes: Count | None
    """Memory of the loaded model; None where it is someone else's machine or was not measured."""
    prompt_tokens: Mean | None
    output_tokens: Mean | None
    thinking_tokens: Mean | None
    """Mean tokens per call, None where the backend does not count; thinking is part of output."""
    load_s: Annotated[Seconds | None, Field(exclude_if=lambda value: value is None)] = None
    """Seconds that the model takes to load; None where it was not measured."""
    kv_bytes: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Key-value cache at the context in use, where ``memory_bytes`` does not hold it already."""
    failure_rate: Annotated[Share | None, Field(exclude_if=lambda value: value is None)] = None
    """Share of calls that end on the fallback, e.g. from operation; None for that of the answers."""
    synthetic: bool
    """Whether the target's weights are a test derivative: such figures prove nothing about a model
    anyone would deploy."""

    @property
    def failures(self) -> float:
        """Share of calls that end on the fallback: as given, or the failed answers among the trials."""
        return self.answer_failures / self.n if self.failure_rate is None else self.failure_rate

    @field_validator("target")
    @classmethod
    def _is_canonical(cls, value: str) -> str:
        if str(Target.parse(value)) != value:
            raise ValueError(f"target {value!r} is not in canonical form")
        return value

    @field_validator("metric")
    @classmethod
    def _is_calibrated(cls, value: str) -> str:
        if value.startswith(UNCALIBRATED):
            raise ValueError(f"{value!r} is no evidence; label more answers for the judge")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Evidence:
        if not self.quality_low <= self.quality <= self.quality_high:
            raise ValueError("quality must lie inside its interval")
        if self.latency_p50_s > self.latency_p95_s:
            raise ValueError("latency_p50_s is above latency_p95_s")
        if self.answer_failures > self.n or self.cases > self.n:
            raise ValueError("answer_failures and cases cannot be more than n")
        return self
