"""The search by enumeration: exact, and quick where the relaxation to fractions is close.

The solver's relaxation gives a lower bound on a figure of any assignment: a constant and a reduced
cost for each primary. So all assignments whose bound is not above a threshold are written down,
their exact figures computed at once, and the threshold raised until the best found is not above it:
then nothing better was left out. Usually that leaves a few hundred of the hundreds of millions that
there are. Where it leaves too many the search gives up, and the solver is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from math import ceil, inf, prod

import numpy as np

from soma_bench.optimize.fallbacks import Fallbacks
from soma_bench.optimize.figures import Figures, GivenUp, Runs, Whole
from soma_bench.optimize.goals import QUALITY_FIRST, Step
from soma_bench.optimize.least_fallbacks import LeastFallbacks
from soma_bench.optimize.listing import Costs, list_within
from soma_bench.optimize.model import Model, Picks
from soma_bench.optimize.problem import Primaries, Problem
from soma_bench.optimize.programme import Weights
from soma_bench.optimize.reach import CLOSE, Reach
from soma_bench.optimize.table import Demand, DemandKind
from soma_bench.types import AGENTS

SMALL = 3000
"""Assignments that are looked at one and all, without a bound."""

_BEAM = 500
"""Beginnings that are followed up where there are too many, only to find something good."""
_RAISED = (1.05, 1.2, 1.5, 2.5, inf)
"""Shares of its limit that a demand's limit is raised to, one after the other."""
_EASY = 100
"""Beginnings that are followed up where any assignment would do."""
_TRIED = 12
"""Of these so many are looked at by themselves."""
_WHOLE = 1 << 40
"""A limit, where figures are shares of their limits."""


