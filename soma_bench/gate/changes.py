"""What became of a target's figures: the changes, their intervals and one-sided p-values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Literal

import numpy as np

from soma_bench.errors import ConfigError
from soma_bench.routing.evidence import Evidence
from soma_bench.scoring.statistics import cluster_sums, mean_interval, percentile, sign_flip
from soma_bench.types import AgentName

Figure = Literal["quality", "latency", "cost"]
Verdict = Literal["kept", "worse", "not compared"]
How = Literal["paired", "unpaired", "none"]

_Z = 1.959964
_Z95 = 1.644854
_MEDIAN_OVER_MEAN = 1.2533
"""Standard error of a median over that of a mean, for normal values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse a figure may become before it counts."""

    quality: float = 0.02
    """Of the primary metric, absolute."""
    latency: float = 0.10
    """Of the time of a call, relative."""
    cost: float = 0.10
    """Of the price of a call, relative."""

    def __post_init__(self) -> None:
        for name in ("quality", "latency", "cost"):
            value = getattr(self, name)
            if not 0 <= value < (1 if name == "quality" else 100):
                raise ConfigError(f"margin of {name}: {value:g} is not a margin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a target did at an agent, by case, over its repeats."""

    agent: AgentName
    target: str
    quality: Mapping[str, float]
    latency_s: Mapping[str, float] = field(default_factory=dict)
    """Of trials that were neither cold nor busy; of all where there are none."""
    cost_usd: Mapping[str, float] = field(default_factory=dict)
    """Fees; empty on one's own machine, where the price is a multiple of the time."""
    clusters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one figure.

    Changes of quality are absolute, the others relative; above 0 is better for quality and worse for
    latency and cost.
    """

    agent: AgentName
    target: str
    figure: Figure
    how: How
    cases: int = 0
    baseline: float | None = None
    current: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval of the change."""
    margin: float = 0.0
    p: float = 1.0
    """One-sided, that it is not worse by more than the margin."""
    adjusted_p: float = 1.0
    error: float | None = None
    """Standard error of the change, of its logarithm where ``is_log``."""
    is_log: bool = False
    degrees: int | None = None
    """Of freedom, of Student's distribution; None for the normal one."""
    detectable: float | None = None
    """The change that would be found in about 80 of 100 such gates, were it the truth."""
    verdict: Verdict = "not compared"
    note: str = ""


def compare(
    key: tuple[AgentName, str],
    now: Measured | None,
    then: Measured | None,
    promised: Evidence | None,
    margins: Margins,
) -> list[Change]:
    """The figures of one agent's target, before and now.

    Args:
        key: agent and target.
        now: what the run measured; None where it did not.
        then: what the baseline's run measured, by case; None where the store has it no more.
        promised: what the profile says of it.
        margins: what may be lost.
    """
    agent, target = key
    empty = Change(agent=agent, target=target, figure="quality", how="none")
    if now is None:
        return [replace(empty, note="the run has no trial of it")]
    shared = sorted(now.quality.keys() & then.quality.keys()) if then else []
    if then is not None and len(shared) >= 2:
        return _paired(now, then, shared, margins)
    if promised is None:
        return [replace(empty, note="the profile has no evidence of it")]
    return _unpaired(now, promised, margins)


def _paired(now: Measured, then: Measured, shared: list[str], margins: Margins) -> list[Change]:
    clusters = [now.clusters.get(case, case) for case in shared]
    drops = [then.quality[case] - now.quality[case] for case in shared]
    test = one_sided(drops, margins.quality, clusters)
    interval = mean_interval([[-drop] for drop in drops], clusters=clusters, bounds=(-1.0, 1.0))
    changes = [
        Change(
            agent=now.agent,
            target=now.target,
            figure="quality",
            how="paired",
            cases=len(shared),
            baseline=fmean(then.quality[case] for case in shared),
            current=fmean(now.quality[case] for case in shared),
            change=interval.mean,
            low=interval.low,
            high=interval.high,
            margin=margins.quality,
            p=test.p,
            error=test.error,
            degrees=test.degrees,
        )
    ]
    for figure, before, after, margin in (
        ("latency", then.latency_s, now.latency_s, margins.latency),
        ("cost", then.cost_usd, now.cost_usd, margins.cost),
    ):
        cases = [case for case in shared if before.get(case, 0.0) > 0 and after.get(case, 0.0) > 0]
        if len(cases) < 2:
            continue
        # Ratios: a case that takes ten times as long as another counts no more than it.
        rises = [math.log(after[case] / before[case]) for case in cases]
        test = one_sided(
            rises, math.log1p(margin), [now.clusters.get(case, case) for case in cases]
        )
        changes.append(
            Change(
                agent=now.agent,
                target=now.target,
                figure=figure,  # type: ignore[arg-type]
                how="paired",
                cases=len(cases),
                baseline=_typical(figure, [before[case] for case in cases]),
                current=_typical(figure, [after[case] for case in cases]),
                change=math.expm1(test.mean),
                low=math.expm1(test.low),
                high=math.expm1(test.high),
                margin=margin,
                p=test.p,
                error=test.error,
                is_log=True,
                degrees=test.degrees,
            )
        )
    return changes


