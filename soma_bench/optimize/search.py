"""The exact search: which candidate is each agent's primary, and which its fallback."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from soma_bench.optimize.programme import Programme, Weights, weighed
from soma_bench.optimize.table import QUALITY_UNITS, ROUNDING, Candidate, Demand, DemandKind, Table
from soma_bench.routing.constraints import Pipeline, chains
from soma_bench.types import AGENTS, AgentName

_LARGEST_RANK = 1_000_000
"""Text ranks of several agents are packed into one number up to this, to save solving."""

Options = Mapping[AgentName, Sequence[Candidate]]
Picks = dict[AgentName, Candidate]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Each agent's primary, and the fallback of those that have one."""

    primaries: Picks
    fallbacks: Picks


def search(table: Table, demands: Collection[Demand], pipeline: Pipeline) -> Assignment | None:
    """The best assignment that holds ``demands``; None where there is none.

    Primaries come first: highest sum of quality, then lowest pipeline latency, then fewest unknown
    prices and lowest price, then the targets' text. Given these, fallbacks: as many as can be, of
    another model than the primary where that can be, then by quality, latency and text.
    """
    primaries = _best_primaries(table, demands, pipeline)
    if primaries is None:
        return None
    return Assignment(primaries, _best_fallbacks(table, demands, pipeline, primaries))


def best_quality(table: Table, demands: Collection[Demand], pipeline: Pipeline) -> int | None:
    """The highest sum of the primaries' quality, in units; None where nothing holds ``demands``."""
    model = _first_model(table, demands, pipeline)
    return None if not model.minimise_quality_loss() else model.quality()


def is_feasible(table: Table, demands: Collection[Demand], pipeline: Pipeline) -> bool:
    """Whether any assignment holds ``demands``."""
    return _first_model(table, demands, pipeline).minimise({})


def least_limit(
    table: Table, demands: Collection[Demand], free: Demand, pipeline: Pipeline
) -> int | None:
    """The lowest limit (in units) in place of that of ``free``, itself one of ``demands``."""
    model = _first_model(table, demands, pipeline, free=free)
    parts = model.limited[free.kind]
    chosen = model.programme.minimise(*parts)
    return None if chosen is None else max(weighed(part, chosen) for part in parts)


def _first_model(
    table: Table, demands: Collection[Demand], pipeline: Pipeline, free: Demand | None = None
) -> _Model:
    """Primaries, and only those fallbacks that must be there; no limit on what ``free`` limits."""
    options = {agent: table.eligible(agent, demands) for agent in AGENTS}
    needed = {demand.agent for demand in demands if demand.kind == "fallback"}
    fallbacks = {agent: options[agent] for agent in AGENTS if agent in needed}
    return _Model(table, demands, pipeline, primaries=options, fallbacks=fallbacks, free=free)


def _best_primaries(table: Table, demands: Collection[Demand], pipeline: Pipeline) -> Picks | None:
    model = _first_model(table, demands, pipeline)
    if not model.minimise_quality_loss():
        return None
    primaries = model.primaries
    model.minimise_latency()
    unpriced = {v: 1 for group in primaries.values() for v, c in group.items() if c.cost is None}
    model.minimise(unpriced)
    model.minimise(model.prices(), slack=ROUNDING)
    model.minimise_text([list(primaries[agent]) for agent in AGENTS])
    return model.picked(primaries)


def _best_fallbacks(
    table: Table, demands: Collection[Demand], pipeline: Pipeline, primaries: Picks
) -> Picks:
    model = _Model(
        table,
        demands,
        pipeline,
        primaries={agent: (primaries[agent],) for agent in AGENTS},
        fallbacks={agent: table.eligible(agent, demands) for agent in AGENTS},
    )
    groups = model.fallbacks
    model.minimise(dict.fromkeys(model.without.values(), 1))
    model.minimise(
        {
            variable: 1
            for agent, group in groups.items()
            for variable, candidate in group.items()
            if candidate.model == primaries[agent].model
        }
    )
    loss = {v: QUALITY_UNITS - c.quality for group in groups.values() for v, c in group.items()}
    loss.update(dict.fromkeys(model.without.values(), QUALITY_UNITS))
    model.minimise(loss, slack=ROUNDING)
    model.minimise(
        {v: c.latency for group in groups.values() for v, c in group.items()}, slack=ROUNDING
    )
    model.minimise_text([[*groups[agent], *_present(model.without.get(agent))] for agent in AGENTS])
    return model.picked(groups)


def _present(variable: int | None) -> tuple[int, ...]:
    return () if variable is None else (variable,)


