"""A candidate beside what was recorded, call by call: latency, cost, scores and agreement.

Latencies and fees were recorded on the system of that day, whatever it ran on; the candidate's are
measured now, here. Scores exist for the calls that somebody has given a reference. For the others
there is only agreement with the recorded answer, which is no quality.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.errors import AnswerError
from soma_bench.replay.agreement import MEASURES, agreement
from soma_bench.replay.log import RecordedCall
from soma_bench.replay.rerun import Replayed
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.scoring.statistics import (
    MeanInterval,
    cluster_sums,
    mean_interval,
    paired_comparison,
    sign_flip,
)
from soma_bench.types import AGENTS, AgentName, Completion, Timings, Usage

_UNREAD = frozenset({"answer", "refused"})
"""Failures of the answer itself: they score 0. A backend's failure is not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedFigure:
    """One figure on the calls for which both sides have it."""

    name: str
    """``latency_s``, ``cost_usd``, ``output_tokens``, or the agent's primary metric."""
    calls: int
    recorded: float
    """Mean."""
    candidate: float
    """Mean."""
    difference: float
    """Mean of candidate - recorded."""
    low: float | None
    """Lower end of its 95 % interval; None where the calls do not say."""
    high: float | None
    p: float
    """Two-sided, of no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the candidate says what was recorded; no quality."""

    measure: str
    calls: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReplay:
    """A candidate at one agent."""

    agent: AgentName
    calls: int
    answered: int
    failed: Mapping[str, int]
    """Calls without an answer of the candidate, by kind; ``privacy`` were never sent."""
    recorded_failed: Mapping[str, int]
    targets: Mapping[str, int]
    """Who answered, and how often."""
    fallbacks: int
    figures: tuple[PairedFigure, ...]
    score: PairedFigure | None
    """On the calls with a reference; None where no call has one."""
    agreement: Agreement | None
    """On the calls without a reference."""


def compare_replay(replayed: Sequence[Replayed]) -> tuple[AgentReplay, ...]:
    """What a replay shows of each agent that has calls in the log."""
    groups: dict[AgentName, list[Replayed]] = defaultdict(list)
    for one in replayed:
        groups[one.call.agent].append(one)
    return tuple(_agent(agent, groups[agent]) for agent in AGENTS if agent in groups)


def _agent(agent: AgentName, group: Sequence[Replayed]) -> AgentReplay:
    failed: dict[str, int] = defaultdict(int)
    recorded_failed: dict[str, int] = defaultdict(int)
    targets: dict[str, int] = defaultdict(int)
    for one in group:
        if one.call.failure is not None:
            recorded_failed[one.call.failure] += 1
        if one.routed is None:
            failed[one.failure or "backend"] += 1
        else:
            targets[str(one.routed.target)] += 1
    figures = [_figure(name, group, *sides) for name, sides in _FIGURES.items()]
    return AgentReplay(
        agent=agent,
        calls=len(group),
        answered=sum(targets.values()),
        failed=dict(failed),
        recorded_failed=dict(recorded_failed),
        targets=dict(targets),
        fallbacks=sum(one.routed is not None and one.routed.fallback_used for one in group),
        figures=tuple(figure for figure in figures if figure is not None),
        score=_score(agent, group),
        agreement=_agreement(agent, group),
    )


_Side = Callable[[Replayed], float | None]
_FIGURES: Mapping[str, tuple[_Side, _Side]] = {
    "latency_s": (
        lambda one: one.call.latency_s if one.call.answer is not None else None,
        lambda one: one.latency_s if one.routed is not None else None,
    ),
    "cost_usd": (
        lambda one: one.call.cost_usd,
        lambda one: one.routed.cost_usd if one.routed is not None else None,
    ),
    "output_tokens": (
        lambda one: one.call.output_tokens,
        lambda one: one.routed.completion.usage.output_tokens if one.routed else None,
    ),
}
"""Of each figure the recorded side and the candidate's."""


def _figure(
    name: str, group: Sequence[Replayed], recorded: _Side, candidate: _Side
) -> PairedFigure | None:
    rows = _rows(group, recorded, candidate)
    if not rows:
        return None
    before, now, clusters = zip(*rows, strict=True)
    differences = [[after - earlier] for earlier, after, _ in rows]
    # Nothing bounds a time or a fee, so equal differences show no end of the interval.
    interval = mean_interval(differences, clusters=clusters, bounds=(-math.inf, math.inf))
    sums, _ = cluster_sums(differences, clusters)
    return _paired(name, before, now, interval, sign_flip(sums))


def _score(agent: AgentName, group: Sequence[Replayed]) -> PairedFigure | None:
    rows = _rows(group, _recorded_score, _candidate_score)
    if not rows:
        return None
    before, now, clusters = zip(*rows, strict=True)
    paired = paired_comparison(now, before, clusters=clusters)
    return _paired(SCORER_BY_AGENT[agent].primary, before, now, paired.difference, paired.p)


def _rows(
    group: Sequence[Replayed], recorded: _Side, candidate: _Side
) -> list[tuple[float, float, str]]:
    """Both sides and the cluster of the calls for which both sides have a figure."""
    return [
        (before, now, one.call.cluster or f"line {one.line}")
        for one in group
        if (before := recorded(one)) is not None and (now := candidate(one)) is not None
    ]


def _agreement(agent: AgentName, group: Sequence[Replayed]) -> Agreement | None:
    rows = []
    for one in group:
        if one.call.reference is not None or one.routed is None:
            continue
        output = _read(one.call)
        if output is not None:
            cluster = one.call.cluster or f"line {one.line}"
            rows.append(([agreement(agent, one.routed.output, output)], cluster))
    if not rows:
        return None
    values, clusters = zip(*rows, strict=True)
    interval = mean_interval(values, clusters=clusters)
    return Agreement(measure=MEASURES[agent], calls=len(rows), **interval._asdict())


def _recorded_score(one: Replayed) -> float | None:
    truth = one.call.truth()
    if truth is None:
        return None
    if one.call.answer is None:
        return _worth(one.call.failure)
    output = _read(one.call)
    return 0.0 if output is None else _value(one.call.agent, output, truth)


def _candidate_score(one: Replayed) -> float | None:
    truth = one.call.truth()
    if truth is None:
        return None
    if one.routed is None:
        return _worth(one.failure)
    return _value(one.call.agent, one.routed.output, truth)


def _worth(failure: str | None) -> float | None:
    """The score of a call without an answer; None where nothing was answered."""
    return 0.0 if failure in _UNREAD else None


def _value(agent: AgentName, output: object, truth: object) -> float:
    return SCORER_BY_AGENT[agent].score(output, truth).primary


def _read(call: RecordedCall) -> object | None:
    """The typed output of a recorded answer; None where it cannot be read."""
    if call.answer is None:
        return None
    completion = Completion(
        text=call.answer,
        finish=call.finish,
        usage=Usage(),
        timings=Timings(total_s=call.latency_s),
    )
    try:
        output: object = AGENT_BY_NAME[call.agent].read(completion)
    except AnswerError:
        return None
    return output


def _paired(
    name: str, before: Sequence[float], now: Sequence[float], interval: MeanInterval, p: float
) -> PairedFigure:
    return PairedFigure(
        name=name,
        calls=len(before),
        recorded=fmean(before),
        candidate=fmean(now),
        difference=interval.mean,
        low=interval.low if math.isfinite(interval.low) else None,
        high=interval.high if math.isfinite(interval.high) else None,
        p=p,
    )
