"""What fallbacks take at least: a check of many runs at once, before each is looked at by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from soma_bench.optimize.figures import NO_MODEL, Figures, Flags, Runs, Whole, slowest_chain
from soma_bench.types import AGENTS, AgentName

_MUCH = 1 << 60
"""Above all figures; each primary has a fallback."""


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
        primaries, fallbacks = self._problem.primaries[agent], self._problem.fallbacks[agent]
        models = self._figures.models
        numbers = models.of(fallbacks)
        differs = self._problem.names(primaries)[:, None] != self._problem.names(fallbacks)

        def least(figures: Sequence[int] | Whole) -> Whole:
            found: Whole = np.where(differs, figures, _MUCH).min(axis=1, initial=_MUCH)
            return found

        prices = [
            primary.failures_of(int(price))
            for primary, price in zip(
                primaries, least([c.cost or 0 for c in fallbacks]), strict=True
            )
        ]
        of_model = numbers[:, None] == np.append(np.arange(len(models.size) - 1), NO_MODEL)
        return (
            least([candidate.latency for candidate in fallbacks]),
            np.array(prices, dtype=np.int64),
            least(models.size[numbers]),
            (differs[:, :, None] & of_model).any(axis=1),
        )
