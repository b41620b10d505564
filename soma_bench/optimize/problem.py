"""One question to the search: which candidates may serve, under which demands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf

import numpy as np
from numpy.typing import NDArray

from soma_bench.optimize.candidates import ROUNDING, Candidate
from soma_bench.optimize.goals import Gap
from soma_bench.optimize.model import Model, Options, Picks
from soma_bench.optimize.table import Demand, DemandKind, Table
from soma_bench.types import AGENTS, AgentName

Tables = Sequence[Table]

_REMEMBERED = 128
"""Groups of candidates whose pruning is remembered: one question often follows another."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """What there is to choose from for one order of the stages, and what must hold."""

    table: Table
    demands: tuple[Demand, ...]
    primaries: Options
    fallbacks: Options
    """By agent that needs one."""
    free: Demand | None = None
    """A demand whose limit is lifted, because the lowest limit that can be held is looked for."""
    most_loss: int | None = None
    """How far the primaries' quality may fall short of the highest there can be, in units."""
    most_latency: int | None = None
    """Of the primaries, beside what the demands ask."""
    most_price: int | None = None
    """The same."""

    @cached_property
    def kinds(self) -> frozenset[DemandKind]:
        """The kinds of the demands, the lifted one among them."""
        return frozenset(demand.kind for demand in self.demands)

    def limit(self, kind: DemandKind) -> int | None:
        """The limit that must be held, in whole units; None where there is none."""
        if kind not in self.kinds or (self.free is not None and self.free.kind == kind):
            return None
        return self.table.limit(kind)

    @property
    def degraded_kind(self) -> DemandKind:
        """The kind of demand that limits the latency with a stage on its fallback."""
        own = self.table.constraints.max_degraded_latency_s is not None
        return "degraded" if own else "latency"

    @property
    def may_swap(self) -> bool:
        """Whether models may be loaded for their stage: without a memory limit none has to be."""
        return "memory" in self.kinds and self.table.constraints.may_swap

    def names(self, candidates: Sequence[Candidate]) -> NDArray[np.object_]:
        """What each candidate may not share with its fallback or primary."""
        apart = "apart" in self.kinds
        return np.array([_stands_for(c, apart=apart) for c in candidates], dtype=object)

    def model(self, deadline: float | None = None) -> Model:
        """The problem as a programme for the solver."""
        model = Model(
            self.table,
            self.demands,
            primaries=self.primaries,
            fallbacks=self.fallbacks,
            free=self.free,
            deadline=deadline,
        )
        if self.most_loss is not None:
            model.programme.at_most(model.quality_loss(), self.most_loss)
        if self.most_latency is not None:
            model.programme.hold(model.latencies(), self.most_latency)
        if self.most_price is not None:
            model.programme.at_most(model.prices(), self.most_price)
        return model

    def with_primaries(self, options: Mapping[AgentName, Sequence[Candidate]]) -> Problem:
        """The same with other candidates in place of those of some agents."""
        return replace(self, primaries={**self.primaries, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class Primaries:
    """An answer to the first part of the question."""

    table: Table
    picks: Picks
    fallbacks: Picks
    """Those that must be there: some that fit, not always the best."""
    latency: int
    """Microseconds of the slowest chain, as run for the answer."""
    gap: Gap | None = None

    @property
    def text(self) -> tuple[str, ...]:
        """The targets in the agents' order."""
        return tuple(self.picks[agent].row.target for agent in AGENTS)


def pose(
    table: Table,
    demands: Collection[Demand],
    *,
    free: Demand | None = None,
    most_loss: int | None = None,
    prune: bool = True,
) -> Problem:
    """Primaries, and only those fallbacks that must be there; no limit on what ``free`` limits.

    Args:
        table: the candidates.
        demands: what must hold.
        free: a demand whose limit is lifted.
        most_loss: see `Problem`.
        prune: leave out what cannot be in the best assignment; not where candidates are taken away
            later.
    """
    options = {agent: table.eligible(agent, demands) for agent in AGENTS}
    needed = {demand.agent for demand in demands if demand.kind == "fallback"}
    fallbacks = {agent: options[agent] for agent in AGENTS if agent in needed}
    limits = {demand.kind for demand in demands if demand != free}
    # Changing places needs the primaries to be as quick as is asked of the fallbacks.
    if prune and ("latency" in limits or "degraded" not in limits):
        options = {agent: _undominated(options[agent]) for agent in AGENTS}
        fallbacks = {agent: _worthy_fallbacks(group) for agent, group in fallbacks.items()}
    apart = any(demand.kind == "apart" for demand in demands)
    for agent, group in fallbacks.items():
        options[agent] = _with_fallback(options[agent], group, apart=apart)
    return Problem(
        table=table,
        demands=tuple(demands),
        primaries=options,
        fallbacks=fallbacks,
        free=free,
        most_loss=most_loss,
    )


def other_than(problem: Problem, picks: Picks) -> Iterator[Problem]:
    """Parts that together leave out nothing but the primaries of ``picks``.

    In each part one agent's primary is another, those of the agents before it are the same, and
    those of the agents after it are free.
    """
    same: dict[AgentName, Sequence[Candidate]] = {}
    for agent in AGENTS:
        target = picks[agent].row.target
        others = [c for c in problem.primaries[agent] if c.row.target != target]
        if others:
            yield problem.with_primaries({**same, agent: others})
        same[agent] = [c for c in problem.primaries[agent] if c.row.target == target]


def one_model_each(problem: Problem) -> Iterator[Problem]:
    """For each model that can serve all agents the problem with its candidates alone."""
    by_agent = {agent: by_model(problem.primaries[agent]) for agent in AGENTS}
    for model in by_agent[AGENTS[0]]:
        if all(model in groups for groups in by_agent.values()):
            yield problem.with_primaries({agent: by_agent[agent][model] for agent in AGENTS})


def by_model(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """The candidates of each model."""
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.model, []).append(candidate)
    return found


@lru_cache(_REMEMBERED)
def _undominated(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Without those beside which the same model does as well in everything, and is preferred.

    Such a candidate is in no best assignment: in its place the other holds whatever it holds, also
    where the other was its fallback, since then the two can change places. Latencies decide nothing
    here: a stage off the slowest chain may be slower at no loss.
    """

    def beats(one: Candidate, other: Candidate) -> bool:
        if one.cost is None or other.cost is None:
            return False
        gains = (one.quality - other.quality, other.latency - one.latency, other.cost - one.cost)
        better = gains[0] > ROUNDING or gains[2] > ROUNDING or one.row.target < other.row.target
        return min(gains) >= 0 and better and one.failures <= other.failures

    groups = by_model(candidates)
    return tuple(
        candidate
        for candidate in candidates
        if not any(beats(other, candidate) for other in groups[candidate.model])
    )


@lru_cache(_REMEMBERED)
def _worthy_fallbacks(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Without those beside which two of the same model are as quick and cheap.

    One of the two is not the primary and holds whatever such a candidate holds. Only whether there
    is a fallback counts while primaries are chosen, not how good it is.
    """
    kept = []
    for group in by_model(candidates).values():
        ordered = sorted(group, key=lambda c: (c.latency, c.cost or 0))
        for place, candidate in enumerate(ordered):
            before = [other for other in ordered[:place] if _price(other) <= _price(candidate)]
            if len(before) < 2:
                kept.append(candidate)
    return tuple(kept)


def _with_fallback(
    candidates: Sequence[Candidate], fallbacks: Sequence[Candidate], *, apart: bool
) -> tuple[Candidate, ...]:
    """Those beside which there is another target, or one that does not fail with them."""
    names = {_stands_for(candidate, apart=apart) for candidate in fallbacks}
    return tuple(c for c in candidates if names and names != {_stands_for(c, apart=apart)})


def _stands_for(candidate: Candidate, *, apart: bool) -> str:
    return candidate.domain if apart else candidate.row.target


def _price(candidate: Candidate) -> float:
    return inf if candidate.cost is None else candidate.cost
