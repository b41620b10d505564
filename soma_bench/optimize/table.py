"""What the optimiser chooses from: the candidates, and the demands on them by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from soma_bench.errors import ConfigError
from soma_bench.optimize.candidates import (
    COST_UNITS,
    LATENCY_UNITS,
    ROUNDING,
    Candidate,
    floor_figure,
    read_candidates,
)
from soma_bench.pipeline.graph import GRAPHS
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName

DemandKind = Literal[
    "privacy", "synthetic", "floor", "latency", "degraded", "memory", "cost", "apart", "fallback"
]

ROW_KINDS: frozenset[DemandKind] = frozenset({"privacy", "synthetic", "floor", "cost", "memory"})
"""Demands that look at one row alone, if only at whether its figure is known."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One constraint that can be named, held or dropped by itself."""

    kind: DemandKind
    agent: AgentName | None
    name: str
    """In plain words, e.g. ``quality floor radiologist 0.9``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """All candidates for one order of the stages, with the demands on them."""

    constraints: Constraints
    pipeline: Pipeline
    candidates: Mapping[AgentName, tuple[Candidate, ...]]
    """By agent, sorted by the target's text."""
    memory: Mapping[str, int | None]
    """Bytes by model with its cache: the most that any of its rows measured; 0 for a cloud model."""
    load: Mapping[str, int | None]
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
            if demand.kind in ROW_KINDS and self.covers(demand, agent)
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
    read = read_candidates(evidence, constraints)
    table = Table(
        constraints=constraints,
        pipeline=pipeline,
        candidates=read.candidates,
        memory=read.memory,
        load=read.load,
        demands=tuple(_demands(constraints, pipeline, read.candidates)),
    )
    _refuse_unknown_figures(table)
    return table


def _demands(
    constraints: Constraints,
    pipeline: Pipeline,
    candidates: Mapping[AgentName, tuple[Candidate, ...]],
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
