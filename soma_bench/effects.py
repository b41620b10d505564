"""What a setting changes, all else equal: thinking or not, a smaller quantization or not.

Targets are compared case by case. Two targets with overlapping intervals may still differ clearly
on the cases they share, because hard cases are hard for both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal, get_args

from soma_bench.scoring.statistics import MeanInterval, paired_comparison
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AGENTS, AgentName, Target, Thinking, ThinkingLevel

Setting = Literal["thinking", "quantization"]

_LEVELS: tuple[ThinkingLevel, ...] = get_args(ThinkingLevel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one target does differently from another that has only one setting changed."""

    agent: AgentName
    setting: Setting
    baseline: str
    """The target compared with: without thinking, or with the largest weights."""
    target: str
    cases: int
    """Cases that both have answered."""
    quality: MeanInterval
    """Mean of (target - baseline) of the primary metric over the cases, with its 95 % interval."""
    latency_s: float
    """Median over the cases of (target - baseline), in seconds."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a target did at an agent, by case: mean score and mean seconds over its repeats."""

    target: Target
    weights_bytes: int
    by_case: Mapping[str, tuple[float, float]]
    clusters: Mapping[str, str]


def effects(scored: Iterable[ScoredTrial]) -> list[Effect]:
    """The effect of every setting that was varied while all else stayed equal.

    Thinking is compared with no thinking (or the least there is) on the same model; quantizations
    with the one of the largest weights, of the same model and thinking. Sorted by agent, setting
    and target.
    """
    found = []
    for agent, rows in _measured(scored).items():
        for setting in get_args(Setting):
            groups: dict[object, list[_Measured]] = defaultdict(list)
            for row in rows:
                groups[_held(row.target, setting)].append(row)
            for held, group in groups.items():
                if held is not None:
                    found += _against_baseline(agent, setting, group)
    found.sort(key=lambda e: (AGENTS.index(e.agent), e.setting != "thinking", e.target))
    return found


def thinking_order(thinking: Thinking | None) -> tuple[int, int]:
    """Sorts settings from little to much: off, the model's own, levels, budgets."""
    if thinking is None:
        return 1, 0
    if isinstance(thinking, int):
        return 3, thinking
    return (0, 0) if thinking == "off" else (2, _LEVELS.index(thinking))


def _measured(scored: Iterable[ScoredTrial]) -> dict[AgentName, list[_Measured]]:
    scores: dict[tuple[AgentName, str], dict[str, list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    weights: dict[str, int] = {}
    clusters: dict[AgentName, dict[str, str]] = defaultdict(dict)
    for one in scored:
        trial = one.trial
        clusters[trial["agent"]][trial["case_id"]] = one.case.cluster or trial["case_id"]
        figures = (one.score.primary_value, trial["total_s"])
        scores[trial["agent"], trial["target"]][trial["case_id"]].append(figures)
        weights[trial["target"]] = trial["identity"].get("weights_bytes") or 0
    by_agent: dict[AgentName, list[_Measured]] = defaultdict(list)
    for (agent, target), by_case in scores.items():
        means = {
            case: (fmean(value for value, _ in figures), fmean(time for _, time in figures))
            for case, figures in by_case.items()
        }
        by_agent[agent].append(
            _Measured(Target.parse(target), weights[target], means, clusters[agent])
        )
    return by_agent


def _held(target: Target, setting: Setting) -> object | None:
    """What must be equal for ``setting`` to be the only difference; None where it has none."""
    if setting == "thinking":
        return target.provider, target.model
    if target.quantization is None:
        return None
    return target.provider, target.model.removesuffix(target.quantization), target.thinking


def _against_baseline(
    agent: AgentName, setting: Setting, group: Sequence[_Measured]
) -> list[Effect]:
    def least(row: _Measured) -> tuple[object, ...]:
        if setting == "thinking":
            return thinking_order(row.target.thinking)
        return -row.weights_bytes, row.target.model

    baseline = min(group, key=least)
    found = []
    for row in group:
        cases = sorted(row.by_case.keys() & baseline.by_case.keys())
        if row is baseline or not cases:
            continue
        pairs = [(row.by_case[case], baseline.by_case[case]) for case in cases]
        found.append(
            Effect(
                agent=agent,
                setting=setting,
                baseline=str(baseline.target),
                target=str(row.target),
                cases=len(cases),
                quality=paired_comparison(
                    [ours[0] for ours, _ in pairs],
                    [theirs[0] for _, theirs in pairs],
                    clusters=[row.clusters[case] for case in cases],
                ).difference,
                latency_s=median(ours[1] - theirs[1] for ours, theirs in pairs),
            )
        )
    return found
