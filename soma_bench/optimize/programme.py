"""A small exact solver for binary variables under linear rows, on top of HiGHS.

HiGHS computes in floating point, holds rows to a tolerance, and fails on rows that are broken by
about as much. So it is given rows in coarser whole units, rounded to the generous side: then no row
is broken by less than one. An answer that breaks a row in the true units is cut off and the
programme solved again, so that what comes out holds every row exactly.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from soma_bench.errors import SomaError

Weights = Mapping[int, int]
"""Whole, non-negative weights by variable."""

_SOLVED, _CUT_OFF, _INFEASIBLE = 0, 1, 2
_LP_INFEASIBLE = 2
_LARGEST = 1_000_000
"""Weights above this are made coarser for HiGHS."""


_GENEROUS = 1e-6
"""How far a relaxed row may be broken, as a share of its largest weight: above the solver's own
tolerance, so that what just fits is never taken for what does not."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A lower bound on the greatest of some sums for whatever holds the rows.

    It is ``constant`` and the reduced costs of all variables that are 1, of which any that are not
    negative can be left out. What can never be 1 costs without end.
    """

    constant: float
    reduced: NDArray[np.float64]


class Programme:
    """Binary variables, numbered from 0, under rows of whole weights.

    Args:
        deadline: on the clock of `time.monotonic`, when to stop with the best that is there.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.size = 0
        self.gap: float | None = None
        """Set when the deadline cut a search off: how far below the answer the optimum may lie."""
        self._deadline = deadline
        self._latest: frozenset[int] | None = None
        self._limits: list[tuple[Weights, int]] = []
        self._links: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
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

    def implies(
        self, variables: Iterable[int], consequence: int, unless: Iterable[int] = ()
    ) -> None:
        """Where any of ``variables`` is 1, so is ``consequence``, or else one of ``unless``.

        At most one of ``variables`` is ever 1.
        """
        self._links.append((tuple(variables), (consequence, *unless), 0))

    def together(self, first: Iterable[int], second: Iterable[int], consequence: int) -> None:
        """Where one of ``first`` and one of ``second`` is 1, so is ``consequence``."""
        self._links.append(((*first, *second), (consequence,), 1))

    def minimise(self, *parts: Weights, slack: int = 0) -> frozenset[int] | None:
        """Make the greatest of the weighted sums as small as can be, and hold it there.

        Returns:
            The variables that are 1; None where the rows leave no solution.

        Args:
            parts: one weighted sum, or several of which the greatest counts.
            slack: how far later answers may stay above this optimum.
        """
        chosen = self.minimum(*parts)
        if chosen is not None:
            self.hold(parts, greatest(parts, chosen) + slack)
        return chosen

    def hold(self, parts: Iterable[Weights], limit: int) -> None:
        """None of the weighted sums may pass ``limit``."""
        for weights in parts:
            self.at_most(weights, limit)

    def minimum(self, *parts: Weights) -> frozenset[int] | None:
        """What makes the greatest of the weighted sums as small as can be; None where nothing fits.

        Raises:
            SomaError: the deadline came before any answer.
        """
        while (chosen := self._solve(parts)) is not None:
            broken = self.breaks(chosen)
            if not broken:
                self._latest = chosen
                return chosen
            for weights in broken:
                support = [v for v, weight in weights.items() if weight and v in chosen]
                self.at_most(dict.fromkeys(support, 1), len(support) - 1)
        return None

    def breaks(self, chosen: Collection[int]) -> list[Weights]:
        """The weighted sums that pass their limits where the chosen variables are 1."""
        return [weights for weights, limit in self._limits if weighed(weights, chosen) > limit]

    def relax(
        self, parts: Sequence[Weights], within: Iterable[tuple[Weights, int]] = ()
    ) -> Relaxation | None:
        """The bound by the relaxation to fractions; None where even these hold no solution.

        Whatever the solver's tolerances, the bound holds but for the rounding of floating point: it
        is computed from the dual values alone, and any dual values give a bound.

        Args:
            parts: the sums.
            within: more sums with their limits.
        """
        rows = self._structure()
        never = np.zeros(self.size + 1, dtype=bool)
        for weights, limit in (*self._limits, *within):
            never[[variable for variable, weight in weights.items() if weight > limit]] = True
            unit = max([1, *weights.values()])
            scaled = {variable: weight / unit for variable, weight in weights.items()}
            rows.add(scaled, -np.inf, limit / unit + _GENEROUS)
        unit = max([1, *(weight for weights in parts for weight in weights.values())])
        for weights in parts:
            scaled = {variable: weight / unit for variable, weight in weights.items()}
            rows.add({**scaled, self.size: -1.0}, -np.inf, 0.0)
        objective = np.zeros(self.size + 1)
        objective[self.size] = 1.0
        matrix, high = rows.matrix(), rows.high()
        equal = rows.low() == high
        found = linprog(
            objective,
            A_eq=matrix[equal],
            b_eq=high[equal],
            A_ub=matrix[~equal],
            b_ub=high[~equal],
            bounds=np.column_stack([np.zeros(self.size + 1), np.where(never, 0.0, np.inf)]),
            method="highs",
        )
        if found.status == _LP_INFEASIBLE:
            return None
        if found.status != _SOLVED:
            raise SomaError(f"optimise: the solver gave up: {found.message}")
        duals = np.empty(len(high))
        duals[equal] = found.eqlin.marginals
        duals[~equal] = np.minimum(found.ineqlin.marginals, 0.0)
        # The last column has no upper bound, so its reduced cost may not be negative.
        duals /= max(1.0, -float(duals[-len(parts) :].sum()))
        reduced = np.where(never, np.inf, unit * (objective - duals @ matrix))
        return Relaxation(unit * float(duals @ high), reduced[: self.size])

    def _structure(self) -> _Rows:
        """The rows that say which choices go together."""
        rows = _Rows(self.size)
        for variables in self._choices:
            rows.add(dict.fromkeys(variables, 1.0), 1.0, 1.0)
        for causes, consequences, most in self._links:
            rows.add(
                {**dict.fromkeys(causes, 1.0), **dict.fromkeys(consequences, -1.0)}, -np.inf, most
            )
        return rows

    def _solve(self, parts: tuple[Weights, ...]) -> frozenset[int] | None:
        rows = self._structure()
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
        options = {"mip_rel_gap": 0.0}
        if self._deadline is not None:
            options["time_limit"] = max(0.01, self._deadline - time.monotonic())
        result = milp(
            objective,
            integrality=np.append(np.ones(self.size), 0),
            bounds=Bounds(0, np.append(np.ones(self.size), np.inf)),
            constraints=LinearConstraint(rows.matrix(), rows.low(), rows.high()),
            options=options,
        )
        if result.status == _INFEASIBLE:
            return None
        found = None if result.x is None else _ones(result.x[: self.size])
        if result.status == _CUT_OFF:
            # The answer before this one still holds every row.
            known = [answer for answer in (found, self._latest) if answer is not None]
            if not known:
                raise SomaError("optimise: no assignment was found in the time given; give it more")
            found = min(known, key=lambda answer: greatest(parts, answer))
            bound = unit * (result.mip_dual_bound or 0.0)
            self.gap = max(0.0, greatest(parts, found) - bound)
        elif result.status != _SOLVED:
            raise SomaError(f"optimise: the solver gave up: {result.message}")
        return found


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

    def matrix(self) -> Any:
        return csr_array(
            (self._values, self._columns, self._starts), shape=(len(self._low), self._width)
        )

    def low(self) -> NDArray[np.float64]:
        return np.array(self._low)

    def high(self) -> NDArray[np.float64]:
        return np.array(self._high)


def weighed(weights: Weights, chosen: Collection[int]) -> int:
    """The weighted sum of the chosen variables, exact."""
    return sum(weight for variable, weight in weights.items() if variable in chosen)


def _ones(values: Any) -> frozenset[int]:
    return frozenset(int(index) for index in np.flatnonzero(values > 0.5))


def greatest(parts: Iterable[Weights], chosen: Collection[int]) -> int:
    """The greatest of the weighted sums of the chosen variables."""
    return max(weighed(weights, chosen) for weights in parts)


def _coarse_unit(weights: Iterable[int]) -> int:
    return 1 + max(weights, default=0) // _LARGEST
