"""Running a race: each look's block of trials, for those targets only that are still in it.

All agents race side by side, so that a look loads each model once. Cases with ``split: held_out``
take no part; when an agent's race is over they are put to the chosen target, whose score on the
race's own cases is flattered by having been chosen for it.

A failed answer is a score of 0. A backend's failure is no answer: it was tried again, and while a
trial is missing its agent's race is paused rather than decided without it. The next execution takes
all looks again from the stored trials, which gives the same looks, and goes on from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np

from soma_bench.cases.base import Case
from soma_bench.errors import ConfigError
from soma_bench.files import digest
from soma_bench.providers.pool import ProviderPool
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.plan import Plan, PlannedTrial
from soma_bench.sweeps.racing import Look, RaceRules, look_sizes, take_look
from soma_bench.sweeps.runner import Progress, run_plan
from soma_bench.sweeps.scores import ScoredTrial, scored_trials
from soma_bench.sweeps.spec import RaceOptions
from soma_bench.sweeps.store import LookRecord, Store
from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRace:
    """How far one agent's race has come."""

    agent: AgentName
    targets: int
    """Targets that started."""
    looks: tuple[LookRecord, ...]
    confidence_set: tuple[str, ...]
    """Targets one of which is the best, but for the race's alpha."""
    chosen: str | None
    """Of the targets that tie with the leader the cheapest, then the fastest; None while the race
    is paused."""
    missing: int
    """Trials without an answer, for which the race waits; 0 when it is over."""
    held_out: int
    """Held-out cases that the chosen target was measured on; 0 where the suite has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceOutcome:
    """What a race came to."""

    run_id: str
    races: tuple[AgentRace, ...]
    called: int
    """Trials that this execution put to a model, failures included."""
    failed: int
    """Trials of this execution that ended with a backend's failure."""
    measured: int
    """Trials that the race stands on, those of earlier executions and held-out ones included."""
    total: int
    """Trials that the same sweep takes without a race, to the same number of cases."""


@dataclass
class _Course:
    """One agent's race while it runs."""

    agent: AgentName
    targets: tuple[str, ...]
    trials: Mapping[tuple[str, str], tuple[PlannedTrial, ...]]
    """All repeats by target and case id."""
    units: tuple[tuple[Case, ...], ...]
    """The cases of each cluster, in the order in which they are measured."""
    held_out: tuple[Case, ...]
    rules: RaceRules
    looks: list[Look] = field(default_factory=list)
    chosen: str | None = None
    missing: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        return look_sizes(len(self.units))

    @property
    def survivors(self) -> tuple[int, ...]:
        return self.looks[-1].survivors if self.looks else tuple(range(len(self.targets)))

    @property
    def is_running(self) -> bool:
        return not self.missing and self.chosen is None

    def block(self) -> list[PlannedTrial]:
        """What the next look takes: every survivor on every unit up to it."""
        count = self.sizes[len(self.looks)]
        cases = [case for unit in self.units[:count] for case in unit]
        return self._of(self.survivors, cases)

    def last(self) -> list[PlannedTrial]:
        """The chosen target's held-out trials."""
        if self.chosen is None:
            return []
        return self._of([self.targets.index(self.chosen)], self.held_out)

    def _of(self, rows: Iterable[int], cases: Sequence[Case]) -> list[PlannedTrial]:
        return [
            trial
            for row in rows
            for case in cases
            for trial in self.trials[self.targets[row], case.id]
        ]


