"""A small exact solver for binary variables under linear rows, on top of HiGHS.

HiGHS computes in floating point, holds rows to a tolerance, and fails on rows that are broken by
about as much. So it is given rows in coarser whole units, rounded to the generous side: then no row
is broken by less than one. An answer that breaks a row in the true units is cut off and the
programme solved again, so that what comes out holds every row exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from soma_bench.errors import SomaError

Weights = Mapping[int, int]
"""Whole, non-negative weights by variable."""

_SOLVED, _INFEASIBLE = 0, 2
_LARGEST = 1_000_000
"""Weights above this are made coarser for HiGHS."""


class Programme:
    """Binary variables, numbered from 0, under rows of whole weights."""

    def __init__(self) -> None:
        self.size = 0
        self._limits: list[tuple[Weights, int]] = []
        self._links: list[tuple[tuple[int, ...], int]] = []
        self._choices: list[tuple[int, ...]] = []

    def variables(self, count: int) -> range:
        """``count`` new variables."""
        self.size += count
        return range(self.size - count, self.size)

    def at_most(self, weights: Weights, limit: int) -> None:
        """The weighted sum may not pass ``limit``."""
        self._limits.append((weights, limit))

    def exactly_one(self, variables: Iterable[int]) -> None:
        """One of ``variables`` is 1, the others 0."""
        self._choices.append(tuple(variables))

    def implies(self, variables: Iterable[int], consequence: int) -> None:
        """Where any of ``variables`` (at most one of them is ever 1) is 1, so is ``consequence``."""
        self._links.append((tuple(variables), consequence))

    def minimise(self, *parts: Weights, slack: int = 0) -> frozenset[int] | None:
        """Make the greatest of the weighted sums as small as can be, and hold it there.

        Returns:
            The variables that are 1; None where the rows leave no solution.

        Args:
            parts: one weighted sum, or several of which the greatest counts.
            slack: how far later answers may stay above this optimum.
        """
        while (chosen := self._solve(parts)) is not None:
            broken = [
                weights for weights, limit in self._limits if weighed(weights, chosen) > limit
            ]
            if not broken:
                best = max(weighed(weights, chosen) for weights in parts)
                for weights in parts:
                    self.at_most(weights, best + slack)
                return chosen
            for weights in broken:
                support = [v for v, weight in weights.items() if weight and v in chosen]
                self.at_most(dict.fromkeys(support, 1), len(support) - 1)
        return None

    def _solve(self, parts: tuple[Weights, ...]) -> frozenset[int] | None:
        rows = _Rows(self.size)
        for variables in self._choices:
            rows.add(dict.fromkeys(variables, 1.0), 1.0, 1.0)
        for variables, consequence in self._links:
            rows.add({**dict.fromkeys(variables, 1.0), consequence: -1.0}, -np.inf, 0.0)
        for weights, limit in self._limits:
            unit = _coarse_unit(weights.values())
            rows.add({v: float(w // unit) for v, w in weights.items()}, -np.inf, limit // unit)
        objective = np.zeros(self.size + 1)
        unit = _coarse_unit(weight for weights in parts for weight in weights.values())
        if len(parts) == 1:
            for variable, weight in parts[0].items():
                objective[variable] = weight / unit
        else:
            objective[self.size] = 1.0
            for weights in parts:
                scaled = {variable: weight / unit for variable, weight in weights.items()}
                rows.add({**scaled, self.size: -1.0}, -np.inf, 0.0)
        result = milp(
            objective,
            integrality=np.append(np.ones(self.size), 0),
            bounds=Bounds(0, np.append(np.ones(self.size), np.inf)),
            constraints=rows.constraint(),
            options={"mip_rel_gap": 0.0},
        )
        if result.status == _INFEASIBLE:
            return None
        if result.status != _SOLVED:
            raise SomaError(f"optimise: the solver gave up: {result.message}")
        return frozenset(int(index) for index in np.flatnonzero(result.x[: self.size] > 0.5))


class _Rows:
    """Rows of a sparse matrix with their bounds, and one column more for the greatest of sums."""

    def __init__(self, size: int) -> None:
        self._width = size + 1
        self._values: list[float] = []
        self._columns: list[int] = []
        self._starts = [0]
        self._low: list[float] = []
        self._high: list[float] = []

    def add(self, weights: Mapping[int, float], low: float, high: float) -> None:
        self._columns += weights.keys()
        self._values += weights.values()
        self._starts.append(len(self._values))
        self._low.append(low)
        self._high.append(high)

    def constraint(self) -> Any:
        matrix = csr_array(
            (self._values, self._columns, self._starts), shape=(len(self._low), self._width)
        )
        return LinearConstraint(matrix, self._low, self._high)


def weighed(weights: Weights, chosen: Collection[int]) -> int:
    """The weighted sum of the chosen variables, exact."""
    return sum(weight for variable, weight in weights.items() if variable in chosen)


def _coarse_unit(weights: Iterable[int]) -> int:
    return 1 + max(weights, default=0) // _LARGEST
