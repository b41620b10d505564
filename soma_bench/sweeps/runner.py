"""Running a plan: every trial once, each model loaded once, each result kept as it ends."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.images import has_image
from soma_bench.cases.suite import Suite
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import Prices, load_prices
from soma_bench.providers.transports import CloudTransport, LocalTransport
from soma_bench.routing.privacy import Guard, stays
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.machine import MachineLoad, Watch
from soma_bench.sweeps.plan import (
    ModelKey,
    Plan,
    PlannedTrial,
    describe_request,
    load_suites,
    make_plan,
    models_of,
)
from soma_bench.sweeps.spec import Sweep
from soma_bench.sweeps.store import PlannedRow, RunRecord, Store, TrialRecord, TrialStatus, now
from soma_bench.types import Completion, Message, ModelIdentity, Request, Target, Timings


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
) -> Outcome:
    """Run every trial of a plan that is not in the store yet.

    A backend's failure is tried once more when that may help, after the wait that the backend asks
    for; then it is kept as an error row and the run goes on. Wrong use ends the run.

    Args:
        plan: the plan.
        store: where the run is recorded, with all its trials, and each of them as it ends.
        providers: where providers come from; the caller closes it.
        only: keys of the trials that are wanted now; all of the plan's by default.
        control: pauses and stops the run between trials.
        on_progress: told when the work is laid out and after each trial.

    Raises:
        ConfigError: a target cannot honour what the sweep asks of it, or the user's prices are wrong.
        PrivacyError: a request must not leave this machine; nothing of it did.
        ProviderError: a model is missing or its key is wrong, so that going on is pointless.
    """
    control = control or Control()
    prices = load_prices()
    guard = Guard(plan.sweep)
    base = (
        make_plan(plan.sweep, plan.suites, plan.identities, seeing=plan.seeing)
        if plan.epoch
        else plan
    )
    store.begin_run(_run_record(plan, base.digest), _planned_rows(plan))
    wanted = [trial for trial in plan.trials if only is None or trial.key in only]
    finished = store.finished_keys(plan.run_id) & {trial.key for trial in wanted}
    done, failed, called = len(finished), 0, 0
    total = len(wanted)
    on_progress(Progress(run_id=plan.run_id, done=done, failed=0, total=total))
    missing = [trial for trial in wanted if trial.key not in finished]
    for (name, model), group in groupby(missing, key=lambda t: (t.target.provider, t.target.model)):
        trials = list(group)
        if not await control.proceed():
            break
        provider = providers.get(name)
        await provider.unload(keep=frozenset({model}))
        if plan.sweep.warm_up and stays(trials[0].target, provider):
            await _warm_up(plan.request(trials[0]), provider)
        for trial in trials:
            if not await control.proceed():
                break
            record = await _run_trial(plan, trial, provider, prices, guard)
            store.record(record)
            called += 1
            done += record.status == "done"
            failed += record.status == "error"
            on_progress(
                Progress(
                    run_id=plan.run_id,
                    done=done,
                    failed=failed,
                    total=total,
                    trial=trial,
                    error=record.error,
                )
            )
        await provider.unload()
    return Outcome(
        run_id=plan.run_id, total=total, resumed=len(finished), called=called, failed=failed
    )


_POINTLESS = frozenset({"model_missing", "bad_key"})
_LONGEST_WAIT_S = 60.0
"""A backend that asks for more patience than this gets its next try with the next execution."""
_GREETING_TOKENS = 8


async def _warm_up(first: Request, provider: Provider) -> None:
    """Have a model loaded, with the context and thinking of its first trial; nothing is kept."""
    greeting = dataclasses.replace(
        first,
        messages=(Message("user", "Hello"),),
        max_tokens=_GREETING_TOKENS,
        schema=None,
    )
    try:
        await LocalTransport(provider).complete(greeting)
    except ProviderError as error:
        if error.kind in _POINTLESS:
            raise
        # Whatever else is wrong, the first trial meets it too, and keeps it.


async def _run_trial(
    plan: Plan, trial: PlannedTrial, provider: Provider, prices: Prices, guard: Guard
) -> TrialRecord:
    """Put one case to one target, with one more try where the failure may pass."""
    request = plan.request(trial)
    for again in (True, False):
        watch = Watch(trial.target.provider)
        try:
            completion = await _answer(plan, trial.target, request, provider, guard)
        except ProviderError as error:
            if error.kind in _POINTLESS:
                raise
            wait_s = error.wait_s or 0.0
            if error.retryable and again and wait_s <= _LONGEST_WAIT_S:
                await asyncio.sleep(wait_s)
                continue
            return _record(plan, trial, status="error", error=f"{error.kind}: {error}")
        load = watch.stop()
        memory = await provider.memory_bytes(trial.target.model)
        return _record(
            plan,
            trial,
            status="done",
            answer=_answer_fields(completion, load)
            | _cost_fields(trial, completion, prices)
            | {"memory_bytes": memory},
        )
    raise AssertionError("unreachable: the second try returns or raises")


async def _answer(
    plan: Plan, target: Target, request: Request, provider: Provider, guard: Guard
) -> Completion:
    """The whole answer, streamed, because only a stream times the first token."""
    if stays(target, provider):
        stream = LocalTransport(provider).stream(request)
    else:
        cleared = guard.clear(request, target, plan.sweep.privacy)
        stream = CloudTransport(provider).stream(cleared)
    completion: Completion | None = None
    async for chunk in stream:
        completion = chunk.completion or completion
    if completion is None:
        raise ProviderError(
            provider.name, "the stream ended without its completion", kind="ended_early"
        )
    return completion


def _answer_fields(completion: Completion, load: MachineLoad) -> dict[str, Any]:
    return {
        "answer": completion.text,
        "thoughts": completion.thinking,
        "finish": completion.finish,
        "structured_by": completion.structured_by,
        **dataclasses.asdict(completion.usage),
        **dataclasses.asdict(completion.timings),
        "start": _start(completion.timings),
        **dataclasses.asdict(load),
    }


def _start(timings: Timings) -> str | None:
    if timings.load_s is None:
        return None
    return "cold" if timings.load_s > 0 else "warm"


def _cost_fields(trial: PlannedTrial, completion: Completion, prices: Prices) -> dict[str, Any]:
    cost = prices.cost(trial.target, completion.usage, completion.timings.total_s)
    as_of = f", as of {cost.as_of}" if cost.as_of else ""
    return {
        "cost_usd": cost.usd,
        "cost_basis": cost.basis,
        "cost_source": f"{cost.source}{as_of}",
    }


def _record(
    plan: Plan,
    trial: PlannedTrial,
    *,
    status: TrialStatus,
    error: str | None = None,
    answer: Mapping[str, Any] | None = None,
) -> TrialRecord:
    """A trial's row; ``answer`` holds the fields that only a finished trial has."""
    target = trial.target
    identity = plan.identities[target.provider, target.model]
    return TrialRecord(
        key=trial.key,
        agent=trial.agent,
        target=str(target),
        provider=target.provider,
        model=target.model,
        quantization=target.quantization,
        thinking=None if target.thinking is None else str(target.thinking),
        case_id=trial.case.id,
        repeat=trial.repeat,
        status=status,
        error=error,
        request=describe_request(plan.request(trial)),
        identity=dataclasses.asdict(identity),
        synthetic=identity.synthetic,
        ended_at=now(),
        **(answer or {}),
    )


def _run_record(plan: Plan, plan_digest: str) -> RunRecord:
    return RunRecord(
        id=plan.run_id,
        name=plan.sweep.name,
        plan_digest=plan_digest,
        epoch=plan.epoch,
        sweep=plan.sweep.model_dump(mode="json"),
        started_at=now(),
        environment={
            **describe_environment(),
            "suites": {suite.agent: suite.digest for suite in plan.suites},
            "prompts": {suite.agent: AGENT_BY_NAME[suite.agent].digest for suite in plan.suites},
            "models": {
                f"{provider}:{model}": dataclasses.asdict(identity)
                for (provider, model), identity in plan.identities.items()
            },
        },
    )


def _planned_rows(plan: Plan) -> list[PlannedRow]:
    return [
        PlannedRow(
            key=trial.key,
            agent=trial.agent,
            suite=trial.suite,
            case_digest=trial.case.digest,
            case=trial.case.model_dump(mode="json"),
        )
        for trial in plan.trials
    ]