class Enumeration:
    """One problem's assignments, narrowed down figure by figure.

    Args:
        problem: what there is to choose from.
        deadline: on the clock of `time.monotonic`, when to give up.
    """

    def __init__(self, problem: Problem, deadline: float | None = None) -> None:
        self.problem = problem
        self._deadline = deadline
        self.figures = Figures(problem)
        self._completes = Fallbacks(self.figures, problem.fallbacks)
        self._limits = self.figures.limits()
        self._least_fallbacks = LeastFallbacks(self.figures)
        self._kept: Runs | None = None
        """All that hold what was held so far; None where these are too many to write down."""
        self._latest: Runs | None = None
        """The latest list for a figure,"""
        self._lowest = inf
        """its lower bound,"""
        self._covered = -inf
        """and up to which value of it nothing is missing from the list."""
        self._model: Model | None = None
        self._known: dict[bytes, bool] = {}
        if prod(len(group) for group in problem.primaries.values()) <= SMALL:
            self._kept = self._runs(self._all())

    @property
    def model(self) -> Model:
        """The problem as a programme, with what was held so far."""
        if self._model is None:
            self._model = self.problem.model()
        return self._model

    def least(self, step: Step, at_most: float = inf) -> int | None:
        """The least value of a step's figure; None where nothing fits that is not above a limit."""
        if self._kept is not None:
            return self._least_of(self._kept, self.figures.value(self._kept, step))
        self._covered = -inf
        if step.figure == "unpriced" and self.figures.all_priced:
            return 0  # where nothing fits, the price that comes next has no least value
        found: int | None = None

        def look(runs: Runs) -> int | None:
            nonlocal found
            self._latest = runs
            found = self._least_of(runs, self.figures.value(runs, step))
            return found

        try:
            self._covered = self._look_further(step.sums(self.model), look, step.slack, at_most)
        except GivenUp:
            lowest = ceil(self._lowest - CLOSE * max(1.0, abs(self._lowest)))
            if found is None:
                found = self._at_most(step, lowest)
            if found is None or found > lowest:
                raise
        return found

    def _at_most(self, step: Step, limit: int) -> int | None:
        """A value of a figure that is not above a limit, where one is found.

        For a figure that very many assignments share, as free ones do their price: where any comes
        to the lower bound itself, nothing can be below it.
        """
        found: int | None = None

        def look(runs: Runs) -> float | None:
            nonlocal found
            runs = runs.take(self.figures.value(runs, step) <= limit)
            found = self._least_of(runs, self.figures.value(runs, step))
            return None if found is None else -inf

        within = [(weights, limit) for weights in step.sums(self.model)]
        self._look_further([self.model.quality_loss()], look, 0, inf, within)
        return found

    def hold(self, step: Step, limit: int) -> None:
        """Keep what a step's figure leaves not above a limit."""
        if self._kept is not None:
            self._kept = self._kept.take(self.figures.value(self._kept, step) <= limit)
            return
        if self._latest is not None and self._covered >= limit:
            values = self.figures.value(self._latest, step)
            self._kept = self._latest.take(values <= limit)
            return
        self.model.programme.hold(step.sums(self.model), limit)

    def first_by_text(self) -> Primaries:
        """The first by the targets' text of all that is kept.

        Raises:
            GivenUp: they were too many to be kept.
        """
        runs = self._kept
        if runs is None:
            raise GivenUp
        # Candidates are sorted by text.
        order = np.lexsort(runs.picks.T[::-1])
        row = next(int(row) for row in order if self._holds(runs, int(row)))
        return Primaries(
            table=self.problem.table,
            picks=self.picked(runs, row),
            fallbacks=self._completes.complete(runs, row) or {},
            latency=int(self.figures.latency(runs.stages.take([row]))[0]),
        )

    def picked(self, runs: Runs, row: int) -> Picks:
        """The primaries of a run."""
        return {
            agent: self.problem.primaries[agent][index]
            for agent, index in zip(AGENTS, runs.picks[row], strict=True)
        }

    def any(self) -> tuple[Picks, Picks] | None:
        """Some primaries and the fallbacks that they need; None where nothing fits."""
        if self._kept is not None:
            return self._any_of(self._kept)
        found = self.easy()
        if found is not None:
            return found

        def look(runs: Runs) -> float | None:
            nonlocal found
            found = self._any_of(runs)
            return None if found is None else -inf

        # What is furthest from its limits is looked at first; beyond its limits is nothing.
        limits = [(sums, self.problem.limit(kind)) for kind, sums in self.model.limited.items()]
        shares = [
            {variable: weight * _WHOLE // limit for variable, weight in weights.items()}
            for sums, limit in limits
            if limit is not None
            for weights in sums
        ]
        self._look_further(
            shares or [self.model.quality_loss()], look, 0, _WHOLE if shares else inf
        )
        return found

    def easy(self, hoped: Collection[Demand] = ()) -> tuple[Picks, Picks] | None:
        """As `any`, but None also where nothing is found quickly among very many.

        Args:
            hoped: demands of which as many as is easy should be held too.
        """
        if self._kept is not None:
            return self._any_of(self._kept, most=_TRIED)
        for wished in (hoped, ()) if hoped else ((),):
            picks = list_within(self.figures.hardships(wished), inf, self._limits, widest=_EASY)
            found = self._any_of(self._runs(picks), most=_TRIED)
            if found is not None:
                return found
        return None

    def _any_of(self, runs: Runs, most: int | None = None) -> tuple[Picks, Picks] | None:
        """The first that can have its fallbacks, of all or of those furthest from their limits."""
        for row in np.argsort(self.figures.strain(runs), kind="stable")[:most]:
            fallbacks = self._completes.complete(runs, int(row))
            if fallbacks is not None:
                return self.picked(runs, int(row)), fallbacks
        return None

    def least_limit(self) -> int | None:
        """The lowest limit in place of that of the free demand; None where the others cannot be held."""
        assert self.problem.free is not None
        kind = self.problem.free.kind
        if self._kept is not None:
            return self._least_limited(self._kept, kind)
        if kind not in self.model.limited:
            return None if self.any() is None else 0
        found: int | None = None

        def look(runs: Runs) -> int | None:
            nonlocal found
            found = self._least_limited(runs, kind, found)
            return found

        self._look_further(self.model.limited[kind], look, 0, inf)
        return found

    def least_limit_for_quality(self) -> int | None:
        """As `least_limit`, with a bound on the quality lost that the free demand's own limit rules out."""
        free, most_loss = self.problem.free, self.problem.most_loss
        assert free is not None
        assert most_loss is not None
        if self._kept is None and (
            free.kind not in self.model.limited or self.least(QUALITY_FIRST, most_loss) is None
        ):
            return None
        try:
            return self.least_limit()
        except GivenUp:
            return self._first_that_reaches(most_loss, free.kind)

    def _first_that_reaches(self, most_loss: int, kind: DemandKind) -> int | None:
        """The least limit, raised in steps: then few assignments lose as little when it is reached."""
        sums = self.model.limited[kind]
        for share in _RAISED:
            limit = share * self.problem.table.limit(kind)
            within = [(weights, int(limit)) for weights in sums] if limit < inf else []
            bound = self._bound([self.model.quality_loss()], within)
            if bound is None:
                continue
            constant, costs = bound
            room = most_loss - constant + 1 + CLOSE * abs(constant)
            found = self._least_limited(self._runs(list_within(costs, room, self._limits)), kind)
            if found is not None and found <= limit:
                return found
        return None

    def _least_limited(self, runs: Runs, kind: DemandKind, least: int | None = None) -> int | None:
        """The least limit of a kind that one of the runs holds, or what is known to be less."""
        values = self.figures.limited(runs, kind)
        for row in np.argsort(values, kind="stable"):
            if least is not None and values[row] >= least:
                break
            value = self._completes.least(runs, int(row), kind)
            if value is not None and (least is None or value < least):
                least = value
        return least

    def _all(self) -> Whole:
        sizes = [len(self.problem.primaries[agent]) for agent in AGENTS]
        return np.indices(sizes).reshape(len(sizes), -1).T

    def _runs(self, picks: Whole) -> Runs:
        """The ways to run assignments, without those to which no fallbacks can be found."""
        runs = self.figures.runs(picks)
        return runs.take(self._least_fallbacks.may_hold(runs)) if self.problem.fallbacks else runs

    def _least_of(self, runs: Runs, values: Whole) -> int | None:
        """The least of the values whose run can have the fallbacks that it needs."""
        for row in np.argsort(values, kind="stable"):
            if self._holds(runs, int(row)):
                return int(values[row])
        return None

    def _holds(self, runs: Runs, row: int) -> bool:
        if not self.problem.fallbacks:
            return True
        key = runs.picks[row].tobytes() + runs.stages.away[row].tobytes()
        if key not in self._known:
            self._known[key] = self._completes.complete(runs, row) is not None
        return self._known[key]

    def _look_further(
        self,
        sums: Sequence[Weights],
        look: Callable[[Runs], float | None],
        slack: int,
        at_most: float,
        within: Sequence[tuple[Weights, int]] = (),
    ) -> float:
        """Look at longer and longer lists of runs, until nothing better can be missing.

        Args:
            sums: a figure, the greatest of these sums.
            look: takes a list, gives the least value of the figure in it, None where there is none.
            slack: how far above the least value what comes near it is wanted too, where that is
                not too much.
            at_most: values above are not wanted.
            within: more sums with their limits.

        Returns:
            The value up to which the last list misses nothing.

        Raises:
            GivenUp: there is too much to look at.
        """
        bound = self._bound(sums, within)
        if bound is None:
            return -inf
        self._lowest, costs = bound
        reach = Reach(self._lowest, costs, at_most)
        while reach.has_any:
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise GivenUp
            if self._look_within(costs, reach, look) or reach.is_settled(slack):
                break
            reach.widen(slack)
        return reach.covered

    def _look_within(
        self, costs: Costs, reach: Reach, look: Callable[[Runs], float | None]
    ) -> bool:
        """Look at one list, and say whether it was the last.

        Where it is too long, its cheapest beginnings are looked at instead, for a value that says
        how far the lists have to reach; once there is one, that is no help any more.
        """
        try:
            picks = list_within(costs, reach.room, self._limits)
        except GivenUp:
            if reach.found is not None:
                if reach.is_settled():
                    return True
                raise
            some = list_within(costs, reach.room, self._limits, widest=_BEAM)
            reach.found = look(self._runs(some))
            if reach.found is None:
                raise
            return False
        reach.found = look(self._runs(picks))
        reach.cover()
        return reach.is_full

    def _bound(
        self, sums: Sequence[Weights], within: Sequence[tuple[Weights, int]] = ()
    ) -> tuple[float, Costs] | None:
        """A figure's lower bound: a constant and what each agent's primaries add; None for infeasible."""
        relaxation = self.model.programme.relax(sums, within)
        if relaxation is None:
            return None
        groups = [list(self.model.primaries[agent]) for agent in AGENTS]
        others = np.ones(len(relaxation.reduced), dtype=bool)
        others[np.concatenate(groups)] = False
        constant = relaxation.constant + float(np.minimum(relaxation.reduced[others], 0).sum())
        costs = [relaxation.reduced[group] for group in groups]
        least = [float(cost.min()) for cost in costs]
        if not np.isfinite(least).all():
            return None
        return constant + sum(least), [c - low for c, low in zip(costs, least, strict=True)]
