"""What a run says about each target at each agent: the table that all later steps start from.

Latencies are those of trials that found their model loaded (not ``cold``), the machine quiet (not
``busy``) and no other call of the sweep under way (not ``crowded``): that is what one user of a
running backend sees. Where a target has no such trial, all of its trials count, and `Samples.clean`
is 0.

Where a run was raced, the target that an agent's race chose is shown by its held-out cases alone, if
the suite has any, and all others by the cases that they raced on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Provenance
from soma_bench.scoring import SCORER_BY_AGENT, Answer
from soma_bench.scoring.statistics import CaseValues, between, mean_intervals, neighbours
from soma_bench.separation import AgainstBest, CaseMeans, Design, TargetScores, against_best
from soma_bench.sweeps.scores import SCORER_VERSIONS, Cases, FailureKind, score_run
from soma_bench.sweeps.store import LookRecord, RunRecord, Store
from soma_bench.sweeps.store.summary import Answers, CaseScores, Figures, Group, ShownTrials
from soma_bench.types import AGENTS, AgentName

FAILURE_RATES = tuple(f"{kind}_rate" for kind in get_args(FailureKind))
"""Names of the rates of failed answers by kind among a comparison's details."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """How many trials a target's latencies stand on."""

    clean: int
    """Trials that were none of the following; where this is 0, latencies are over all trials."""
    cold: int
    """Trials that loaded the model."""
    busy: int
    """Trials beside which other processes took much of the CPU; some may be cold as well."""
    crowded: int
    """Trials beside which the sweep had other calls under way at the same account or host."""
    concurrency: int
    """Most calls that were under way at a time; 1 where the trials ran one by one."""


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
    scores: TargetScores = field(compare=False)
    """The primary metric case by case, on which pairs of targets are compared; nothing of agents that
    were raced, as for ``against_best``."""
    against_best: Mapping[tuple[AgentName, str], AgainstBest]
    """By agent and target, beside the best of the agent; nothing for the best itself, nor for agents
    that were raced: their looks say who may be the best, and p-values that do not know of the looks
    would be wrong."""
    designs: Mapping[AgentName, Design]
    """What the comparisons of each agent can show."""
    looks: Mapping[AgentName, Sequence[LookRecord]]
    """The looks of each agent that was raced."""
    provenance: Provenance


def compare_run(store: Store, run_id: str, *, details: bool = True) -> Comparison:
    """Sum up a run from its stored trials, scoring those that have no score yet.

    Args:
        store: the store.
        run_id: the run: an id, a sweep's name or ``latest``.
        details: read every score's parts as well, for the figures beside the primary metric.

    Raises:
        ConfigError: there is no such run, or none of its trials has ended.
    """
    run = store.find_run(run_id)
    looks = store.looks(run.id)
    summed = _summed_up(store, run.id, looks, details=details)
    if not summed.shown:
        raise ConfigError(f"run {run.id} has no finished trial; run its sweep to the end")
    try:
        evidence = _evidence(summed.shown)
    except ValidationError as error:
        raise ConfigError(f"run {run.id} is damaged: {first_problem(error)}") from error
    evidence.sort(key=lambda row: (AGENTS.index(row.agent), -row.quality, row.latency_p50_s))
    ranked = [(row.agent, row.target) for row in evidence if row.agent not in looks]
    scores = {key: measured.cases for key, measured in summed.shown.items()}
    rivals, designs = against_best(ranked, scores)
    return Comparison(
        run=run,
        planned=store.planned_count(run.id),
        finished=summed.finished,
        evidence=tuple(evidence),
        details=summed.details,
        breakdowns=summed.breakdowns,
        samples={
            key: Samples(
                clean=m.figures.clean,
                cold=m.figures.cold,
                busy=m.figures.busy,
                crowded=m.figures.crowded,
                concurrency=m.figures.concurrency,
            )
            for key, m in summed.shown.items()
        },
        scores={key: cases for key, cases in scores.items() if key[0] not in looks},
        against_best={(row.agent, row.target): row for row in rivals},
        designs={design.agent: design for design in designs},
        looks=looks,
        provenance=_provenance(run, max(m.figures.ended_at for m in summed.shown.values())),
    )


def headline_figures(comparison: Comparison, row: Evidence) -> dict[str, float]:
    """Of a row's details those that fit a narrow table: its scorer's choice and failed answers."""
    details = comparison.details[row.agent, row.target]
    shown = (*SCORER_BY_AGENT[row.agent].headline, *FAILURE_RATES)
    return {name: details[name] for name in shown if name in details}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What was measured of a target at an agent."""

    figures: Figures
    scores: CaseScores
    cases: CaseMeans
    p50_s: float
    p95_s: float
    held_out: bool
    """Whether it is shown by its held-out cases, because a race chose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Summed:
    """A run as the database sums it up."""

    finished: int
    shown: Mapping[tuple[AgentName, str], _Measured]
    details: Mapping[tuple[AgentName, str], Mapping[str, float]]
    breakdowns: Mapping[tuple[AgentName, str], Mapping[str, Any]]


def _summed_up(
    store: Store, run_id: str, looks: Mapping[AgentName, Sequence[LookRecord]], *, details: bool
) -> _Summed:
    chosen = {(agent, found[-1].chosen) for agent, found in looks.items()}
    for scored_anew in (False, True):
        with store.shown_trials(run_id, SCORER_VERSIONS, apart=looks, parts=details) as trials:
            if scored_anew:
                # What a running sweep has added since counts next time.
                trials.leave_out_unscored()
            if not trials.unscored():
                return _read(trials, Cases(store, run_id), chosen, details=details)
        score_run(store, run_id)
    raise AssertionError("unreachable: at the second turn nothing is unscored")


def _read(
    trials: ShownTrials, cases: Cases, chosen: set[tuple[AgentName, str | None]], *, details: bool
) -> _Summed:
    figures = trials.figures()
    groups = _shown(figures, chosen)
    ranks = {group: _ranks(figures[group]) for group in groups}
    latencies = trials.latencies({rank for needed in ranks.values() for rank in needed})
    shown: dict[tuple[AgentName, str], _Measured] = {}
    summaries: dict[tuple[AgentName, str], Mapping[str, float]] = {}
    breakdowns: dict[tuple[AgentName, str], Mapping[str, Any]] = {}

    def add(group: Group, scores: CaseScores) -> None:
        seconds = [latencies[group][rank] for rank in ranks[group]]
        shown[group.agent, group.target] = _Measured(
            figures=figures[group],
            scores=scores,
            cases=_case_means(group.agent, scores, cases),
            p50_s=_percentile(figures[group], seconds[:2], 0.50),
            p95_s=_percentile(figures[group], seconds[2:], 0.95),
            held_out=group.held_out and (group.agent, group.target) in chosen,
        )

    for group, answers in trials.answers():
        if group not in groups:
            continue
        add(group, answers.by_case())
        if details:
            scorer, key = SCORER_BY_AGENT[group.agent], (group.agent, group.target)
            given = _answers(group, answers, cases)
            summaries[key] = {**scorer.summarize(given), **_failure_rates(figures[group])}
            breakdowns[key] = scorer.breakdown(given)
    return _Summed(
        finished=sum(row.n for row in figures.values()),
        shown=shown,
        details=summaries,
        breakdowns=breakdowns,
    )


def _shown(
    figures: Mapping[Group, Figures], chosen: set[tuple[AgentName, str | None]]
) -> set[Group]:
    """Of every target the trials that its figures are of."""
    found = set()
    for group in figures:
        other = group._replace(held_out=not group.held_out)
        # After a race the whole sweep may have been run too; a target dropped stays shown as it raced.
        preferred = (group.agent, group.target) in chosen
        if group.held_out == preferred or other not in figures:
            found.add(group)
    return found


def _ranks(figures: Figures) -> tuple[int, int, int, int]:
    """The ranks of the latencies around the median and around the 95th percentile."""
    n = figures.clean or figures.n
    return *neighbours(n, 0.50)[:2], *neighbours(n, 0.95)[:2]


def _percentile(figures: Figures, around: Sequence[float], share: float) -> float:
    low, high = around
    return between(low, high, neighbours(figures.clean or figures.n, share)[2])


def _case_means(agent: AgentName, scores: CaseScores, cases: Cases) -> CaseMeans:
    return CaseMeans(
        cases=scores.digests,
        means=np.array(scores.totals) / np.array(scores.counts),
        clusters=[case.cluster or case.id for case in cases.of(agent, scores.digests)],
    )


def _answers(group: Group, answers: Answers, cases: Cases) -> list[Answer]:
    """The answers as scorers sum them up.

    Raises:
        ConfigError: the parts of a score are no JSON object.
    """
    place = f"the store is damaged: a score of {group.target} at {group.agent}"
    # One text for all of them is read in a third of the time.
    text = f"[{','.join(said or 'null' for said in answers.parts)}]"
    try:
        parts = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ConfigError(f"{place}: its parts are no JSON: {error}") from error
    if not all(said is None or isinstance(said, dict) for said in parts):
        raise ConfigError(f"{place}: its parts are no object")
    return [
        Answer(said, case.reference, case.id, case.cluster, case.tags)
        for said, case in zip(parts, cases.of(group.agent, answers.digests), strict=True)
    ]


def _failure_rates(figures: Figures) -> dict[str, float]:
    """Share of answers that failed, and of each kind of failure that occurs."""
    counts: Mapping[FailureKind, int] = {
        "refused": figures.refused,
        "truncated": figures.truncated,
        "unparsed": figures.failures - figures.refused - figures.truncated,
    }
    return {
        "failure_rate": figures.failures / figures.n,
        **{f"{kind}_rate": count / figures.n for kind, count in counts.items() if count},
    }


def _evidence(shown: Mapping[tuple[AgentName, str], _Measured]) -> list[Evidence]:
    qualities = mean_intervals(
        [
            CaseValues(
                np.array(measured.scores.totals),
                np.array(measured.scores.counts, dtype=float),
                measured.scores.least,
                measured.scores.most,
                measured.cases.clusters,
            )
            for measured in shown.values()
        ]
    )
    return [
        Evidence(
            agent=agent,
            target=target,
            metric=SCORER_BY_AGENT[agent].primary,
            n=measured.figures.n,
            cases=len(measured.scores.digests),
            quality=quality.mean,
            quality_low=quality.low,
            quality_high=quality.high,
            answer_failures=measured.figures.failures,
            latency_p50_s=measured.p50_s,
            latency_p95_s=measured.p95_s,
            cost_usd=measured.figures.cost_usd,
            memory_bytes=measured.figures.memory_bytes,
            prompt_tokens=measured.figures.prompt_tokens,
            output_tokens=measured.figures.output_tokens,
            thinking_tokens=measured.figures.thinking_tokens,
            load_s=measured.figures.load_s,
            selection="held_out" if measured.held_out else "same cases",
            synthetic=measured.figures.synthetic,
        )
        for ((agent, target), measured), quality in zip(shown.items(), qualities, strict=True)
    ]


def _provenance(run: RunRecord, ended: str) -> Provenance:
    """Where the figures come from.

    Dated by the last trial's end and not by today: the same run gives the same profile, byte for
    byte.
    """
    environment = run.environment
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
