"""Running a plan: every trial once, each model loaded once, each result kept as it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.images import has_image
from soma_bench.cases.suite import Suite
from soma_bench.errors import ConfigError
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.routing.privacy import Guard, stays
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.engine import Engine
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.limits import Budget
from soma_bench.sweeps.plan import (
    ModelKey,
    Plan,
    PlannedTrial,
    load_suites,
    make_plan,
    models_of,
)
from soma_bench.sweeps.recorder import Recorder
from soma_bench.sweeps.spec import Sweep
from soma_bench.sweeps.store import PlannedRow, RunRecord, Store, TrialRecord, now
from soma_bench.types import ModelIdentity

StoppedBy = Literal["max_cost_usd", "control"]


class MakeEngine(Protocol):
    """Makes engines that share one run's work, budget and store."""

    def __call__(
        self, providers: ProviderPool, models: Container[ModelKey] | None = None
    ) -> Engine:
        """An engine for the trials of these models, None for all, with these providers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come; sent after the plan is made and after each trial."""

    run_id: str
    done: int
    """Trials that need not run any more, those of earlier executions included."""
    failed: int
    """Trials of this execution that ended with a backend's failure."""
    total: int
    trial: PlannedTrial | None = None
    """The trial that has just ended."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one execution of a sweep did."""

    run_id: str
    total: int
    resumed: int
    """Trials that were in the store already and were not run."""
    called: int
    """Trials that were put to a model, failures included."""
    failed: int
    """Trials that ended with a backend's failure; they run again next time."""
    left: int
    """Trials that were not run, because the run was stopped; the next execution runs them."""
    stopped_by: StoppedBy | None
    """Why some were left: the cap on costs, or whoever holds the control. None where all ran."""


async def plan_sweep(
    sweep: Sweep, folder: Path, providers: ProviderPool, store: Store | None, *, fresh: bool = False
) -> Plan:
    """Expand a sweep into its plan, as it stands in the store.

    Args:
        sweep: the sweep.
        folder: folder that the sweep's paths start from.
        providers: asked what each model is.
        store: where the sweep may have run before; None when there is no store yet.
        fresh: start anew, leaving what was measured before as another run.

    Raises:
        ConfigError: a suite is wrong, a provider cannot be called, a model has no such thinking
            level, or a target is not for cases as private as the sweep's.
        ProviderError: a model is missing.
    """
    suites = load_suites(sweep, folder)
    _refuse_what_leaves(sweep, providers)
    identities: dict[ModelKey, ModelIdentity] = {}
    for provider, model in models_of(sweep):
        identities[provider, model] = await providers.get(provider).identity(model)
    await _refuse_unknown_levels(sweep, providers)
    seeing = await _seeing_models(sweep, suites, providers)
    plan = make_plan(sweep, suites, identities, seeing=seeing)
    ran = store.latest_epoch(plan.digest) if store else None
    epoch = 0 if ran is None else ran + 1 if fresh else ran
    return make_plan(sweep, suites, identities, epoch=epoch, seeing=seeing) if epoch else plan


async def _seeing_models(
    sweep: Sweep, suites: tuple[Suite, ...], providers: ProviderPool
) -> frozenset[ModelKey]:
    """The models that see; nobody is asked where no case has an image."""
    if not any(has_image(case) for suite in suites for case in suite.cases):
        return frozenset()
    seeing = set()
    for name, model in models_of(sweep):
        provider = providers.get(name)
        if (await provider.capabilities(model)).vision:
            seeing.add((name, model))
        await provider.unload()
    return frozenset(seeing)


def _refuse_what_leaves(sweep: Sweep, providers: ProviderPool) -> None:
    """Say before anything is asked or written that a target is not for cases as private as these."""
    if sweep.privacy != "local_only":
        return
    for target in (target for group in sweep.targets for target in group.targets()):
        if not stays(target, providers.get(target.provider)):
            raise ConfigError(
                f"sweep {sweep.name}: {target} leaves this machine, and the sweep is local_only;"
                " leave it out, or write privacy: deidentified, or privacy: open where no case"
                " holds a patient's data"
            )


async def _refuse_unknown_levels(sweep: Sweep, providers: ProviderPool) -> None:
    """Say before anything is written what would otherwise end the run at its first trial."""
    for target in (target for group in sweep.targets for target in group.targets()):
        if not isinstance(target.thinking, str) or target.thinking == "off":
            continue
        provider = providers.get(target.provider)
        able = await provider.capabilities(target.model)
        await provider.unload()
        if target.thinking not in able.thinking_levels:
            takes = [*able.thinking_levels, *["a number of tokens"] * able.thinking_budget]
            raise ConfigError(
                f"sweep {sweep.name}: {target}: the model has no such thinking level;"
                f" it takes {' or '.join(takes) or 'no thinking setting'}"
            )


