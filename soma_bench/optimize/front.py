"""The Pareto front: assignments of which none is better in quality, latency and cost at once.

Sums over the agents are put together agent by agent, and what is dominated among those with the
same models in memory is dropped at once, which loses nothing. Where figures are not plain sums
(required fallbacks, swapped models, readers that slow each other down) the exact search finds one
point after the other, from the highest quality down, each quicker or cheaper than all before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from soma_bench.errors import ConfigError
from soma_bench.optimize.candidates import (
    COST_UNITS,
    LATENCY_UNITS,
    QUALITY_UNITS,
    ROUNDING,
    Candidate,
)
from soma_bench.optimize.goals import steps
from soma_bench.optimize.model import Picks
from soma_bench.optimize.optimizer import Order, all_demands, read_tables
from soma_bench.optimize.problem import Tables, pose
from soma_bench.optimize.residency import READERS
from soma_bench.optimize.search import Assignment
from soma_bench.optimize.solution import Plan, make_plan
from soma_bench.optimize.solver import narrow
from soma_bench.optimize.table import Demand, Table
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS


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
    """Sums over the agents so far, in units."""

    quality: int
    latency: int
    cost: int
    models: frozenset[str]
    picks: tuple[Candidate, ...]


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
    found: list[tuple[_Point, Assignment]] = []
    plain = [table for table in tables if _is_plain(table, demands)]
    for table in plain:
        for point in _of_sums(table, demands):
            primaries = {candidate.row.agent: candidate for candidate in point.picks}
            found.append((point, Assignment(table=table, primaries=primaries, fallbacks={})))
    found += _by_search([table for table in tables if table not in plain], demands)
    return tuple(
        FrontPoint(
            quality=point.quality / QUALITY_UNITS,
            latency_s=point.latency / LATENCY_UNITS,
            cost_usd_per_1000=1000 * point.cost / COST_UNITS,
            pipeline=assignment.table.pipeline,
            plan=make_plan(assignment.table, assignment.primaries, assignment.fallbacks),
        )
        for point, assignment in _distinct(found)
    )


def _refuse_unknown_prices(table: Table, demands: Collection[Demand]) -> None:
    for agent in AGENTS:
        for candidate in table.eligible(agent, demands):
            if candidate.cost is None:
                raise ConfigError(
                    f"evidence: the price of {candidate.row.target} for {agent} is not known, so it"
                    " has no place on a front over cost; add its price or leave the target out"
                )


def _is_plain(table: Table, demands: Collection[Demand]) -> bool:
    """Whether all figures are sums over primaries, and memory a sum over distinct models."""
    limits = table.constraints
    contends = table.pipeline == "parallel" and limits.contention > 1
    return not (contends or limits.may_swap or any(d.kind == "fallback" for d in demands))


def _of_sums(table: Table, demands: Collection[Demand]) -> list[_Point]:
    kinds = {demand.kind for demand in demands}
    most_latency = table.limit("latency") if "latency" in kinds else None
    most_cost = table.limit("cost") if "cost" in kinds else None
    most_memory = table.limit("memory") if "memory" in kinds else None

    def fits(point: _Point) -> bool:
        return (
            (most_latency is None or point.latency <= most_latency)
            and (most_cost is None or point.cost <= most_cost)
            and (
                most_memory is None
                or sum(table.memory[model] or 0 for model in point.models) <= most_memory
            )
        )

    points = [_Point(0, 0, 0, frozenset(), ())]
    for options in _groups(table, demands, remembers_models=most_memory is not None):
        joined = (_join(point, option) for point, option in product(points, options))
        points = _undominated(point for point in joined if fits(point))
    return points


def _groups(
    table: Table, demands: Collection[Demand], *, remembers_models: bool
) -> list[list[_Point]]:
    """What to choose from, one after the other; readers side by side are chosen together."""
    options = {
        agent: _undominated(
            _Point(
                candidate.quality,
                candidate.latency,
                candidate.cost or 0,
                frozenset({candidate.model} if remembers_models and candidate.is_local else ()),
                (candidate,),
            )
            for candidate in table.eligible(agent, demands)
        )
        for agent in AGENTS
    }
    if table.pipeline == "sequential":
        return list(options.values())
    first, second = (options[agent] for agent in READERS)
    together = [
        _Point(
            one.quality + two.quality,
            max(one.latency, two.latency),
            one.cost + two.cost,
            one.models | two.models,
            one.picks + two.picks,
        )
        for one, two in product(first, second)
    ]
    others = [options[agent] for agent in AGENTS if agent not in READERS]
    return [_undominated(together), *others]


def _join(point: _Point, option: _Point) -> _Point:
    return _Point(
        point.quality + option.quality,
        point.latency + option.latency,
        point.cost + option.cost,
        point.models | option.models,
        point.picks + option.picks,
    )


def _undominated(points: Iterable[_Point]) -> list[_Point]:
    """The points that no other with the same models matches or beats in everything; one of equals."""
    by_models: dict[frozenset[str], list[_Point]] = {}
    for point in points:
        by_models.setdefault(point.models, []).append(point)
    kept = []
    for group in by_models.values():
        group.sort(key=lambda point: (-point.quality, point.latency, point.cost))
        stairs: list[tuple[int, int]] = []  # latency up, cost down
        for point in group:
            place = bisect_right(stairs, (point.latency, 1 << 62))
            if place and stairs[place - 1][1] <= point.cost:
                continue
            place = bisect_left(stairs, (point.latency, point.cost))
            while place < len(stairs) and stairs[place][1] >= point.cost:
                del stairs[place]
            stairs.insert(place, (point.latency, point.cost))
            kept.append(point)
    return kept


def _by_search(tables: Tables, demands: Collection[Demand]) -> list[tuple[_Point, Assignment]]:
    found: list[tuple[_Point, Assignment]] = []
    while tables:
        models = [pose(table, demands).model() for table in tables]
        for model in models:
            for point, _ in found:
                model.quicker_or_cheaper(point.latency - ROUNDING - 1, point.cost - ROUNDING - 1)
        for step in steps("quality_latency_cost"):
            models, _ = narrow(models, step)
            if not models:
                return found
        model = models[0]
        model.minimise_text([list(model.primaries[agent]) for agent in AGENTS])
        primaries, fallbacks = model.picked(model.primaries), model.picked(model.fallbacks)
        found.append(
            (
                _point(primaries, model.value(model.latencies())),
                Assignment(table=model.table, primaries=primaries, fallbacks=fallbacks),
            )
        )
    return found


def _point(primaries: Picks, latency: int) -> _Point:
    candidates = tuple(primaries[agent] for agent in AGENTS)
    return _Point(
        sum(candidate.quality for candidate in candidates),
        latency,
        sum(candidate.cost or 0 for candidate in candidates),
        frozenset(),
        candidates,
    )


def _distinct(found: Iterable[tuple[_Point, Assignment]]) -> list[tuple[_Point, Assignment]]:
    """The front over all models and orders; points that differ by rounding alone are one."""
    kept: list[tuple[_Point, Assignment]] = []
    ordered = sorted(
        found,
        key=lambda item: (
            -item[0].quality,
            item[0].latency,
            item[0].cost,
            [candidate.row.target for candidate in item[0].picks],
        ),
    )
    for point, assignment in ordered:
        if any(_covers(other, point) for other, _ in kept):
            continue
        # What came before with as good as the same quality may be dearer or slower.
        kept = [item for item in kept if not _covers(point, item[0])]
        kept.append((point, assignment))
    return kept


def _covers(one: _Point, other: _Point) -> bool:
    """Whether ``one`` is at least as good as ``other`` in everything, but for rounding."""
    return (
        one.quality >= other.quality - ROUNDING
        and one.latency <= other.latency + ROUNDING
        and one.cost <= other.cost + ROUNDING
    )
