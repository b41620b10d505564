"""What each step of thinking buys: one model's settings, from little to much, compared case by case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from soma_bench.effects import thinking_order
from soma_bench.scoring.statistics import MeanInterval, paired_comparison
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AGENTS, AgentName, Target, Thinking


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one thinking setting of a model to its next larger one, at one agent."""

    agent: AgentName
    model: str
    """``provider:model``."""
    less: Thinking | None
    more: Thinking | None
    cases: int
    """Cases that both have answered."""
    quality: MeanInterval
    """Mean of (more - less) of the primary metric over the cases, with its 95 % interval."""
    output_tokens: float | None
    """Mean of the tokens written in addition, thinking and answer; None where nobody counted."""
    thinking_tokens: float | None
    """Those of them that were thought."""
    seconds: float | None
    """Median of (more - less) of a call's time, over the cases that both answered with the model
    loaded and the machine quiet; None where there is none."""

    @property
    def quality_per_100_tokens(self) -> float | None:
        """Quality gained for each 100 tokens written in addition; None where none were."""
        if not self.output_tokens or self.output_tokens < 0:
            return None
        return 100 * self.quality.mean / self.output_tokens


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a target did on one case: means over its repeats."""

    score: float
    seconds: float | None
    """None where the model was loaded meanwhile or the machine was busy."""
    output_tokens: float | None
    thinking_tokens: float | None
    cluster: str


def budget_steps(scored: Iterable[ScoredTrial]) -> list[Step]:
    """Every step between neighbouring thinking settings, by agent, model and setting."""
    groups: dict[tuple[AgentName, str], dict[Thinking | None, Mapping[str, _Answered]]]
    groups = defaultdict(dict)
    for (agent, target), by_case in _by_target(scored).items():
        groups[agent, target.whole_model][target.thinking] = by_case
    found = []
    for agent, model in sorted(groups, key=lambda key: (AGENTS.index(key[0]), key[1])):
        settings = groups[agent, model]
        for less, more in pairwise(sorted(settings, key=thinking_order)):
            cases = sorted(settings[less].keys() & settings[more].keys())
            if cases:
                before = [settings[less][case] for case in cases]
                after = [settings[more][case] for case in cases]
                found.append(_step(agent, model, (less, more), before, after))
    return found


def _by_target(
    scored: Iterable[ScoredTrial],
) -> dict[tuple[AgentName, Target], dict[str, _Answered]]:
    groups: dict[tuple[AgentName, str, str], list[ScoredTrial]] = defaultdict(list)
    for one in scored:
        trial = one.trial
        groups[trial["agent"], trial["target"], trial["case_id"]].append(one)
    found: dict[tuple[AgentName, Target], dict[str, _Answered]] = defaultdict(dict)
    for (agent, target, case), group in groups.items():
        found[agent, Target.parse(target)][case] = _Answered(
            score=fmean(one.score.primary_value for one in group),
            seconds=_mean(_clean_seconds(one) for one in group),
            output_tokens=_mean(one.trial["output_tokens"] for one in group),
            thinking_tokens=_mean(one.trial["thinking_tokens"] for one in group),
            cluster=group[0].case.cluster or case,
        )
    return found


def _step(
    agent: AgentName,
    model: str,
    settings: tuple[Thinking | None, Thinking | None],
    before: list[_Answered],
    after: list[_Answered],
) -> Step:
    pairs = list(zip(before, after, strict=True))
    slower = (_rise(b.seconds, a.seconds) for b, a in pairs)
    rises = [seconds for seconds in slower if seconds is not None]
    return Step(
        agent=agent,
        model=model,
        less=settings[0],
        more=settings[1],
        cases=len(pairs),
        quality=paired_comparison(
            [one.score for one in after],
            [one.score for one in before],
            clusters=[one.cluster for one in before],
        ).difference,
        output_tokens=_mean(_rise(b.output_tokens, a.output_tokens) for b, a in pairs),
        thinking_tokens=_mean(_rise(b.thinking_tokens, a.thinking_tokens) for b, a in pairs),
        seconds=median(rises) if rises else None,
    )


def _clean_seconds(one: ScoredTrial) -> float | None:
    trial = one.trial
    return None if trial["start"] == "cold" or trial["busy"] else trial["total_s"]


def _rise(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean, if all are known."""
    known = list(values)
    return None if not known or None in known else fmean(v for v in known if v is not None)
