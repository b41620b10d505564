"""The assignment as a programme of binaries: primaries, fallbacks, and what is in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from soma_bench.optimize.candidates import QUALITY_UNITS, Candidate
from soma_bench.optimize.programme import Programme, Weights, greatest
from soma_bench.optimize.residency import READERS, previous
from soma_bench.optimize.table import Demand, DemandKind, Table
from soma_bench.routing.constraints import Weighted, chains
from soma_bench.types import AGENTS, AgentName

_LARGEST_RANK = 1_000_000
"""Text ranks of several agents are packed into one number up to this, to save solving."""

Options = Mapping[AgentName, Sequence[Candidate]]
Picks = dict[AgentName, Candidate]
Group = dict[int, Candidate]
"""The candidates of one role by their variables."""
Role = tuple[AgentName, bool]
"""An agent's primary, or its fallback (True)."""


class Model:
    """The assignment as a programme; the latest answer is kept.

    Args:
        table: the candidates.
        demands: what must hold.
        primaries: for each agent the candidates to choose from.
        fallbacks: the same for those agents that may have a fallback.
        free: a demand whose limit is lifted, to be minimised by `limited`.
        deadline: see `Programme`.
    """

    def __init__(
        self,
        table: Table,
        demands: Collection[Demand],
        *,
        primaries: Options,
        fallbacks: Options,
        free: Demand | None = None,
        deadline: float | None = None,
    ) -> None:
        self.programme = Programme(deadline)
        self.table = table
        self._chosen: frozenset[int] = frozenset()
        self.primaries = {agent: self._group(primaries[agent]) for agent in AGENTS}
        self.fallbacks = {agent: self._group(group) for agent, group in fallbacks.items()}
        needed = {demand.agent for demand in demands if demand.kind == "fallback"}
        self.without = {
            agent: self.programme.variables(1)[0] for agent in fallbacks if agent not in needed
        }
        """By agent whose fallback may be missing: the variable that says it is."""
        kinds = {demand.kind for demand in demands}
        for agent in AGENTS:
            self.programme.exactly_one(self.primaries[agent])
        for agent in self.fallbacks:
            self._place_fallback(agent, apart="apart" in kinds)
        self._swaps = "memory" in kinds and table.constraints.may_swap
        self._resident: dict[str, int] = {}
        self._away: dict[Role, dict[str, int]] = {}
        """Where a model is swapped: the variable that says so, by role and model."""
        self._loads: dict[object, int] = {}
        self._slowed: dict[object, dict[int, int]] = {}
        if "memory" in kinds:
            self._place_in_memory()
        self.limited: dict[DemandKind, list[Weights]] = {}
        """Sums that are limited, by the demand that limits them."""
        own = table.constraints.max_degraded_latency_s is not None
        lifted = free is not None and free.kind == "latency" and own
        self._normal_is_held = "latency" in kinds and not lifted
        """Whether chains that a fallback does not change are within its limit already."""
        self._normal = self._state_latencies(None)
        if "latency" in kinds:
            self.limited["latency"] = list(self._normal)
        if self.fallbacks and kinds & {"latency", "degraded"}:
            degraded = [part for agent in self.fallbacks for part in self._state_latencies(agent)]
            limiting: DemandKind = "degraded" if own else "latency"
            if limiting in kinds:
                self.limited[limiting] = [*self.limited.get(limiting, ()), *degraded]
        if "memory" in kinds:
            self.limited["memory"] = self._memory_sums()
        if "cost" in kinds:
            self.limited["cost"] = [{**self.prices(), **self._surcharges()}]
        for kind, sums in self.limited.items():
            if free is None or free.kind != kind:
                self.programme.hold(sums, table.limit(kind))

    def _group(self, candidates: Sequence[Candidate]) -> Group:
        return dict(zip(self.programme.variables(len(candidates)), candidates, strict=True))

    def _new(self) -> int:
        return self.programme.variables(1)[0]

    def _place_fallback(self, agent: AgentName, *, apart: bool) -> None:
        """One fallback or, where it may be missing, none; never the primary itself."""
        group = self.fallbacks[agent]
        self.programme.exactly_one([*group, *_present(self.without.get(agent))])
        by_name: dict[str, list[int]] = {}
        for variable, candidate in (*self.primaries[agent].items(), *group.items()):
            name = candidate.domain if apart else candidate.row.target
            by_name.setdefault(name, []).append(variable)
        for variables in by_name.values():
            if len(variables) > 1:
                self.programme.at_most(dict.fromkeys(variables, 1), 1)

    def _roles(self) -> Iterable[tuple[Role, Group]]:
        for agent, group in self.primaries.items():
            yield (agent, False), group
        for agent, group in self.fallbacks.items():
            yield (agent, True), group

    def _place_in_memory(self) -> None:
        """Every local model in use is resident once, however many agents use it, or swapped."""
        for role, group in self._roles():
            local = {v: candidate for v, candidate in group.items() if candidate.is_local}
            for model, variables in _by_model(local).items():
                if model not in self._resident:
                    self._resident[model] = self._new()
                resident = self._resident[model]
                if not self._swaps or self.table.load[model] is None:
                    self.programme.implies(variables, resident)
                    continue
                away = self._new()
                self.programme.implies(variables, away, unless=[resident])
                self._away.setdefault(role, {})[model] = away

    def _memory_sums(self) -> list[Weights]:
        """What is resident, and beside it what each stage loads."""
        base = {variable: self._size(model) for model, variable in self._resident.items()}
        steps: list[tuple[Role, ...]] = []
        if self.table.pipeline == "sequential":
            steps = [(role,) for role in self._away]
        else:
            steps = [(role,) for role in self._away if role[0] not in READERS]
            first, second = READERS
            # One stage at most is on its fallback.
            for a, b in ((False, False), (False, True), (True, False)):
                pair: tuple[Role, Role] = ((first, a), (second, b))
                steps.append(tuple(role for role in pair if role in self._away))
        sums = [{**base, **self._loaded(step)} for step in steps if step]
        return [base, *sums]

    def _loaded(self, step: Sequence[Role]) -> Weights:
        """What a step loads, a model once."""
        users: dict[str, list[int]] = {}
        for role in step:
            for model, away in self._away[role].items():
                users.setdefault(model, []).append(away)
        weights = {}
        for model, variables in users.items():
            either = variables[0] if len(variables) == 1 else self._new()
            for variable in variables if len(variables) > 1 else ():
                self.programme.implies([variable], either)
            weights[either] = self._size(model)
        return weights

    def _size(self, model: str) -> int:
        return self.table.memory[model] or 0

    def prices(self) -> Weights:
        """What the primaries cost; an unknown price counts apart."""
        groups = self.primaries.values()
        return {variable: c.cost or 0 for group in groups for variable, c in group.items()}

    def _surcharges(self) -> Weights:
        """What fallbacks add, as often as their primaries fail.

        The rates of an agent's primaries are a staircase: a primary stands on all steps up to its
        own rate, and a fallback is paid step by step. Differences of rounded prices sum up exactly.
        """
        weights = {}
        for agent, fallbacks in self.fallbacks.items():
            dear = {variable: c for variable, c in fallbacks.items() if c.cost}
            group = self.primaries[agent]
            by_rate = {c.failures: c for c in group.values()}
            rates = sorted(by_rate)
            step_of = {rate: step for step, rate in enumerate(rates)}
            lower: Candidate | None = None
            for step, rate in enumerate(rates if dear else ()):
                if not rate:
                    continue
                example = by_rate[rate]
                standing = [v for v, c in group.items() if step_of[c.failures] >= step]
                paid = {variable: self._new() for variable in dear}
                free = [variable for variable in fallbacks if variable not in dear]
                free += _present(self.without.get(agent))
                # A primary on this step pays for the fallback, whichever it is.
                first, *others = paid.values()
                self.programme.implies(standing, first, unless=[*others, *free])
                for variable, payment in paid.items():
                    self.programme.implies([payment], variable)
                    below = 0 if lower is None else lower.surcharge(dear[variable])
                    weights[payment] = example.surcharge(dear[variable]) - below
                lower = example
        return weights

    def _serving(self, agent: AgentName, degraded: AgentName | None) -> tuple[Role, Group]:
        if agent == degraded:
            return (agent, True), self.fallbacks[agent]
        return (agent, False), self.primaries[agent]

    def _state_latencies(self, degraded: AgentName | None) -> list[Weights]:
        """Each chain on its primaries, or with one stage on its fallback."""
        stages: dict[AgentName, Weights] = {}
        for agent in AGENTS:
            _, group = self._serving(agent, degraded)
            stages[agent] = {
                **{variable: candidate.latency for variable, candidate in group.items()},
                **self._loading(agent, degraded),
                **self._slower(agent, degraded),
            }
        return [
            {variable: weight for agent in chain for variable, weight in stages[agent].items()}
            for chain in chains(self.table.pipeline)
            if degraded is None
            or degraded in chain
            or self._swaps
            or self._contends()
            or not self._normal_is_held
        ]

    def _loading(self, agent: AgentName, degraded: AgentName | None) -> Weights:
        """What a stage waits for its model, unless the stage before has used it."""
        role, _ = self._serving(agent, degraded)
        before = [self._serving(o, degraded) for o in previous(self.table.pipeline, agent)]
        weights = {}
        serving: dict[str, list[int]] = {}
        for _, group in before:
            for other, variables in _by_model(group).items():
                serving.setdefault(other, []).extend(variables)
        for model, away in self._away.get(role, {}).items():
            key = (role, tuple(other for other, _ in before), model)
            if key not in self._loads:
                loaded = list(serving.get(model, ()))
                for (agent_before, is_fallback), _ in before:
                    loaded += _present(self.without.get(agent_before) if is_fallback else None)
                self._loads[key] = self._new()
                self.programme.implies([away], self._loads[key], unless=loaded)
            weights[self._loads[key]] = self.table.load[model] or 0
        return weights

    def _contends(self) -> bool:
        return self.table.pipeline == "parallel" and self.table.constraints.contention > 1

    def _slower(self, agent: AgentName, degraded: AgentName | None) -> Weights:
        """What a local answer loses while the other reader works on this machine too."""
        if agent not in READERS or not self._contends():
            return {}
        role, group = self._serving(agent, degraded)
        other, others = self._serving(READERS[1 - READERS.index(agent)], degraded)
        local = [variable for variable, candidate in others.items() if candidate.is_local]
        if (role, other) not in self._slowed:
            slowed = {}
            for variable, candidate in group.items():
                if candidate.is_local and local:
                    slowed[variable] = self._new()
                    self.programme.together([variable], local, slowed[variable])
            self._slowed[role, other] = slowed
        factor = self.table.constraints.contention - 1
        return {
            slower: round(factor * group[variable].latency)
            for variable, slower in self._slowed[role, other].items()
        }

    def quality_loss(self) -> Weights:
        """By how much the primaries fall short of the highest quality there can be."""
        groups = self.primaries.values()
        return {v: QUALITY_UNITS - c.quality for group in groups for v, c in group.items()}

    def latencies(self) -> list[Weights]:
        """The chains on their primaries, of which the slowest counts."""
        return self._normal

    def unpriced(self) -> Weights:
        """How many primaries have no known price."""
        groups = self.primaries.values()
        return {v: 1 for group in groups for v, c in group.items() if c.cost is None}

    def weighted(self, weights: Weighted) -> list[Weights]:
        """What counts against an assignment, in millionths, by chain."""
        quality = {v: round(weights.quality * loss) for v, loss in self.quality_loss().items()}
        price = {
            v: round(weights.cost_per_usd_per_1000 * cost) for v, cost in self.prices().items()
        }
        return [
            {
                v: round(weights.latency_per_s * chain.get(v, 0))
                + quality.get(v, 0)
                + price.get(v, 0)
                for v in {**chain, **quality}
            }
            for chain in self._normal
        ]

    def minimise(self, *parts: Weights, slack: int = 0) -> bool:
        """Minimise and hold; False where nothing fits."""
        if self.minimum(*parts) is None:
            return False
        self.programme.hold(parts, self.value(parts) + slack)
        return True

    def minimum(self, *parts: Weights) -> int | None:
        """The least value of the greatest of the sums; None where nothing fits."""
        chosen = self.programme.minimum(*parts)
        if chosen is None:
            return None
        self._chosen = chosen
        return self.value(parts)

    def value(self, parts: Iterable[Weights]) -> int:
        """The greatest of the sums in the latest answer."""
        return greatest(parts, self._chosen)

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

    def picked(self, groups: Mapping[AgentName, Group]) -> Picks:
        """The chosen candidates of ``groups`` in the latest answer."""
        return {
            agent: candidate
            for agent, group in groups.items()
            for variable, candidate in group.items()
            if variable in self._chosen
        }


def _by_model(group: Group) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for variable, candidate in group.items():
        found.setdefault(candidate.model, []).append(variable)
    return found


def _present(variable: int | None) -> tuple[int, ...]:
    return () if variable is None else (variable,)
