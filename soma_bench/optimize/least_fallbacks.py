"""What fallbacks take at least: a check of many runs at once, before each is looked at by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from soma_bench.optimize.candidates import Candidate
from soma_bench.optimize.figures import Figures, Flags, Runs, Whole, slowest_chain
from soma_bench.optimize.problem import stands_for
from soma_bench.types import AGENTS, AgentName


class LeastFallbacks:
    """For each primary the quickest, cheapest and smallest of its fallbacks, not always the same one.

    Args:
        figures: those of the primaries.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._problem = figures.problem
        self._least = {agent: self._of(agent) for agent in self._problem.fallbacks}

    def may_hold(self, runs: Runs) -> Flags:
        """Whether fallbacks may hold the limits beside each run; where not, none do."""
        may = np.ones(len(runs), dtype=bool)
        most_cost = self._problem.limit("cost")
        most_memory = self._problem.limit("memory")
        most_latency = self._problem.limit(self._problem.degraded_kind)
        cost = self._figures.price(runs)
        models = self._figures.models
        used = np.zeros((len(runs), len(models.size)), dtype=bool)
        np.put_along_axis(used, runs.stages.model, values=True, axis=1)
        for agent, least in self._least.items():
            stage = AGENTS.index(agent)
            latency, price, size, served_by = (figure[runs.picks[:, stage]] for figure in least)
            cost = cost + price
            if most_latency is not None:
                answer = runs.stages.answer.copy()
                answer[:, stage] = latency
                may &= slowest_chain(answer, self._problem.table.pipeline) <= most_latency
            if most_memory is not None and not self._problem.may_swap:
                there = (served_by & used).any(axis=1)
                may &= runs.resident + np.where(there, 0, size) <= most_memory
        return may if most_cost is None else may & (cost <= most_cost)

    def _of(self, agent: AgentName) -> tuple[Whole, Whole, Whole, Flags]:
        """By primary the least latency, surcharge and size, and which models can serve."""
        apart = "apart" in self._problem.kinds
        fallbacks = self._problem.fallbacks[agent]
        models = self._figures.models
        numbers = models.of(fallbacks)
        names = [stands_for(candidate, apart=apart) for candidate in fallbacks]
        figures: list[tuple[int, int, int]] = []
        served_by = np.zeros((len(self._problem.primaries[agent]), len(models.size)), dtype=bool)
        for row, primary in enumerate(self._problem.primaries[agent]):
            own = stands_for(primary, apart=apart)
            others = [place for place, name in enumerate(names) if name != own]
            served_by[row, numbers[others]] = True
            possible = [fallbacks[place] for place in others]
            latency = min(candidate.latency for candidate in possible)
            size = int(models.size[numbers[others]].min())
            figures.append((latency, _least_surcharge(primary, possible), size))
        columns = np.array(figures, dtype=np.int64).reshape(-1, 3).T
        return columns[0], columns[1], columns[2], served_by


def _least_surcharge(primary: Candidate, fallbacks: Sequence[Candidate]) -> int:
    return primary.surcharge(min(fallbacks, key=lambda candidate: candidate.cost or 0))