class _Model:
    """The assignment as a programme: a binary for each primary, fallback and resident model."""

    def __init__(
        self,
        table: Table,
        demands: Collection[Demand],
        pipeline: Pipeline,
        *,
        primaries: Options,
        fallbacks: Options,
        free: Demand | None = None,
    ) -> None:
        self.programme = Programme()
        self._table = table
        self._chains = chains(pipeline)
        self._chosen: frozenset[int] = frozenset()
        self.primaries = {agent: self._group(primaries[agent]) for agent in AGENTS}
        self.fallbacks = {agent: self._group(group) for agent, group in fallbacks.items()}
        needed = {demand.agent for demand in demands if demand.kind == "fallback"}
        self.without = {
            agent: self.programme.variables(1)[0] for agent in fallbacks if agent not in needed
        }
        """By agent whose fallback may be missing: the variable that says it is."""
        for agent in AGENTS:
            self.programme.exactly_one(self.primaries[agent])
        for agent in self.fallbacks:
            self._place_fallback(agent)
        kinds = {demand.kind for demand in demands}
        self.limited: dict[DemandKind, list[Weights]] = {}
        """Sums that are limited, by the demand that limits them."""
        if "latency" in kinds:
            self.limited["latency"] = self._latencies()
        if "memory" in kinds:
            self.limited["memory"] = [self._resident_sizes()]
        if "cost" in kinds:
            self.limited["cost"] = [self.prices()]
        for kind, sums in self.limited.items():
            for weights in sums if free is None or free.kind != kind else ():
                self.programme.at_most(weights, table.limit(kind))

    def _group(self, candidates: Sequence[Candidate]) -> dict[int, Candidate]:
        return dict(zip(self.programme.variables(len(candidates)), candidates, strict=True))

    def _place_fallback(self, agent: AgentName) -> None:
        """One fallback or, where it may be missing, none; never the primary itself."""
        group = self.fallbacks[agent]
        self.programme.exactly_one([*group, *_present(self.without.get(agent))])
        primary_of = {c.row.target: variable for variable, c in self.primaries[agent].items()}
        for variable, candidate in group.items():
            if candidate.row.target in primary_of:
                self.programme.at_most({variable: 1, primary_of[candidate.row.target]: 1}, 1)

    def prices(self) -> Weights:
        """What the primaries cost; an unknown price counts apart."""
        groups = self.primaries.values()
        return {variable: c.cost or 0 for group in groups for variable, c in group.items()}

    def _latencies(self) -> list[Weights]:
        """Each chain on its primaries, and with any one stage on its fallback."""
        return [
            self._chain_latency(chain, degraded)
            for chain in self._chains
            for degraded in (None, *(agent for agent in chain if agent in self.fallbacks))
        ]

    def _chain_latency(
        self, chain: Sequence[AgentName], degraded: AgentName | None = None
    ) -> Weights:
        return {
            variable: candidate.latency
            for agent in chain
            for variable, candidate in (
                self.fallbacks[agent] if agent == degraded else self.primaries[agent]
            ).items()
        }

    def _resident_sizes(self) -> Weights:
        """Every model in use is resident once, however many agents use it."""
        users: dict[str, list[list[int]]] = {}
        for group in (*self.primaries.values(), *self.fallbacks.values()):
            by_model: dict[str, list[int]] = {}
            for variable, candidate in group.items():
                by_model.setdefault(candidate.model, []).append(variable)
            for model, variables in by_model.items():
                users.setdefault(model, []).append(variables)
        sizes = {}
        for model, groups in users.items():
            resident = self.programme.variables(1)[0]
            sizes[resident] = self._table.memory[model] or 0
            for variables in groups:
                self.programme.implies(variables, resident)
        return sizes

    def minimise(self, *parts: Mapping[int, int], slack: int = 0) -> bool:
        """Minimise and hold; False where nothing fits."""
        chosen = self.programme.minimise(*parts, slack=slack)
        if chosen is not None:
            self._chosen = chosen
        return chosen is not None

    def minimise_quality_loss(self) -> bool:
        loss = {}
        for group in self.primaries.values():
            best = max((candidate.quality for candidate in group.values()), default=0)
            loss.update({v: best - candidate.quality for v, candidate in group.items()})
        return self.minimise(loss, slack=ROUNDING)

    def minimise_latency(self) -> bool:
        parts = [self._chain_latency(chain) for chain in self._chains]
        return self.minimise(*parts, slack=ROUNDING)

    def minimise_text(self, groups: Sequence[Sequence[int]]) -> None:
        """Of equals take the first by text, agent by agent; groups are in the order of their text."""
        start = 0
        while start < len(groups):
            stop, span = start + 1, len(groups[start])
            while stop < len(groups) and span * len(groups[stop]) <= _LARGEST_RANK:
                span *= len(groups[stop])
                stop += 1
            ranks: dict[int, int] = {}
            for group in groups[start:stop]:
                span //= len(group)
                ranks.update({variable: rank * span for rank, variable in enumerate(group)})
            self.minimise(ranks)
            start = stop

    def quality(self) -> int:
        return sum(candidate.quality for candidate in self.picked(self.primaries).values())

    def picked(self, groups: Mapping[AgentName, Mapping[int, Candidate]]) -> Picks:
        return {
            agent: candidate
            for agent, group in groups.items()
            for variable, candidate in group.items()
            if variable in self._chosen
        }
