"""What a call's time is made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from soma_bench.scoring.statistics import percentile
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AGENTS, AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTime:
    """The parts of a target's calls at one agent; medians in seconds, None where nobody timed it."""

    agent: AgentName
    target: str
    n: int
    clean: int
    """Trials that found their model loaded and the machine quiet; the figures are over these, or
    over all where there are none."""
    queue_s: float | None
    prefill_s: float | None
    """Reading the prompt."""
    decode_s: float | None
    """Writing thoughts and answer."""
    first_token_s: float | None
    total_p50_s: float
    total_p95_s: float
    load_s: float | None
    """Loading the model, where a trial did; no part of the others."""
    synthetic: bool


def call_times(scored: Iterable[ScoredTrial]) -> list[CallTime]:
    """The parts of every target's calls, the fastest target first within an agent."""
    groups: dict[tuple[AgentName, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in scored:
        groups[one.trial["agent"], one.trial["target"]].append(one.trial)
    rows = [_call_time(agent, target, trials) for (agent, target), trials in groups.items()]
    return sorted(rows, key=lambda row: (AGENTS.index(row.agent), row.total_p50_s))


def _call_time(agent: AgentName, target: str, trials: Sequence[Mapping[str, Any]]) -> CallTime:
    clean = [trial for trial in trials if trial["start"] != "cold" and not trial["busy"]]
    shown = clean or trials
    totals = [trial["total_s"] for trial in shown]
    return CallTime(
        agent=agent,
        target=target,
        n=len(trials),
        clean=len(clean),
        queue_s=_median(shown, "queue_s"),
        prefill_s=_median(shown, "prefill_s"),
        decode_s=_median(shown, "decode_s"),
        first_token_s=_median(shown, "first_token_s"),
        total_p50_s=percentile(totals, 50),
        total_p95_s=percentile(totals, 95),
        load_s=_median([trial for trial in trials if trial["start"] == "cold"], "load_s"),
        synthetic=any(trial["synthetic"] for trial in trials),
    )


def _median(trials: Sequence[Mapping[str, Any]], field: str) -> float | None:
    known = [trial[field] for trial in trials if trial[field] is not None]
    return median(known) if known else None