def _typical(figure: str, values: list[float]) -> float:
    return median(values) if figure == "latency" else fmean(values)


@dataclass(frozen=True, slots=True)
class OneSided:
    """The test that a mean is above a margin."""

    mean: float
    low: float
    high: float
    p: float
    error: float | None
    """Standard error of the mean; None with one cluster."""
    degrees: int


def one_sided(values: Sequence[float], margin: float, clusters: Sequence[str]) -> OneSided:
    """Test that the mean of ``values`` is above ``margin``, which is 0 or more.

    The larger p-value of two tests: Student's of the mean over clusters against the margin, and the
    sign flips of the clusters' sums against 0.
    """
    from scipy.special import stdtr, stdtrit

    sums, counts = cluster_sums([[value] for value in values], clusters)
    groups, mean = len(sums), float(sums.sum() / counts.sum())
    if groups < 2:
        return OneSided(mean, -math.inf, math.inf, 1.0, None, 0)
    strays = (sums - counts * mean) / counts.mean()
    error = float(np.sqrt((strays**2).sum() / (groups - 1) / groups))
    reach = error * float(stdtrit(groups - 1, 0.975))
    if error > 0:
        p = float(stdtr(groups - 1, -(mean - margin) / error))
    else:
        p = 0.0 if mean > margin else 1.0
    # Flips are costly, and below the margin there is nothing that they could confirm.
    if mean > margin:
        p = max(p, sign_flip(sums) / 2)
    return OneSided(mean, mean - reach, mean + reach, p, error, groups - 1)


def _unpaired(now: Measured, promised: Evidence, margins: Margins) -> list[Change]:
    clusters = [now.clusters.get(case, case) for case in now.quality]
    fresh = mean_interval([[value] for value in now.quality.values()], clusters=clusters)
    drop = promised.quality - fresh.mean
    # The part of each interval that faces the other: of unequal arms only these matter (the MOVER of
    # Zou and Donner, Statistics in Medicine 27, 2008).
    down = math.hypot(promised.quality - promised.quality_low, fresh.high - fresh.mean)
    up = math.hypot(promised.quality_high - promised.quality, fresh.mean - fresh.low)
    changes = [
        _without_pairs(
            now,
            "quality",
            cases=len(now.quality),
            figures=(promised.quality, fresh.mean),
            change=(-drop, -drop - up, -drop + down),
            excess=drop - margins.quality,
            error=down / _Z,
            margin=margins.quality,
            note="with the profile's interval: its run is not in the store",
        )
    ]
    if now.latency_s:
        changes.append(_unpaired_latency(now, promised, margins.latency))
    if now.cost_usd and promised.cost_usd:
        changes.append(_unpaired_cost(now, promised.cost_usd, margins.cost))
    return changes


def _unpaired_latency(now: Measured, promised: Evidence, margin: float) -> Change:
    values = list(now.latency_s.values())
    p50 = percentile(values, 50)
    error = _MEDIAN_OVER_MEAN * math.hypot(
        _log_spread(promised.latency_p50_s, promised.latency_p95_s) / math.sqrt(promised.cases),
        _log_spread(p50, percentile(values, 95)) / math.sqrt(len(values)),
    )
    if promised.latency_p50_s <= 0 or p50 <= 0:
        return Change(
            agent=now.agent,
            target=now.target,
            figure="latency",
            how="none",
            note="a median of 0 s cannot be compared",
        )
    rise = math.log(p50 / promised.latency_p50_s)
    return _without_pairs(
        now,
        "latency",
        cases=len(values),
        figures=(promised.latency_p50_s, p50),
        change=(
            math.expm1(rise),
            math.expm1(rise - _Z * error),
            math.expm1(rise + _Z * error),
        ),
        excess=rise - math.log1p(margin),
        error=error,
        margin=margin,
        note="medians, as if times were log-normal: the profile's run is not in the store",
    )


def _log_spread(p50: float, p95: float) -> float:
    """Standard deviation of the logarithms, were they normal with these percentiles."""
    return math.log(p95 / p50) / _Z95 if 0 < p50 < p95 else 0.0


def _unpaired_cost(now: Measured, promised: float, margin: float) -> Change:
    values = list(now.cost_usd.values())
    mean = fmean(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    change = mean / promised - 1
    reach = _Z * error / promised
    return _without_pairs(
        now,
        "cost",
        cases=len(values),
        figures=(promised, mean),
        change=(change, change - reach, change + reach),
        excess=change - margin,
        error=error / promised,
        margin=margin,
        note="the profile's mean taken as exact: its run is not in the store",
    )


def _without_pairs(
    now: Measured,
    figure: Figure,
    *,
    cases: int,
    figures: tuple[float, float],
    change: tuple[float, float, float],
    excess: float,
    error: float,
    margin: float,
    note: str,
) -> Change:
    from scipy.special import ndtr

    surely = 0.0 if excess > 0 else 1.0
    return Change(
        agent=now.agent,
        target=now.target,
        figure=figure,
        how="unpaired",
        cases=cases,
        baseline=figures[0],
        current=figures[1],
        change=change[0],
        low=change[1],
        high=change[2],
        margin=margin,
        p=float(ndtr(-excess / error)) if error > 0 else surely,
        error=error,
        is_log=figure == "latency",
        note=note,
    )