async def run_race(
    plan: Plan,
    store: Store,
    providers: ProviderPool,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RaceOutcome:
    """Race the targets of every agent of a plan, as the sweep's ``race`` section says.

    Raises:
        ConfigError: an agent has too few independent cases to race on, or a target cannot honour
            what the sweep asks of it.
        ProviderError: a model is missing or its key is wrong, so that going on is pointless.
    """
    courses = [_course(plan, suite.agent) for suite in plan.suites]
    courses = [course for course in courses if course.targets]
    called = failed = 0
    stands_on: set[str] = set()

    async def measure(trials: Iterable[PlannedTrial]) -> dict[str, ScoredTrial]:
        nonlocal called, failed
        keys = {trial.key for trial in trials}
        outcome = await run_plan(plan, store, providers, only=keys, on_progress=on_progress)
        called, failed = called + outcome.called, failed + outcome.failed
        found = {s.trial["key"]: s for s in scored_trials(store, plan.run_id)}
        stands_on.update(keys & found.keys())
        return found

    while running := [course for course in courses if course.is_running]:
        answers = await measure(trial for course in running for trial in course.block())
        for course in running:
            _look(course, answers)
            store.save_looks(plan.run_id, course.agent, _records(course, plan.sweep.race))
    over = [course for course in courses if course.chosen is not None]
    if any(course.last() for course in over):
        answers = await measure(trial for course in over for trial in course.last())
        for course in over:
            course.missing = sum(trial.key not in answers for trial in course.last())
    return RaceOutcome(
        run_id=plan.run_id,
        races=tuple(_agent_race(course, plan.sweep.race) for course in courses),
        called=called,
        failed=failed,
        measured=len(stands_on),
        total=plan.sweep.repeats * sum(len(c.targets) * sum(map(len, c.units)) for c in courses),
    )


def _course(plan: Plan, agent: AgentName) -> _Course:
    options = plan.sweep.race
    suite = next(suite for suite in plan.suites if suite.agent == agent)
    trials: dict[tuple[str, str], list[PlannedTrial]] = {}
    for trial in plan.trials:
        if trial.agent == agent:
            trials.setdefault((str(trial.target), trial.case.id), []).append(trial)
    clusters: dict[str, list[Case]] = {}
    for case in suite.cases:
        if case.split != "held_out":
            clusters.setdefault(case.cluster or case.id, []).append(case)
    # A suite's file may be sorted by kind; the first block is to be like all others.
    names = sorted(clusters, key=lambda name: digest([options.seed, name]))[: options.cases]
    if len(names) < 2:
        raise ConfigError(
            f"{suite.path}: a race needs at least 2 independent cases that are not held out,"
            f" and there are {len(names)}; run the sweep without --race"
        )
    return _Course(
        agent=agent,
        targets=tuple(dict.fromkeys(target for target, _ in trials)),
        trials={key: tuple(repeats) for key, repeats in trials.items()},
        units=tuple(tuple(clusters[name]) for name in names),
        held_out=tuple(case for case in suite.cases if case.split == "held_out"),
        rules=RaceRules(
            alpha=options.alpha,
            strict=options.strict,
            regret=options.regret,
            seed=options.seed,
        ),
    )


def _look(course: _Course, answers: Mapping[str, ScoredTrial]) -> None:
    """Take the course's next look, if nothing of its block is missing."""
    course.missing = sum(trial.key not in answers for trial in course.block())
    if course.missing:
        return
    count = course.sizes[len(course.looks)]
    scores = np.array(
        [
            [
                fmean(
                    answers[trial.key].score.primary_value
                    for case in unit
                    for trial in course.trials[course.targets[row], case.id]
                )
                for unit in course.units[:count]
            ]
            for row in course.survivors
        ]
    )
    look = take_look(scores, course.survivors, course.sizes, course.rules)
    course.looks.append(look)
    if look.stop:
        course.chosen = _choose(course, look, answers)


def _choose(course: _Course, look: Look, answers: Mapping[str, ScoredTrial]) -> str:
    """Of the targets that tie with the leader the cheapest, then the fastest, then the best.

    A target whose price nobody knows is taken for the dearest.
    """
    means = {standing.candidate: standing.mean for standing in look.standings}

    def rank(row: int) -> tuple[float, float, float, int]:
        rows = [
            answers[trial.key].trial
            for unit in course.units[: look.n]
            for case in unit
            for trial in course.trials[course.targets[row], case.id]
        ]
        costs = [trial["cost_usd"] for trial in rows]
        cost = float("inf") if None in costs else fmean(costs)
        return cost, median(trial["total_s"] for trial in rows), -means[row], row

    return course.targets[min(look.ties(course.rules.regret), key=rank)]


def _records(course: _Course, options: RaceOptions) -> list[LookRecord]:
    version = SCORER_BY_AGENT[course.agent].version
    names = course.targets
    return [
        LookRecord(
            agent=course.agent,
            look=number,
            n=look.n,
            alpha=look.alpha,
            standings=[
                {
                    "target": names[standing.candidate],
                    "mean": standing.mean,
                    "rival": names[standing.rival],
                    "t": standing.t,
                    "p": standing.p,
                    "dropped_by": standing.dropped_by,
                }
                for standing in look.standings
            ],
            regret=look.regret,
            stop=look.stop,
            chosen=course.chosen if look.stop else None,
            rules={**options.model_dump(), **dataclasses.asdict(course.rules)},
            scorer_version=version,
        )
        for number, look in enumerate(course.looks, start=1)
    ]


def _agent_race(course: _Course, options: RaceOptions) -> AgentRace:
    return AgentRace(
        agent=course.agent,
        targets=len(course.targets),
        looks=tuple(_records(course, options)),
        confidence_set=tuple(course.targets[row] for row in course.survivors),
        chosen=course.chosen,
        missing=course.missing,
        held_out=len(course.held_out) if course.chosen is not None else 0,
    )