async def run_plan(
    plan: Plan,
    store: Store,
    providers: ProviderPool,
    *,
    only: Container[str] | None = None,
    control: Control | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    drive: Callable[[MakeEngine], Awaitable[None]] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run every trial of a plan that is not in the store yet.

    A backend's failure is tried once more when that may help, after the wait that the backend asks
    for, and one for want of room some times more; then it is kept as an error row and the run goes
    on. Wrong use ends the run. How many calls are made at a time, how many a minute and for how
    much, the sweep's ``limits`` and ``max_cost_usd`` say.

    Args:
        plan: the plan.
        store: where the run is recorded, with all its trials, and each of them as it ends.
        providers: where providers come from; the caller closes it.
        only: keys of the trials that are wanted now; all of the plan's by default.
        control: pauses and stops the run between trials.
        on_progress: told when the work is laid out and after each trial.
        drive: runs engines; one with ``providers`` by default.
        environment: the machines and libraries that answer; this machine's by default.

    Raises:
        ConfigError: a target cannot honour what the sweep asks of it, or the user's prices are wrong.
        PrivacyError: a request must not leave this machine; nothing of it did.
        ProviderError: a model is missing or its key is wrong, so that going on is pointless.
    """
    control = control or Control()
    prices = load_prices()
    guard = Guard(plan.sweep)
    store.begin_run(_run_record(plan, environment or describe_environment()), _planned_rows(plan))
    wanted, total = _still_wanted(plan, store, only)
    advance = _Advance(plan.run_id, total, total - wanted.count(1), on_progress)
    advance.tell()
    most = plan.sweep.max_cost_usd
    budget = Budget(most, store.fees_usd(plan.run_id) if most is not None else 0.0)
    with Recorder(store) as recorder:

        def engine(providers: ProviderPool, models: Container[ModelKey] | None = None) -> Engine:
            return Engine(
                plan,
                wanted,
                providers=providers,
                recorder=recorder,
                prices=prices,
                guard=guard,
                budget=budget,
                control=control,
                on_kept=advance.keep,
                models=models,
            )

        await (drive(engine) if drive else engine(providers).run())
    return advance.outcome(_stopped_by(budget, control))


def _stopped_by(budget: Budget, control: Control) -> StoppedBy | None:
    if budget.is_exhausted:
        return "max_cost_usd"
    return "control" if control.stopped else None


class _Advance:
    """How far an execution of a run has come, from what was resumed to what is left."""

    def __init__(
        self, run_id: str, total: int, resumed: int, on_progress: Callable[[Progress], None]
    ) -> None:
        self._run_id, self._total, self._resumed = run_id, total, resumed
        self._done, self._failed = resumed, 0
        self._on_progress = on_progress

    def keep(self, trial: PlannedTrial, row: TrialRecord) -> None:
        """Count a trial that has ended and is recorded."""
        self._done += row.status == "done"
        self._failed += row.status == "error"
        self.tell(trial, row.error)

    def tell(self, trial: PlannedTrial | None = None, error: str | None = None) -> None:
        """Tell ``on_progress``, with the trial that has just ended if there is one."""
        self._on_progress(
            Progress(
                run_id=self._run_id,
                done=self._done,
                failed=self._failed,
                total=self._total,
                trial=trial,
                error=error,
            )
        )

    def outcome(self, stopped_by: StoppedBy | None) -> Outcome:
        """What the execution did in all."""
        return Outcome(
            run_id=self._run_id,
            total=self._total,
            resumed=self._resumed,
            called=self._done - self._resumed + self._failed,
            failed=self._failed,
            left=self._total - self._done - self._failed,
            stopped_by=stopped_by,
        )


def _still_wanted(plan: Plan, store: Store, only: Container[str] | None) -> tuple[bytearray, int]:
    """A byte for each of a plan's trials, 1 where it is to be run; and how many are wanted in all."""
    if only is None:
        wanted = bytearray(b"\1") * len(plan.trials)
    else:
        wanted = bytearray(plan.trials.key(at) in only for at in range(len(plan.trials)))
    total = wanted.count(1)
    for position in store.finished_positions(plan.run_id):
        wanted[position] = 0
    return wanted, total


def _run_record(plan: Plan, environment: Mapping[str, Any]) -> RunRecord:
    return RunRecord(
        id=plan.run_id,
        name=plan.sweep.name,
        plan_digest=plan.base_digest,
        epoch=plan.epoch,
        sweep=plan.sweep.model_dump(mode="json"),
        started_at=now(),
        environment={
            **environment,
            "suites": {suite.agent: suite.digest for suite in plan.suites},
            "prompts": {suite.agent: AGENT_BY_NAME[suite.agent].digest for suite in plan.suites},
            "models": {
                f"{provider}:{model}": dataclasses.asdict(identity)
                for (provider, model), identity in plan.identities.items()
            },
        },
    )


def _planned_rows(plan: Plan) -> Iterator[PlannedRow]:
    digests = {suite.agent: [case.digest for case in suite.cases] for suite in plan.suites}
    brought: set[str] = set()
    for block in plan.trials.blocks:
        position = block.start
        for case, digest in zip(block.suite.cases, digests[block.suite.agent], strict=True):
            content = None if digest in brought else case.model_dump(mode="json")
            for repeat in range(plan.sweep.repeats):
                yield PlannedRow(
                    key=plan.trials.key(position),
                    agent=block.suite.agent,
                    suite=block.suite.name,
                    case_digest=digest,
                    case=None if repeat else content,
                )
                position += 1
            brought.add(digest)
