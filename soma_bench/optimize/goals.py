"""An objective as steps: one figure after the other, each minimised and held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from soma_bench.optimize.candidates import COST_UNITS, LATENCY_UNITS, QUALITY_UNITS, ROUNDING
from soma_bench.optimize.model import Model
from soma_bench.optimize.programme import Weights
from soma_bench.routing.constraints import GOALS, Goal, Lexicographic, Objective, Weighted

Figure = Literal["loss", "latency", "unpriced", "price", "weighted"]
"""What the primaries come to: quality short of the highest there can be, the slowest chain's
latency, how many have no known price, the price of an analysis, a weighted sum of all this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One figure to minimise, with how far later steps may stay above the least."""

    goal: Goal | None
    """The goal that it serves; None for a weighted sum."""
    figure: Figure
    slack: int
    unit: float
    """Units of the figure in one unit of the goal."""
    weights: Weighted | None = None

    def sums(self, model: Model) -> list[Weights]:
        """The figure as sums over a programme's variables, of which the greatest counts."""
        if self.weights is not None:
            return model.weighted(self.weights)
        if self.figure == "latency":
            return model.latencies()
        if self.figure == "unpriced":
            return [model.unpriced()]
        return [model.prices() if self.figure == "price" else model.quality_loss()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far an answer may be from the optimum, its search having been cut off."""

    goal: Goal | None
    """The goal that was being met; None for a weighted sum. Goals after it were not looked at."""
    at_most: float
    """In the goal's own unit: quality, seconds, dollars per 1000, or the weighted sum's."""


def steps(objective: Objective) -> list[Step]:
    """The steps of an objective, after which only text tells assignments apart."""
    usual = [step for goal in GOALS for step in _steps_of(goal, 0)]
    if isinstance(objective, Weighted):
        weighted = Step(
            goal=None, figure="weighted", slack=ROUNDING, unit=QUALITY_UNITS, weights=objective
        )
        return [weighted, *usual]
    if not isinstance(objective, Lexicographic):
        return usual
    tolerances = {
        "quality": round(objective.quality_tolerance * QUALITY_UNITS),
        "latency": round(objective.latency_tolerance_s * LATENCY_UNITS),
        "cost": round(objective.cost_tolerance_usd_per_1000 / 1000 * COST_UNITS),
    }
    first = [step for goal in objective.order for step in _steps_of(goal, tolerances[goal])]
    return [*first, *usual] if any(tolerances.values()) else first


def _steps_of(goal: Goal, tolerance: int) -> list[Step]:
    """The steps of one goal; a price that is not known comes after all that are."""
    slack = ROUNDING + tolerance
    if goal == "quality":
        return [Step(goal=goal, figure="loss", slack=slack, unit=QUALITY_UNITS)]
    if goal == "latency":
        return [Step(goal=goal, figure="latency", slack=slack, unit=LATENCY_UNITS)]
    return [
        Step(goal=goal, figure="unpriced", slack=0, unit=1),
        Step(goal=goal, figure="price", slack=slack, unit=COST_UNITS / 1000),
    ]


QUALITY_FIRST = steps("quality_latency_cost")[0]
"""The first step of the usual objective."""
