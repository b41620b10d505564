"""Which fallbacks a run of primaries can have: exact, agent by agent.

One stage at most is on its fallback, so how long the pipeline then takes depends on that fallback
alone. What fallbacks share is memory and price. So partial choices are extended agent by agent, and
one is dropped as soon as another has no model in memory that it has not, and is no worse in
anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from soma_bench.optimize.candidates import QUALITY_UNITS, ROUNDING, Candidate
from soma_bench.optimize.figures import NO_MODEL, Figures, Flags, GivenUp, Runs, Stages, Whole
from soma_bench.optimize.model import Picks
from soma_bench.optimize.table import DemandKind
from soma_bench.types import AGENTS, AgentName

_MOST_WAYS = 4000
"""Partial choices kept at once; beyond that the solver is quicker."""
_MOST_MODELS = 62
"""Models that fallbacks may add: bits of a whole number."""
_SAME_MODEL = 10 * len(AGENTS) * QUALITY_UNITS
_MISSING = 10 * len(AGENTS) * _SAME_MODEL
"""What a fallback of the primary's own model, and none at all, weigh beside quality lost: more than
all of it."""

_LOADED, _DEGRADED, _PRICE, _RANK, _LATENCY, _TEXT = range(6)
"""Columns of `Ways.figures`; of the first two the greatest counts, of the others the sum."""
_GREATEST = np.array([True, True, False, False, False, False])


@dataclass(frozen=True, slots=True)
class Ways:
    """Partial choices of fallbacks, or what there is to choose from at one agent."""

    added: Whole
    """The models that they add to memory, as bits."""
    figures: Whole
    picks: Whole
    """Index into each agent's fallbacks, one column for each agent so far."""

    def __len__(self) -> int:
        return len(self.added)

    def take(self, rows: Any) -> Ways:
        """Some of the rows."""
        return Ways(self.added[rows], self.figures[rows], self.picks[rows])


