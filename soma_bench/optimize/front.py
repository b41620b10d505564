"""The Pareto front: assignments of which none is better in quality, latency and cost at once.

Sums over the agents are put together agent by agent, and what is dominated among those with the
same models in memory is dropped at once, which loses nothing. Where figures are not plain sums
(required fallbacks, swapped models) the exact search finds one point after the other, from the
highest quality down, each quicker or cheaper than all before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from soma_bench.errors import ConfigError
from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, QUALITY_UNITS, ROUNDING
from soma_bench.optimize.goals import steps
from soma_bench.optimize.model import Picks
from soma_bench.optimize.optimizer import Order, all_demands, read_tables
from soma_bench.optimize.problem import Problem, pose
from soma_bench.optimize.search import best_primaries
from soma_bench.optimize.solution import Plan, make_plan
from soma_bench.optimize.sums import undominated_sums
from soma_bench.optimize.table import Demand, Table
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

_USUAL = steps("quality_latency_cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One assignment of the front; its plan has only those fallbacks that are required."""

    quality: float
    """Sum of the primaries' mean quality."""
    latency_s: float
    """Of the pipeline on the primaries, at the percentile of the constraints."""
    cost_usd_per_1000: float
    """Of 1000 analyses on the primaries."""
    pipeline: Pipeline
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Point:
    """An assignment with its figures in units."""

    quality: int
    latency: int
    cost: int
    table: Table
    primaries: Picks
    fallbacks: Picks

    @property
    def text(self) -> list[str]:
        return [self.primaries[agent].row.target for agent in AGENTS]


def pareto_assignments(
    evidence: Sequence[Evidence], constraints: Constraints, *, pipeline: Order = "sequential"
) -> tuple[FrontPoint, ...]:
    """All points of (quality, latency, cost) that no assignment under the constraints dominates.

    Best quality first; of assignments that come to the same point one is given. Empty where nothing
    fits.

    Raises:
        ConfigError: the evidence cannot be used, or a candidate's price is not known.
    """
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    for table in tables:
        _refuse_unknown_prices(table, demands)
    problems = [pose(table, demands) for table in tables]
    plain = [problem for problem in problems if not (problem.may_swap or problem.fallbacks)]
    others = [problem for problem in problems if problem not in plain]
    found = [point for problem in plain for point in _of_sums(problem)] + _by_search(others)
    return tuple(
        FrontPoint(
            quality=point.quality / QUALITY_UNITS,
            latency_s=point.latency / LATENCY_UNITS,
            cost_usd_per_1000=1000 * point.cost / COST_UNITS,
            pipeline=point.table.pipeline,
            plan=make_plan(point.table, point.primaries, point.fallbacks),
        )
        for point in _distinct(found)
    )


def _refuse_unknown_prices(table: Table, demands: Collection[Demand]) -> None:
    for agent in AGENTS:
        for candidate in table.eligible(agent, demands):
            if candidate.cost is None:
                raise ConfigError(
                    f"evidence: the price of {candidate.row.target} for {agent} is not known, so it"
                    " has no place on a front over cost; add its price or leave the target out"
                )


def _of_sums(problem: Problem) -> list[_Point]:
    return [
        _Point(
            sum(candidate.quality for candidate in primaries.values()),
            latency,
            sum(candidate.cost or 0 for candidate in primaries.values()),
            problem.table,
            primaries,
            {},
        )
        for primaries, latency in undominated_sums(problem)
    ]


def _by_search(problems: Sequence[Problem]) -> list[_Point]:
    """From the highest quality down: what is left are boxes below some latency and some price.

    The best of all boxes is a point of the front. It splits each box that it lies in into what is
    quicker and what is cheaper; a box inside another needs no search of its own.
    """
    found: list[_Point] = []
    boxes = [box] if (box := _Box.of(problems, _MUCH, _MUCH)) else []
    while boxes:
        point = max(boxes, key=lambda box: box.rank).point
        found.append(point)
        hit = [box for box in boxes if point.latency <= box.latency and point.cost <= box.cost]
        boxes = [box for box in boxes if box not in hit]
        quicker, cheaper = point.latency - ROUNDING - 1, point.cost - ROUNDING - 1
        corners = {(quicker, box.cost) for box in hit} | {(box.latency, cheaper) for box in hit}
        sides = {(box.latency, box.cost) for box in boxes} | corners
        for latency, cost in sorted(corners):
            inside = any(
                side != (latency, cost) and latency <= side[0] and cost <= side[1] for side in sides
            )
            box = None if inside else _Box.of(problems, latency, cost)
            if box is not None:
                boxes.append(box)
    return found


_MUCH = 1 << 62
"""Above all latencies and prices."""


@dataclass(frozen=True, slots=True)
class _Box:
    """All assignments up to some latency and some price, with the best of them."""

    latency: int
    cost: int
    point: _Point

    @classmethod
    def of(cls, problems: Sequence[Problem], latency: int, cost: int) -> _Box | None:
        """None where the box is empty."""
        inside = [
            replace(
                problem,
                most_latency=None if latency == _MUCH else latency,
                most_price=None if cost == _MUCH else cost,
            )
            for problem in problems
        ]
        best = best_primaries(inside, _USUAL) if min(latency, cost) >= 0 and problems else None
        if best is None:
            return None
        candidates = best.picks.values()
        point = _Point(
            sum(candidate.quality for candidate in candidates),
            best.latency,
            sum(candidate.cost or 0 for candidate in candidates),
            best.table,
            best.picks,
            best.fallbacks,
        )
        return cls(latency, cost, point)

    @property
    def rank(self) -> tuple[int, int, int]:
        return self.point.quality, -self.point.latency, -self.point.cost


def _distinct(found: Iterable[_Point]) -> list[_Point]:
    """The front over all models and orders; points that differ by rounding alone are one."""
    kept: list[_Point] = []
    ordered = sorted(found, key=lambda p: (-p.quality, p.latency, p.cost, p.text))
    for point in ordered:
        if any(_covers(other, point) for other in kept):
            continue
        # What came before with as good as the same quality may be dearer or slower.
        kept = [other for other in kept if not _covers(point, other)]
        kept.append(point)
    return kept


def _covers(one: _Point, other: _Point) -> bool:
    """Whether ``one`` is at least as good as ``other`` in everything, but for rounding."""
    return (
        one.quality >= other.quality - ROUNDING
        and one.latency <= other.latency + ROUNDING
        and one.cost <= other.cost + ROUNDING
    )
