"""What stands beside a choice and takes a moment longer: what binds, prices, runner-up, front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from soma_bench.errors import SomaError
from soma_bench.optimize import (
    FrontPoint,
    Infeasible,
    optimize,
    pareto_assignments,
    runner_up,
    shadow_prices,
    what_binds,
)
from soma_bench.plots.labels import AGENT_TITLES, name_targets
from soma_bench.routing.evidence import Evidence
from soma_bench.separation import TargetScores
from soma_bench.widgets.tuner.demands import Demands
from soma_bench.widgets.tuner.sheet import sum_interval

_MOST_POINTS = 250
"""Points of a front that a picture of this size can show."""
_MOST_PRICES = 2

Part = Callable[[Sequence[Evidence], TargetScores, Demands], dict[str, Any]]


def binding(evidence: Sequence[Evidence], _: TargetScores, demands: Demands) -> dict[str, Any]:
    """What keeps the choice from being better."""
    bound = what_binds(evidence, demands.constraints, pipeline=demands.pipeline)
    if not bound:
        return {"text": "No limit costs quality.", "names": []}
    first, *others = bound
    more = f" So do {', '.join(item.name for item in others)}." if others else ""
    return {
        "text": f"What binds: {first.name}; without it quality would rise by"
        f" {first.quality_gain:.3f} of 5.{more}",
        "names": [item.name for item in bound],
    }


def prices(evidence: Sequence[Evidence], _: TargetScores, demands: Demands) -> dict[str, Any]:
    """What it would take to get better."""
    found = shadow_prices(evidence, demands.constraints, pipeline=demands.pipeline)
    useful = [price for price in found if price.quality_gain or price.first_by is not None]
    useful.sort(key=lambda price: (-price.quality_gain, price.name))
    if not useful:
        return {"text": "No limit's next step would buy quality." if found else ""}
    said = "; ".join(price.message for price in useful[:_MOST_PRICES])
    return {"text": f"To get better: {said}."}


def second(evidence: Sequence[Evidence], scores: TargetScores, demands: Demands) -> dict[str, Any]:
    """The runner-up, and whether the data can tell it from the choice."""
    solution = optimize(
        evidence, demands.constraints, pipeline=demands.pipeline, objective=demands.objective
    )
    if isinstance(solution, Infeasible):
        return {"text": ""}
    found = runner_up(evidence, solution, pipeline=demands.pipeline, scores=scores)
    if found is None:
        return {"text": "There is no other assignment under these limits."}
    names = name_targets(row.target for row in evidence).targets
    where = ", ".join(
        f"{AGENT_TITLES[item.agent]} on {names[item.theirs]}" for item in found.differences
    )
    can = "can" if found.told_apart else "cannot"
    text = (
        f"Runner-up: quality {found.plan.quality:.3f} of 5, with {where};"
        f" the data {can} tell it from the choice."
    )
    more = [
        f"{AGENT_TITLES[item.agent]} {item.more_cases:,}"
        for item in found.differences
        if item.more_cases
    ]
    if more and not found.told_apart:
        text += f" About so many more cases would: {', '.join(more)}."
    return {
        "text": text,
        "told_apart": found.told_apart,
        "differences": [asdict(item) for item in found.differences],
    }


def front(evidence: Sequence[Evidence], _: TargetScores, demands: Demands) -> dict[str, Any]:
    """Assignments that nothing beats in quality, latency and cost at once, under the same limits."""
    points = pareto_assignments(evidence, demands.constraints, pipeline=demands.pipeline)
    return {
        "count": len(points),
        "points": [_point_as_json(point, edge) for point, edge in _shown(points)],
        "text": "",
    }


PARTS: Mapping[str, Part] = MappingProxyType(
    {"binding": binding, "prices": prices, "second": second, "front": front}
)
"""By name, in the order in which they are worked out."""


def part_as_json(
    name: str, evidence: Sequence[Evidence], scores: TargetScores, demands: Demands
) -> dict[str, Any]:
    """One part; what the optimiser refuses is said in its text."""
    try:
        return PARTS[name](demands.playing(evidence), scores, demands)
    except SomaError as error:
        return {"text": f"{name}: {error}", "failed": True}


def _shown(points: Sequence[FrontPoint]) -> list[tuple[FrontPoint, bool]]:
    """Not more points than can be drawn, and whether each is on the edge of quality and latency."""
    edge = set()
    quickest = float("inf")
    # Best quality first: a point is on the edge where it is quicker than all before it.
    for place, point in enumerate(points):
        if point.latency_s < quickest:
            quickest = point.latency_s
            edge.add(place)
    inner = [place for place in range(len(points)) if place not in edge]
    step = max(1, -(-len(inner) // max(1, _MOST_POINTS - len(edge))))
    kept = sorted(edge | set(inner[::step]))
    return [(points[place], place in edge) for place in kept]


def _point_as_json(point: FrontPoint, on_edge: bool) -> dict[str, Any]:
    low, high = sum_interval([choice.primary for choice in point.plan.choices])
    return {
        "quality": point.quality,
        "low": low,
        "high": high,
        "latency_s": point.latency_s,
        "usd_per_1000": point.cost_usd_per_1000,
        "edge": on_edge,
    }
