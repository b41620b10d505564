"""What a run says about each target at each agent: the table that all later steps start from.

Latencies are those of trials that found their model loaded (not ``cold``) and the machine quiet (not
``busy``): that is what a running backend shows. Where a target has no such trial, all of its trials
count, and `Samples.clean` is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Provenance
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.scoring.statistics import mean_interval, percentile
from soma_bench.sweeps.scores import ScoredTrial, scored_trials
from soma_bench.sweeps.store import RunRecord, Store
from soma_bench.types import AGENTS, AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """How many trials a target's latencies stand on."""

    clean: int
    """Trials that were neither cold nor busy; where this is 0, latencies are over all trials."""
    cold: int
    """Trials that loaded the model."""
    busy: int
    """Trials beside which other processes took much of the CPU; some may be cold as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run, summed up."""

    run: RunRecord
    planned: int
    """Trials that the run has in all."""
    finished: int
    """Trials that have ended with an answer."""
    evidence: tuple[Evidence, ...]
    """One row per agent and target, best quality first within an agent."""
    details: Mapping[tuple[AgentName, str], Mapping[str, float]]
    """Figures beside the primary metric, by agent and target, such as ``macro_f1``."""
    samples: Mapping[tuple[AgentName, str], Samples]
    """What the latencies stand on, by agent and target."""
    provenance: Provenance


def compare_run(store: Store, run_id: str) -> Comparison:
    """Sum up a run from its stored trials, scoring those that have no score yet.

    Raises:
        ConfigError: there is no such run, or none of its trials has ended.
    """
    run = store.find_run(run_id)
    groups: dict[tuple[AgentName, str], list[ScoredTrial]] = defaultdict(list)
    for scored in scored_trials(store, run.id):
        groups[scored.trial["agent"], scored.trial["target"]].append(scored)
    if not groups:
        raise ConfigError(f"run {run.id} has no finished trial; run its sweep to the end")
    try:
        evidence = [_evidence(agent, target, group) for (agent, target), group in groups.items()]
    except ValidationError as error:
        raise ConfigError(f"run {run.id} is damaged: {first_problem(error)}") from error
    evidence.sort(key=lambda row: (AGENTS.index(row.agent), -row.quality, row.latency_p50_s))
    return Comparison(
        run=run,
        planned=store.planned_count(run.id),
        finished=sum(len(group) for group in groups.values()),
        evidence=tuple(evidence),
        details={
            (agent, target): SCORER_BY_AGENT[agent].summarize(
                [(scored.score.parts, scored.case.reference) for scored in group]
            )
            for (agent, target), group in groups.items()
        },
        samples={key: _samples(group) for key, group in groups.items()},
        provenance=_provenance(run, groups),
    )


def _evidence(agent: AgentName, target: str, group: Sequence[ScoredTrial]) -> Evidence:
    by_case: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, str] = {}
    for scored in group:
        by_case[scored.case.id].append(scored.score.primary_value)
        clusters[scored.case.id] = scored.case.cluster or scored.case.id
    quality = mean_interval(list(by_case.values()), clusters=[clusters[case] for case in by_case])
    trials = [scored.trial for scored in group]
    latencies = [trial["total_s"] for trial in trials if _is_clean(trial)] or [
        trial["total_s"] for trial in trials
    ]
    costs = [trial["cost_usd"] for trial in trials]
    memory = [trial["memory_bytes"] for trial in trials if trial["memory_bytes"] is not None]
    return Evidence(
        agent=agent,
        target=target,
        metric=SCORER_BY_AGENT[agent].primary,
        n=len(group),
        cases=len(by_case),
        quality=quality.mean,
        quality_low=quality.low,
        quality_high=quality.high,
        answer_failures=sum(scored.score.failure is not None for scored in group),
        latency_p50_s=percentile(latencies, 50),
        latency_p95_s=percentile(latencies, 95),
        cost_usd=None if None in costs else fmean(costs),
        memory_bytes=max(memory, default=None),
        prompt_tokens=_mean(trials, "prompt_tokens"),
        output_tokens=_mean(trials, "output_tokens"),
        thinking_tokens=_mean(trials, "thinking_tokens"),
        synthetic=any(trial["synthetic"] for trial in trials),
    )


def _is_clean(trial: Mapping[str, Any]) -> bool:
    return trial["start"] != "cold" and not trial["busy"]


def _samples(group: Sequence[ScoredTrial]) -> Samples:
    trials = [scored.trial for scored in group]
    return Samples(
        clean=sum(map(_is_clean, trials)),
        cold=sum(trial["start"] == "cold" for trial in trials),
        busy=sum(bool(trial["busy"]) for trial in trials),
    )


def _mean(trials: Sequence[Mapping[str, Any]], field: str) -> float | None:
    known = [trial[field] for trial in trials if trial[field] is not None]
    return fmean(known) if known else None


def _provenance(
    run: RunRecord, groups: Mapping[tuple[AgentName, str], Sequence[ScoredTrial]]
) -> Provenance:
    environment = run.environment
    # The day the last trial ended and not today: the same run gives the same profile, byte for byte.
    ended = max(scored.trial["ended_at"] for group in groups.values() for scored in group)
    try:
        return Provenance(
            run_ids=(run.id,),
            suite_digests=environment["suites"],
            model_digests={
                model: identity["weights_digest"]
                for model, identity in environment["models"].items()
            },
            prompt_digests=environment["prompts"],
            hardware=environment["hardware"],
            library_versions=environment["libraries"],
            date=ended,
        )
    except ValidationError as error:
        raise ConfigError(f"run {run.id} is damaged: {first_problem(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"run {run.id} is damaged: its environment is not whole") from error
