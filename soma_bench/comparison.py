"""What a run says about each target at each agent: the table that all later steps start from.

Latencies are those of trials that found their model loaded (not ``cold``) and the machine quiet (not
``busy``): that is what a running backend shows. Where a target has no such trial, all of its trials
count, and `Samples.clean` is 0.

Where a run was raced, the target that an agent's race chose is shown by its held-out cases alone, if
the suite has any, and all others by the cases that they raced on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, get_args

from pydantic import ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Provenance
from soma_bench.scoring import SCORER_BY_AGENT, Answer
from soma_bench.scoring.statistics import mean_interval, percentile
from soma_bench.separation import AgainstBest, Design, against_best
from soma_bench.sweeps.scores import FailureKind, ScoredTrial, scored_trials
from soma_bench.sweeps.store import LookRecord, RunRecord, Store
from soma_bench.types import AGENTS, AgentName

FAILURE_RATES = tuple(f"{kind}_rate" for kind in get_args(FailureKind))
"""Names of the rates of failed answers by kind among a comparison's details."""


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
    """Figures beside the primary metric, by agent and target, such as ``macro_f1``, and the rates
    of failed answers: ``failure_rate`` and those of its kinds that occur."""
    breakdowns: Mapping[tuple[AgentName, str], Mapping[str, Any]]
    """Those figures by class, by agent and target; JSON values by name."""
    samples: Mapping[tuple[AgentName, str], Samples]
    """What the latencies stand on, by agent and target."""
    against_best: Mapping[tuple[AgentName, str], AgainstBest]
    """By agent and target, beside the best of the agent; nothing for the best itself, nor for agents
    that were raced: their looks say who may be the best, and p-values that do not know of the looks
    would be wrong."""
    designs: Mapping[AgentName, Design]
    """What the comparisons of each agent can show."""
    looks: Mapping[AgentName, Sequence[LookRecord]]
    """The looks of each agent that was raced."""
    provenance: Provenance


def compare_run(store: Store, run_id: str) -> Comparison:
    """Sum up a run from its stored trials, scoring those that have no score yet.

    Raises:
        ConfigError: there is no such run, or none of its trials has ended.
    """
    run = store.find_run(run_id)
    looks = store.looks(run.id)
    chosen = {(agent, found[-1].chosen) for agent, found in looks.items()}
    groups: dict[tuple[AgentName, str], list[ScoredTrial]] = defaultdict(list)
    for scored in scored_trials(store, run.id):
        groups[scored.trial["agent"], scored.trial["target"]].append(scored)
    for (agent, target), group in groups.items():
        if agent in looks:
            groups[agent, target] = _shown(group, is_chosen=(agent, target) in chosen)
    if not groups:
        raise ConfigError(f"run {run.id} has no finished trial; run its sweep to the end")
    try:
        evidence = [
            _evidence(agent, target, group, is_chosen=(agent, target) in chosen)
            for (agent, target), group in groups.items()
        ]
    except ValidationError as error:
        raise ConfigError(f"run {run.id} is damaged: {first_problem(error)}") from error
    evidence.sort(key=lambda row: (AGENTS.index(row.agent), -row.quality, row.latency_p50_s))
    ranked = [(row.agent, row.target) for row in evidence if row.agent not in looks]
    rivals, designs = against_best(ranked, groups)
    answers = {key: [_answer(scored) for scored in group] for key, group in groups.items()}
    return Comparison(
        run=run,
        planned=store.planned_count(run.id),
        finished=len(store.finished_keys(run.id)),
        evidence=tuple(evidence),
        details={
            (agent, target): {
                **SCORER_BY_AGENT[agent].summarize(answers[agent, target]),
                **_failure_rates(group),
            }
            for (agent, target), group in groups.items()
        },
        breakdowns={
            (agent, target): SCORER_BY_AGENT[agent].breakdown(given)
            for (agent, target), given in answers.items()
        },
        samples={key: _samples(group) for key, group in groups.items()},
        against_best={(row.agent, row.target): row for row in rivals},
        designs={design.agent: design for design in designs},
        looks=looks,
        provenance=_provenance(run, groups),
    )


def _shown(group: list[ScoredTrial], *, is_chosen: bool) -> list[ScoredTrial]:
    """The trials of a raced target that its figures are of."""
    held_out = [scored for scored in group if scored.case.split == "held_out"]
    if is_chosen and held_out:
        return held_out
    # After a race the whole sweep may have been run too; a target dropped stays shown as it raced.
    return [scored for scored in group if scored.case.split != "held_out"] or held_out


def headline_figures(comparison: Comparison, row: Evidence) -> dict[str, float]:
    """Of a row's details those that fit a narrow table: its scorer's choice and failed answers."""
    details = comparison.details[row.agent, row.target]
    shown = (*SCORER_BY_AGENT[row.agent].headline, *FAILURE_RATES)
    return {name: details[name] for name in shown if name in details}


def _answer(scored: ScoredTrial) -> Answer:
    case = scored.case
    return Answer(
        scored.score.parts, case.reference, case=case.id, cluster=case.cluster, tags=case.tags
    )


def _failure_rates(group: Sequence[ScoredTrial]) -> dict[str, float]:
    """Share of answers that failed, and of each kind of failure that occurs."""
    kinds = Counter(kind for scored in group if (kind := scored.failure_kind) is not None)
    return {
        "failure_rate": kinds.total() / len(group),
        **{f"{kind}_rate": count / len(group) for kind, count in sorted(kinds.items())},
    }


def _evidence(
    agent: AgentName, target: str, group: Sequence[ScoredTrial], *, is_chosen: bool
) -> Evidence:
    held_out = is_chosen and all(scored.case.split == "held_out" for scored in group)
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
    loads = [trial["load_s"] for trial in trials if trial["start"] == "cold"]
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
        load_s=max(loads, default=None),
        selection="held_out" if held_out else "same cases",
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
