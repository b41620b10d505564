"""One timed request, and the measures that are derived from it.

The words are those of `soma_bench.types.Timings`, by the clock of whoever waits: a wait for the
connection, a queue on the way or a model that has to be loaded first is part of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request; times in seconds. All but ``started_s`` count from the request's own start."""

    number: int
    """Which request of its level; decides the prompt."""
    started_s: float
    """When it was meant to start, from the level's beginning."""
    late_s: float
    """How much later than meant it was sent: above 0 only where arrivals have a rate."""
    first_token_s: float | None
    first_answer_token_s: float | None
    last_token_s: float | None
    total_s: float
    """Until the answer's end, or its failure."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    load_s: float | None = None
    """Loading the model for this request, as the backend says."""
    finish: str | None = None
    failure: str | None = None
    """Kind of the `ProviderError`; None where there is an answer."""

    @property
    def ended_s(self) -> float:
        """When it ended, from the level's beginning."""
        return self.started_s + self.total_s

    @property
    def inter_token_s(self) -> float | None:
        """ITL: (last - first) / (n - 1)."""
        if self.last_token_s is None or self.first_token_s is None:
            return None
        if self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)

    @property
    def per_token_s(self) -> float | None:
        """TPOT: (last - start) / n."""
        if self.last_token_s is None or not self.output_tokens:
            return None
        return self.last_token_s / self.output_tokens


MEASURES: Mapping[str, Callable[[Sample], float | None]] = {
    "ttft": lambda sample: sample.first_token_s,
    "ttfot": lambda sample: sample.first_answer_token_s,
    "itl": lambda sample: sample.inter_token_s,
    "tpot": lambda sample: sample.per_token_s,
    "total": lambda sample: sample.total_s,
}
"""The measures of an answered request by the names that objectives and reports use, in seconds."""
