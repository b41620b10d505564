"""Evidence as the optimiser sees it: candidates in whole units, and the demands on them by name.

Sums must compare exactly, so every figure is a whole number here: quality in millionths, latency
in microseconds, prices in billionths of a dollar, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from soma_bench.errors import ConfigError
from soma_bench.pipeline.graph import GRAPHS
from soma_bench.providers.places import is_cloud_tag
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, Target

QUALITY_UNITS = 1_000_000
LATENCY_UNITS = 1_000_000
COST_UNITS = 1_000_000_000
ROUNDING = 2 * len(AGENTS)
"""Sums over the agents that differ by no more units than this are equal: each figure in them (a
stage's, its load's, its fallback's) may be off by half a unit. It is 0.00001 of quality,
10 microseconds, 1e-8 dollars."""

_MAX_LATENCY_S = 86_400.0
_MAX_COST_USD = 1e6
_MAX_MEMORY_BYTES = 1 << 50

DemandKind = Literal[
    "privacy", "synthetic", "floor", "latency", "degraded", "memory", "cost", "apart", "fallback"
]

_ROW_KINDS: frozenset[DemandKind] = frozenset({"privacy", "synthetic", "floor", "cost", "memory"})
"""Demands that look at one row alone, if only at whether its figure is known."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One constraint that can be named, held or dropped by itself."""

    kind: DemandKind
    agent: AgentName | None
    name: str
    """In plain words, e.g. ``quality floor radiologist 0.9``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One row of evidence in whole units."""

    row: Evidence
    model: str
    """``provider:model``: what is resident in memory, and what fails as one."""
    is_local: bool
    quality: int
    latency: int
    """At the percentile that the constraints name."""
    cost: int | None
    domain: str
    """What fails as one, as far as the constraints tell fallbacks apart."""
    failures: Fraction
    """Share of calls that end on the fallback."""

    def surcharge(self, fallback: Candidate) -> int:
        """What ``fallback`` adds to the price of an analysis whose primary this is."""
        return round(self.failures * (fallback.cost or 0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """All candidates for one order of the stages, with the demands on them."""

    constraints: Constraints
    pipeline: Pipeline
    candidates: dict[AgentName, tuple[Candidate, ...]]
    """By agent, sorted by the target's text."""
    memory: dict[str, int | None]
    """Bytes by model with its cache: the most that any of its rows measured; 0 for a cloud model."""
    load: dict[str, int | None]
    """Microseconds that a model takes to load: the most measured; 0 for a cloud model."""
    demands: tuple[Demand, ...]
    _eligible: dict[tuple[AgentName, frozenset[DemandKind]], tuple[Candidate, ...]] = field(
        default_factory=dict, init=False, repr=False
    )

    def eligible(self, agent: AgentName, demands: Collection[Demand]) -> tuple[Candidate, ...]:
        """The candidates of ``agent`` that hold those ``demands`` which look at one row alone.

        A figure that nobody measured holds no limit on it.
        """
        kinds = frozenset(
            demand.kind
            for demand in demands
            if demand.kind in _ROW_KINDS and self.covers(demand, agent)
        )
        if (agent, kinds) not in self._eligible:
            self._eligible[agent, kinds] = tuple(
                candidate
                for candidate in self.candidates[agent]
                if not (
                    ("privacy" in kinds and not candidate.is_local)
                    or ("synthetic" in kinds and candidate.row.synthetic)
                    or ("floor" in kinds and not self._reaches_floor(candidate))
                    or ("cost" in kinds and candidate.cost is None)
                    or ("memory" in kinds and self.memory[candidate.model] is None)
                )
            )
        return self._eligible[agent, kinds]

    def covers(self, demand: Demand, agent: AgentName) -> bool:
        """Whether ``demand`` is one on ``agent``: privacy also holds for all that read its answers."""
        if demand.agent is None or demand.agent == agent:
            return True
        return demand.kind == "privacy" and demand.agent in sources(self.pipeline, agent)

    def _reaches_floor(self, candidate: Candidate) -> bool:
        floor = self.constraints.quality_floors[candidate.row.agent]
        return floor_figure(candidate.row, self.constraints) >= floor

    def limit(self, kind: DemandKind) -> int:
        """The limit of a demand for latency, cost or memory, in whole units."""
        constraints = self.constraints
        if kind == "latency" and constraints.max_latency_s is not None:
            return round(constraints.max_latency_s * LATENCY_UNITS) + ROUNDING
        if kind == "degraded" and constraints.max_degraded_latency_s is not None:
            return round(constraints.max_degraded_latency_s * LATENCY_UNITS) + ROUNDING
        if kind == "cost" and constraints.max_cost_usd_per_1000 is not None:
            return round(constraints.max_cost_usd_per_1000 / 1000 * COST_UNITS) + ROUNDING
        if kind == "memory" and constraints.max_memory_bytes is not None:
            return constraints.max_memory_bytes
        raise ValueError(f"there is no limit for {kind}")


def floor_figure(row: Evidence, constraints: Constraints) -> float:
    """The figure of ``row`` that a quality floor is compared with."""
    return row.quality_low if constraints.floor_on == "low" else row.quality


def sources(pipeline: Pipeline, agent: AgentName) -> tuple[AgentName, ...]:
    """``agent`` and all whose answers reach it, from whom it inherits their privacy level."""
    reads = {stage.agent: stage.reads for stage in GRAPHS[pipeline]}
    found = [agent]
    for reached in found:
        found += [source for source in reads[reached] if source not in found]
    return tuple(found)


def read_table(
    evidence: Sequence[Evidence], constraints: Constraints, pipeline: Pipeline = "sequential"
) -> Table:
    """Turn evidence into a table.

    Raises:
        ConfigError: an agent has no evidence, a row stands twice, a figure is absurd, or a
            candidate's price or memory is unknown while there is a limit on it.
    """
    rows: dict[AgentName, dict[str, Candidate]] = {agent: {} for agent in AGENTS}
    memory: dict[str, int | None] = {}
    caches: dict[str, int | None] = {}
    load: dict[str, int | None] = {}
    for row in evidence:
        candidate = _candidate(row, constraints)
        if row.target in rows[row.agent]:
            raise ConfigError(f"evidence: {row.target} stands twice for {row.agent}")
        rows[row.agent][row.target] = candidate
        seconds = None if row.load_s is None else round(row.load_s * LATENCY_UNITS)
        for figures, said in ((memory, row.memory_bytes), (caches, row.kv_bytes), (load, seconds)):
            figure = said if candidate.is_local else 0
            known = figures.get(candidate.model)
            figures[candidate.model] = known if figure is None else max(figure, known or 0)
    missing = [agent for agent in AGENTS if not rows[agent]]
    if missing:
        raise ConfigError(f"evidence: nothing was measured for {', '.join(missing)}")
    candidates = {
        agent: tuple(_unflattered([found[target] for target in sorted(found)]))
        for agent, found in rows.items()
    }
    table = Table(
        constraints=constraints,
        pipeline=pipeline,
        candidates=candidates,
        memory={
            model: None if size is None else size + (caches[model] or 0)
            for model, size in memory.items()
        },
        load=load,
        demands=tuple(_demands(constraints, pipeline, candidates)),
    )
    _refuse_unknown_figures(table)
    return table


def _unflattered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Rank targets that a race did not pick just below the one it picked.

    Only the pick's score was taken anew, on held-out cases. The scores of the others are those that
    they raced by, the best of which were in part lucky: they must not beat it by that luck, and are
    still there where the pick does not fit.
    """
    confirmed = [c.quality for c in candidates if c.row.selection == "held_out"]
    if not confirmed:
        return list(candidates)
    most = max(0, max(confirmed) - ROUNDING - 1)
    return [
        c if c.row.selection == "held_out" else replace(c, quality=min(c.quality, most))
        for c in candidates
    ]


def _candidate(row: Evidence, constraints: Constraints) -> Candidate:
    for figure, limit, what in (
        (row.latency_p95_s, _MAX_LATENCY_S, "latency_p95_s"),
        (row.cost_usd, _MAX_COST_USD, "cost_usd"),
        (row.memory_bytes, _MAX_MEMORY_BYTES, "memory_bytes"),
        (row.kv_bytes, _MAX_MEMORY_BYTES, "kv_bytes"),
        (row.load_s, _MAX_LATENCY_S, "load_s"),
    ):
        if figure is not None and figure > limit:
            raise ConfigError(
                f"evidence: {what} of {row.target} for {row.agent} is {figure:g},"
                f" above {limit:g}: that cannot be a measurement"
            )
    place = _place(row.target)
    latency = row.latency_p50_s if constraints.latency == "p50" else row.latency_p95_s
    own = "this machine" if constraints.fallback_apart == "machine" else place.provider
    rate = constraints.fallback_rate
    return Candidate(
        row=row,
        model=place.model,
        is_local=place.is_local,
        quality=round(row.quality * QUALITY_UNITS),
        latency=round(latency * LATENCY_UNITS),
        cost=None if row.cost_usd is None else round(row.cost_usd * COST_UNITS),
        domain=own if place.is_local else f"cloud of {place.provider}",
        failures=_share(row.failures if rate is None else rate),
    )


class _Place(NamedTuple):
    provider: str
    model: str
    is_local: bool


@lru_cache(4096)
def _place(target: str) -> _Place:
    """Where a target runs, remembered: the same evidence is read for each question."""
    parsed = Target.parse(target)
    is_local = parsed.is_local and not is_cloud_tag(parsed.model)
    return _Place(parsed.provider, f"{parsed.provider}:{parsed.model}", is_local)


_share = lru_cache(4096)(Fraction)


def _demands(
    constraints: Constraints,
    pipeline: Pipeline,
    candidates: dict[AgentName, tuple[Candidate, ...]],
) -> list[Demand]:
    """The demands that can matter here, those on single agents last."""
    demands = []
    if constraints.max_cost_usd_per_1000 is not None:
        text = f"cost {constraints.max_cost_usd_per_1000:g} USD per 1000 analyses"
        demands.append(Demand("cost", None, text))
    if constraints.max_memory_bytes is not None:
        text = f"memory {constraints.max_memory_bytes / (1 << 30):g} GiB"
        demands.append(Demand("memory", None, text))
    if constraints.max_latency_s is not None:
        text = f"{constraints.latency} latency {constraints.max_latency_s:g} s"
        demands.append(Demand("latency", None, text))
    if constraints.max_degraded_latency_s is not None:
        limit = f"{constraints.latency} latency {constraints.max_degraded_latency_s:g} s"
        demands.append(Demand("degraded", None, f"{limit} with a stage on its fallback"))
    if constraints.fallback_apart != "target":
        text = f"fallbacks on another {constraints.fallback_apart}"
        demands.append(Demand("apart", None, text))
    rows = [candidate.row for agent in AGENTS for candidate in candidates[agent]]
    if not constraints.allow_synthetic and any(row.synthetic for row in rows):
        demands.append(Demand("synthetic", None, "real weights only, none synthetic"))
    for agent in AGENTS:
        if constraints.needs_fallback(agent):
            demands.append(Demand("fallback", agent, f"a fallback for {agent}"))
        if constraints.privacy_of(agent) == "local_only" and not all(
            candidate.is_local
            for reader in AGENTS
            if agent in sources(pipeline, reader)
            for candidate in candidates[reader]
        ):
            demands.append(Demand("privacy", agent, f"privacy {agent} local_only"))
        if agent in constraints.quality_floors:
            text = f"quality floor {agent} {constraints.quality_floors[agent]:g}"
            demands.append(Demand("floor", agent, text))
    return demands


def _refuse_unknown_figures(table: Table) -> None:
    row_demands = [d for d in table.demands if d.kind in ("privacy", "synthetic", "floor")]
    kinds = {demand.kind for demand in table.demands}
    for agent in AGENTS:
        for candidate in table.eligible(agent, row_demands):
            if "cost" in kinds and candidate.cost is None:
                raise ConfigError(
                    f"evidence: the price of {candidate.row.target} for {agent} is not known, so"
                    " no cost limit can be held; add its price or drop the limit"
                )
            if "memory" in kinds and table.memory[candidate.model] is None:
                raise ConfigError(
                    f"evidence: the memory of {candidate.row.target} for {agent} was not measured,"
                    " so no memory limit can be held; measure it or drop the limit"
                )
