"""What a report takes from single trials, collected while they pass by once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from soma_bench.effects import Effect, effects
from soma_bench.sweeps.scores import FailureKind, ScoredTrial, scored_trials
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName

Kind = FailureKind | Literal["backend"]
"""How a trial failed: its answer, or the backend that should have given one."""

KINDS: tuple[Kind, ...] = ("unparsed", "truncated", "refused", "backend")

_MOST_SHOWN = 40
_MOST_OF_A_KIND = 2
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One trial that failed. The answer's text stays out: it may name a patient."""

    agent: AgentName
    target: str
    case: str
    repeat: int
    kind: Kind
    reason: str


@dataclass(slots=True)
class Readings:
    """Figures of single trials, summed up."""

    counts: Counter[tuple[AgentName, str, Kind]] = field(default_factory=Counter)
    """Failed trials by agent, target and kind."""
    failures: list[Failure] = field(default_factory=list)
    """Some of them: a few of each target and kind."""
    effects: Sequence[Effect] = ()
    cases: dict[AgentName, int] = field(default_factory=dict)
    """Distinct cases with an answer, by agent."""
    ended: tuple[str, str] | None = None
    """When the first and the last trial ended."""
    busy_s: float = 0.0
    """Seconds that all calls took together."""
    cost_usd: float = 0.0
    """Of the calls whose price is known."""
    unpriced: int = 0
    """Calls whose price is not known."""


def read_trials(store: Store, run_id: str) -> Readings:
    """Collect what the report shows of the run's single trials.

    Raises:
        ConfigError: what the store holds of the run is damaged.
    """
    readings = Readings()
    collector = _Collector(readings)
    # The effects are computed from the same pass; the trials themselves are not kept.
    readings.effects = effects(collector.watched(scored_trials(store, run_id)))
    for trial in store.trials(run_id):
        if trial["status"] == "error":
            collector.note_failure(trial, "backend", trial["error"] or "no reason was given")
    collector.finish()
    return readings


class _Collector:
    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._cases: dict[AgentName, set[str]] = defaultdict(set)
        self._failures: dict[tuple[AgentName, str, Kind], list[Failure]] = defaultdict(list)
        self._times: list[str] = []

    def watched(self, scored: Iterable[ScoredTrial]) -> Iterator[ScoredTrial]:
        for one in scored:
            self._note(one)
            yield one

    def note_failure(self, trial: Mapping[str, Any], kind: Kind, reason: str) -> None:
        place = (trial["agent"], trial["target"], kind)
        self._readings.counts[place] += 1
        if len(self._failures[place]) < _MOST_OF_A_KIND:
            self._failures[place].append(
                Failure(
                    agent=trial["agent"],
                    target=trial["target"],
                    case=trial["case_id"],
                    repeat=trial["repeat"],
                    kind=kind,
                    reason=_shortened(reason),
                )
            )

    def finish(self) -> None:
        readings = self._readings
        readings.cases = {agent: len(found) for agent, found in self._cases.items()}
        if self._times:
            readings.ended = (min(self._times), max(self._times))
        # The first of each target and kind before the second of any.
        found = [one for ones in zip_longest(*self._failures.values()) for one in ones if one]
        readings.failures = sorted(
            found[:_MOST_SHOWN],
            key=lambda one: (AGENTS.index(one.agent), one.target, KINDS.index(one.kind), one.case),
        )

    def _note(self, one: ScoredTrial) -> None:
        readings, trial = self._readings, one.trial
        self._cases[trial["agent"]].add(one.case.id)
        self._times.append(trial["ended_at"])
        readings.busy_s += trial["total_s"]
        if trial["cost_usd"] is None:
            readings.unpriced += 1
        else:
            readings.cost_usd += trial["cost_usd"]
        if one.failure_kind is not None:
            self.note_failure(trial, one.failure_kind, one.score.failure or "")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
