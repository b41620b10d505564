"""What the constraints cost: which of them bind, and what a little more room would buy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, QUALITY_UNITS, ROUNDING
from soma_bench.optimize.optimizer import Order, all_demands, read_tables
from soma_bench.optimize.problem import Tables
from soma_bench.optimize.search import best_quality, least_limit_for_quality
from soma_bench.optimize.table import Demand, DemandKind
from soma_bench.routing.constraints import Constraints
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

STEPS: Mapping[DemandKind, float] = MappingProxyType(
    {"latency": 10.0, "degraded": 10.0, "memory": 4.0 * (1 << 30), "cost": 5.0, "floor": 0.05}
)
"""By how much a limit is relaxed: seconds, bytes, dollars per 1000 analyses, quality."""

_UNITS: Mapping[DemandKind, float] = MappingProxyType(
    {"latency": LATENCY_UNITS, "degraded": LATENCY_UNITS, "memory": 1, "cost": COST_UNITS / 1000}
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A demand, or several on privacy, that keeps the choice from being better."""

    name: str
    quality_gain: float
    """By how much the sum of the primaries' quality would rise without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What relaxing one limit buys, everything solved again with it."""

    name: str
    """The demand's."""
    kind: DemandKind
    by: float
    """How much the limit was relaxed, in its own unit."""
    quality_gain: float
    """By how much the best sum of the primaries' quality rises."""
    first_by: float | None
    """The least that buys any quality at all; None where nothing does, and for floors."""

    @property
    def message(self) -> str:
        """The price in plain words, e.g. ``10 s more latency would buy 0.030 quality``."""
        bought = f"{self.quality_gain:.3f} quality" if self.quality_gain else "no quality"
        text = f"{_amount(self.kind, self.by)} would buy {bought}"
        if self.first_by is None:
            return text
        return f"{text}; the first gain takes {_amount(self.kind, self.first_by)}"


def _amount(kind: DemandKind, by: float) -> str:
    if kind == "memory":
        return f"{by / (1 << 30):.3g} GiB more memory"
    if kind == "cost":
        return f"{by:.3g} USD more per 1000 analyses"
    if kind == "floor":
        return f"a floor lower by {by:.3g}"
    fallen = " with a stage on its fallback" if kind == "degraded" else ""
    return f"{by:.3g} s more latency{fallen}"


def what_binds(
    evidence: Sequence[Evidence], constraints: Constraints, *, pipeline: Order = "sequential"
) -> tuple[Binding, ...]:
    """The demands that cost quality, the dearest first, each taken by itself.

    An agent that inherits another's privacy is freed by both levels only; such levels are taken
    together where that gains more than either alone.

    Raises:
        ConfigError: as `soma_bench.optimize.optimize`.
    """
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    now = best_quality(tables, demands)
    if now is None:
        return ()
    gains: dict[tuple[Demand, ...], int] = {}
    for dropped in _droppable(tables, demands):
        without = best_quality(tables, [d for d in demands if d not in dropped])
        parts = [gain for part, gain in gains.items() if set(part) < set(dropped)]
        if without is not None and without - now > ROUNDING + max(parts, default=0):
            gains[dropped] = without - now
    bindings = [
        Binding(" and ".join(demand.name for demand in dropped), gain / QUALITY_UNITS)
        for dropped, gain in gains.items()
    ]
    return tuple(sorted(bindings, key=lambda binding: (-binding.quality_gain, binding.name)))


def _droppable(tables: Tables, demands: Sequence[Demand]) -> Iterator[tuple[Demand, ...]]:
    """Each demand, then the privacy levels that hold for each agent, the fewest first."""
    yield from ((demand,) for demand in demands)
    together = {
        tuple(d for d in demands if d.kind == "privacy" and table.covers(d, agent))
        for table in tables
        for agent in AGENTS
    }
    yield from sorted(
        (group for group in together if len(group) > 1),
        key=lambda group: (len(group), [demand.name for demand in group]),
    )


def shadow_prices(
    evidence: Sequence[Evidence],
    constraints: Constraints,
    *,
    pipeline: Order = "sequential",
    steps: Mapping[DemandKind, float] = STEPS,
) -> tuple[ShadowPrice, ...]:
    """What relaxing each limit by its step buys in the sum of the primaries' quality.

    Each is found by solving the whole again with that one limit relaxed, so it is exact for that
    step and for no other: choices jump. Empty where nothing fits.

    Raises:
        ConfigError: as `soma_bench.optimize.optimize`.
    """
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    now = best_quality(tables, demands)
    if now is None:
        return ()
    most = best_quality(tables, [d for d in demands if d.kind in ("privacy", "synthetic")])
    prices = []
    for demand in demands:
        if demand.kind not in steps:
            continue
        relaxed = _relaxed(constraints, demand, steps[demand.kind])
        then = best_quality([replace(table, constraints=relaxed) for table in tables], demands)
        gain = max(0, (then or now) - now)
        first_by = None
        if demand.kind != "floor" and most is not None and most - now > ROUNDING:
            least = least_limit_for_quality(tables, demands, demand, now + ROUNDING + 1)
            rounding = 0 if demand.kind == "memory" else ROUNDING
            limit = tables[0].limit(demand.kind) - rounding
            first_by = None if least is None else max(0, least - limit) / _UNITS[demand.kind]
        prices.append(
            ShadowPrice(
                name=demand.name,
                kind=demand.kind,
                by=steps[demand.kind],
                quality_gain=gain / QUALITY_UNITS if gain > ROUNDING else 0.0,
                first_by=first_by,
            )
        )
    return tuple(prices)


def _relaxed(constraints: Constraints, demand: Demand, by: float) -> Constraints:
    if demand.agent is not None:
        floors = dict(constraints.quality_floors)
        floors[demand.agent] = max(0.0, floors[demand.agent] - by)
        return constraints.model_copy(update={"quality_floors": floors})
    field = {
        "latency": "max_latency_s",
        "degraded": "max_degraded_latency_s",
        "memory": "max_memory_bytes",
        "cost": "max_cost_usd_per_1000",
    }[demand.kind]
    limit = getattr(constraints, field) + (round(by) if demand.kind == "memory" else by)
    return constraints.model_copy(update={field: limit})