class Fallbacks:
    """The fallbacks that there are to choose from beside the primaries of a problem.

    Args:
        figures: those of the primaries.
        groups: for each agent that may have a fallback the candidates.
        optional: agents that may go without.

    Raises:
        GivenUp: there are too many models, or later too many ways to choose.
    """

    def __init__(
        self,
        figures: Figures,
        groups: Mapping[AgentName, Sequence[Candidate]],
        optional: frozenset[AgentName] = frozenset(),
    ) -> None:
        self._figures = figures
        self._problem = figures.problem
        self._groups = groups
        self._optional = optional
        self._models = figures.models
        everyone = [(agent, c) for agent, group in groups.items() for c in group]
        self._candidates = [candidate for _, candidate in everyone]
        self._stage = np.array([AGENTS.index(agent) for agent, _ in everyone], dtype=np.int64)
        self._place = np.array([i for group in groups.values() for i in range(len(group))])
        self._answer = np.array([c.latency for c in self._candidates], dtype=np.int64)
        self._local = np.array([c.is_local for c in self._candidates], dtype=bool)
        self._model = self._models.of(self._candidates)
        self._names = self._problem.names(self._candidates)
        self._addable = np.unique(self._model[self._model != NO_MODEL])
        if len(self._addable) > _MOST_MODELS:
            raise GivenUp
        self._weighs_price = "cost" in self._problem.kinds
        self._surcharges: dict[tuple[int, int], Whole] = {}

    def complete(self, runs: Runs, row: int) -> Picks | None:
        """Fallbacks with which a run holds the limits; None where there are none."""
        ways = self._ways(runs, row, self._options(runs, row))
        return self._picked(ways, 0) if len(ways) else None

    def least(self, runs: Runs, row: int, kind: DemandKind) -> int | None:
        """The least that a limit of this kind could be; None where no fallbacks hold the others."""
        options = self._options(runs, row, measures_degraded=kind == self._problem.degraded_kind)
        ways = self._ways(runs, row, options)
        if not len(ways):
            return None
        if kind == "cost":
            primaries = int(self._figures.price(runs.take([row]))[0])
            return primaries + int(ways.figures[:, _PRICE].min())
        if kind == "memory":
            loaded = np.maximum(ways.figures[:, _LOADED], runs.loaded[row])
            return int(runs.resident[row] + (self._bytes(ways.added) + loaded).min())
        normal = int(self._figures.latency(runs.stages.take([row]))[0])
        degraded = int(ways.figures[:, _DEGRADED].min()) if self._groups else 0
        if kind == "latency" and self._problem.degraded_kind == "latency":
            return max(normal, degraded)
        return normal if kind == "latency" else degraded

    def best(self, runs: Runs) -> Picks | None:
        """The best fallbacks over all runs of the same primaries.

        As many as can be, of another model than the primary where that can be, then by quality,
        latency and text.
        """
        options = [self._options(runs, row, ranked=True) for row in range(len(runs))]
        ranks: list[float] = []
        for row, groups in enumerate(options):
            ways = self._ways(runs, row, [_only_rank(group) for group in groups])
            ranks.append(int(ways.figures[:, _RANK].min()) if len(ways) else inf)
        if min(ranks, default=inf) == inf:
            return None
        most = int(min(ranks)) + ROUNDING
        found: list[tuple[Ways, int]] = []
        for row, groups in enumerate(options):
            if ranks[row] <= most:
                ways = self._ways(runs, row, groups, most_rank=most)
                found += [(ways, place) for place in range(len(ways))]
        for column, slack in ((_LATENCY, ROUNDING), (_TEXT, 0)):
            least = min(int(ways.figures[place, column]) for ways, place in found)
            found = [
                (ways, place)
                for ways, place in found
                if ways.figures[place, column] <= least + slack
            ]
        return self._picked(*found[0])

    def _picked(self, ways: Ways, place: int) -> Picks:
        chosen = zip(self._groups.items(), ways.picks[place], strict=True)
        return {agent: group[index] for (agent, group), index in chosen if index < len(group)}

    def _options(
        self, runs: Runs, row: int, *, measures_degraded: bool = False, ranked: bool = False
    ) -> list[Ways]:
        """For each agent what it may fall back on, beside one run."""
        stages = runs.stages.take([row])
        primaries = [
            self._problem.primaries[agent][index]
            for agent, index in zip(AGENTS, runs.picks[row], strict=True)
        ]
        resident = set(stages.model[0][~stages.away[0]].tolist())
        swapped = set(stages.model[0][stages.away[0]].tolist())
        candidates, away, added = self._variants(resident, swapped)
        degraded = self._degraded(stages, candidates, away)
        latency = self._figures.latency(degraded)
        most = self._problem.limit(self._problem.degraded_kind)
        names = self._problem.names(primaries)
        allowed = self._names[candidates] != names[self._stage[candidates]]
        if most is not None:
            allowed &= latency <= most
        loaded = np.zeros(len(candidates), dtype=np.int64)
        if away.any():
            for stage in set(self._stage[candidates[away]].tolist()):
                at = away & (self._stage[candidates] == stage)
                loaded[at] = self._figures.loaded(degraded.take(at), beside=stage)
        figures = np.zeros((len(candidates), len(_GREATEST)), dtype=np.int64)
        figures[:, _LOADED] = loaded
        if measures_degraded:
            figures[:, _DEGRADED] = latency
        everything = Ways(added, figures, self._place[candidates][:, None])
        options = []
        spans = self._spans() if ranked else {}
        for agent, group in self._groups.items():
            stage = AGENTS.index(agent)
            mine = allowed & (self._stage[candidates] == stage)
            ways = everything.take(mine)
            places = ways.picks[:, 0]
            if self._weighs_price:
                ways.figures[:, _PRICE] = self._surcharge(primaries[stage], agent)[places]
            if ranked:
                self._rank(ways, group, primaries[stage], spans[agent])
            if agent in self._optional:
                ways = _with_none(ways, len(group), spans[agent])
            options.append(_undominated(ways))
        return options

    def _variants(self, resident: set[int], swapped: set[int]) -> tuple[Whole, Flags, Whole]:
        """Candidates, whether each is loaded for its stage, and the bit of a model that it adds.

        A model that the primaries do not use may be loaded, which takes no more memory than to keep
        it, or kept, which takes no time.
        """
        kept = np.isin(self._model, list(resident | {NO_MODEL}))
        loaded = np.isin(self._model, list(swapped))
        fresh = ~kept & ~loaded
        everyone = np.arange(len(self._model))
        if "memory" not in self._problem.kinds:
            return everyone, np.zeros(len(everyone), bool), np.zeros(len(everyone), np.int64)
        stays = everyone[kept | fresh]
        bits = np.where(fresh, 1 << np.searchsorted(self._addable, self._model), 0)
        may_load = fresh & self._models.may_load[self._model] & self._problem.may_swap
        comes = everyone[loaded | may_load]
        candidates = np.concatenate([stays, comes])
        away = np.arange(len(candidates)) >= len(stays)
        return candidates, away, np.where(away, 0, bits[candidates])

    def _degraded(self, stages: Stages, candidates: Whole, away: Flags) -> Stages:
        """The pipeline with each of the candidates in its stage."""
        rows = np.zeros(len(candidates), dtype=np.int64)
        changed = stages.take(rows)
        here = (np.arange(len(candidates)), self._stage[candidates])
        changed.answer[here] = self._answer[candidates]
        changed.model[here] = self._model[candidates]
        changed.local[here] = self._local[candidates]
        changed.away[here] = away
        return changed

    def _surcharge(self, primary: Candidate, agent: AgentName) -> Whole:
        """What each fallback adds to the price, as often as the primary fails."""
        key = (id(primary), AGENTS.index(agent))
        if key not in self._surcharges:
            self._surcharges[key] = np.array(
                [primary.surcharge(c) for c in self._groups[agent]],
                dtype=np.int64,
            )
        return self._surcharges[key]

    def _spans(self) -> dict[AgentName, int]:
        """What one rank of an agent's text weighs, so that earlier agents come first."""
        spans: dict[AgentName, int] = {}
        span = 1
        for agent in reversed(list(self._groups)):
            spans[agent] = span
            span *= len(self._groups[agent]) + 1
        if span > 1 << 62:
            raise GivenUp
        return spans

    def _rank(self, ways: Ways, group: Sequence[Candidate], primary: Candidate, span: int) -> None:
        loss = np.array(
            [
                QUALITY_UNITS - c.quality + (_SAME_MODEL if c.model == primary.model else 0)
                for c in group
            ],
            dtype=np.int64,
        )
        latency = np.array([c.latency for c in group], dtype=np.int64)
        places = ways.picks[:, 0]
        ways.figures[:, _RANK] = loss[places]
        ways.figures[:, _LATENCY] = latency[places]
        ways.figures[:, _TEXT] = span * places

    def _bytes(self, added: Whole) -> Whole:
        total = np.zeros(len(added), dtype=np.int64)
        if added.any():
            for bit, size in enumerate(self._models.size[self._addable]):
                total += np.where(added >> bit & 1, size, 0)
        return total

    def _ways(
        self, runs: Runs, row: int, options: Sequence[Ways], *, most_rank: int | None = None
    ) -> Ways:
        """All choices of fallbacks that hold the limits and are worth looking at."""
        most_memory, most_price = self._problem.limit("memory"), self._problem.limit("cost")
        if most_price is not None:
            most_price -= int(self._figures.price(runs.take([row]))[0])
        width = len(_GREATEST)
        ways = Ways(np.zeros(1, np.int64), np.zeros((1, width), np.int64), np.zeros((1, 0), int))
        least = np.zeros((len(options) + 1, width), dtype=np.int64)
        for place in range(len(options) - 1, -1, -1):
            if not len(options[place]):
                return ways.take([])
            least[place] = least[place + 1] + options[place].figures.min(axis=0)
        for place, group in enumerate(options):
            if len(ways) * len(group) > 1000 * _MOST_WAYS:
                raise GivenUp
            ways = _extended(ways, group)
            fits = np.ones(len(ways), dtype=bool)
            if most_memory is not None:
                loaded = np.maximum(ways.figures[:, _LOADED], runs.loaded[row])
                fits &= runs.resident[row] + self._bytes(ways.added) + loaded <= most_memory
            for column, most in ((_PRICE, most_price), (_RANK, most_rank)):
                if most is not None:
                    fits &= ways.figures[:, column] + least[place + 1, column] <= most
            ways = _undominated(ways.take(fits))
            if len(ways) > _MOST_WAYS:
                raise GivenUp
        return ways


def _extended(ways: Ways, group: Ways) -> Ways:
    rows = np.repeat(np.arange(len(ways)), len(group))
    columns = np.tile(np.arange(len(group)), len(ways))
    before, new = ways.figures[rows], group.figures[columns]
    return Ways(
        ways.added[rows] | group.added[columns],
        np.where(_GREATEST, np.maximum(before, new), before + new),
        np.concatenate([ways.picks[rows], group.picks[columns]], axis=1),
    )


def _undominated(ways: Ways) -> Ways:
    """Without those beside which another adds no other model and is no worse; one of equals."""
    if len(ways) < 2:
        return ways
    order = np.lexsort((*ways.figures.T[::-1], np.bitwise_count(ways.added)))
    ways = ways.take(order)
    kept: list[int] = []
    added, figures = ways.added, ways.figures
    left = np.ones(len(ways), dtype=bool)
    for row in range(len(ways)):
        if not left[row]:
            continue
        kept.append(row)
        rest = slice(row + 1, None)
        beaten = (added[row] & ~added[rest]) == 0
        beaten &= (figures[row] <= figures[rest]).all(axis=1)
        left[rest] &= ~beaten
    return ways.take(kept)


def _only_rank(group: Ways) -> Ways:
    figures = group.figures.copy()
    figures[:, [_LATENCY, _TEXT]] = 0
    return _undominated(Ways(group.added, figures, group.picks))


def _with_none(ways: Ways, index: int, span: int) -> Ways:
    """With the choice to have no fallback, the last by text."""
    figures = np.zeros((1, ways.figures.shape[1]), dtype=np.int64)
    figures[0, [_RANK, _TEXT]] = _MISSING + QUALITY_UNITS, span * index
    return Ways(
        np.append(ways.added, 0),
        np.concatenate([ways.figures, figures]),
        np.concatenate([ways.picks, [[index]]]),
    )
