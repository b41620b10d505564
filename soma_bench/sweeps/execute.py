"""A sweep from beginning to end: plan it, say what it takes, run it, score it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.estimate import ModelEstimate, estimate
from soma_bench.sweeps.explain import Miss, explain_misses
from soma_bench.sweeps.fleet.address import ClusterUse
from soma_bench.sweeps.plan import Plan, models_of
from soma_bench.sweeps.race_run import RaceOutcome, run_race
from soma_bench.sweeps.runner import Outcome, Progress, plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import PlacedSweep, load_sweep
from soma_bench.sweeps.store import Store, open_if_made

Ended = TypeVar("Ended")


async def estimate_sweep(
    source: Path | PlacedSweep, store_location: str, *, fresh: bool = False
) -> tuple[Plan, list[ModelEstimate]]:
    """The plan of a sweep and what each model's part of it will take; nothing is run or written.

    Args:
        source: the sweep file, whose own paths start from its folder, or a placed sweep.
        store_location: path or URL of the store, which need not exist yet.
        fresh: plan a new start, as if nothing were measured.

    Raises:
        ConfigError: the sweep, a suite or the store is wrong, or a provider cannot be called.
        ProviderError: a model is missing.
    """
    placed = _placed(source)
    store = open_if_made(store_location)
    try:
        async with ProviderPool() as providers:
            plan = await plan_sweep(placed.sweep, placed.folder, providers, store, fresh=fresh)
        finished = store.finished_keys(plan.run_id) if store else set()
        estimates = estimate(
            plan,
            finished=finished,
            mean_seconds=store.mean_seconds() if store else {},
            mean_usage=store.mean_usage() if store else {},
            prices=load_prices(),
        )
        return plan, estimates
    finally:
        if store:
            store.close()


async def explain_sweep(
    path: Path, store_location: str, *, fresh: bool = False
) -> tuple[Plan, list[Miss]]:
    """Why each trial of a sweep file that is not in the store would be run; nothing is.

    Raises:
        ConfigError: the sweep, a suite or the store is wrong, or a provider cannot be called.
        ProviderError: a model is missing.
    """
    declared = load_sweep(path)
    store = open_if_made(store_location)
    try:
        async with ProviderPool() as providers:
            plan = await plan_sweep(declared, path.parent, providers, store, fresh=fresh)
        return plan, explain_misses(plan, store)
    finally:
        if store:
            store.close()


async def execute_sweep(
    source: Path | PlacedSweep,
    store_location: str,
    *,
    fresh: bool = False,
    cluster: ClusterUse | None = None,
    control: Control | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Run what a sweep declares and the store does not hold yet, and score it.

    Args:
        source: the sweep file, whose own paths start from its folder, or a placed sweep.
        store_location: path or URL of the store; an SQLite file is made where there is none.
        fresh: start anew as another run, leaving what was measured before.
        cluster: the machines that answer; this one by default.
        control: pauses and stops the run between trials.
        on_progress: told when the plan is made and after each trial.

    Raises:
        ConfigError: the sweep, a suite or the store is wrong, or a target cannot honour what is
            asked of it.
        ProviderError: a model is missing or its key is wrong.
    """
    if cluster is not None:
        return await _execute_on_cluster(
            _placed(source),
            store_location,
            cluster,
            fresh=fresh,
            control=control,
            on_progress=on_progress,
        )

    async def run(plan: Plan, store: Store, providers: ProviderPool) -> Outcome:
        outcome = await run_plan(plan, store, providers, control=control, on_progress=on_progress)
        score_run(store, plan.run_id)
        return outcome

    return await _execute(_placed(source), store_location, run, fresh=fresh)


async def execute_race(
    path: Path,
    store_location: str,
    *,
    strict: bool = False,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RaceOutcome:
    """Race the targets that a sweep file declares, agent by agent.

    Args:
        path: the sweep file; its own paths start from its folder.
        store_location: path or URL of the store; an SQLite file is made where there is none.
        strict: drop targets by Bonferroni alone, also where the file does not ask for it.
        fresh: start anew as another run, leaving what was measured before.
        on_progress: told when each block of trials is laid out and after each trial.

    Raises:
        ConfigError: the sweep, a suite or the store is wrong, or a target cannot honour what is
            asked of it.
        ProviderError: a model is missing or its key is wrong.
    """
    declared = load_sweep(path)
    if strict:
        race = declared.race.model_copy(update={"strict": True})
        declared = declared.model_copy(update={"race": race})

    async def run(plan: Plan, store: Store, providers: ProviderPool) -> RaceOutcome:
        return await run_race(plan, store, providers, on_progress=on_progress)

    return await _execute(PlacedSweep(declared, path.parent), store_location, run, fresh=fresh)


async def _execute_on_cluster(
    placed: PlacedSweep,
    store_location: str,
    use: ClusterUse,
    *,
    fresh: bool,
    control: Control | None,
    on_progress: Callable[[Progress], None],
) -> Outcome:
    from soma_bench.sweeps.fleet.crew import Crew
    from soma_bench.sweeps.fleet.link import connect

    sweep = placed.sweep
    async with connect(use, models_of(sweep), sweep.privacy) as fleet:
        crew = Crew(fleet)

        async def run(plan: Plan, store: Store, providers: ProviderPool) -> Outcome:
            outcome = await run_plan(
                plan,
                store,
                providers,
                control=control,
                on_progress=on_progress,
                drive=crew.drive,
                environment=fleet.environment(),
            )
            score_run(store, plan.run_id)
            return outcome

        return await _execute(
            placed, store_location, run, fresh=fresh, providers=ProviderPool(crew.planner)
        )


async def _execute(
    placed: PlacedSweep,
    store_location: str,
    run: Callable[[Plan, Store, ProviderPool], Awaitable[Ended]],
    *,
    fresh: bool,
    providers: ProviderPool | None = None,
) -> Ended:
    async with providers or ProviderPool() as providers:
        # The plan is made before the store is: bad input leaves nothing behind.
        existing = open_if_made(store_location)
        try:
            plan = await plan_sweep(placed.sweep, placed.folder, providers, existing, fresh=fresh)
        finally:
            if existing:
                existing.close()
        with Store(store_location, create=True) as store:
            return await run(plan, store, providers)


def _placed(source: Path | PlacedSweep) -> PlacedSweep:
    if isinstance(source, PlacedSweep):
        return source
    return PlacedSweep(load_sweep(source), source.parent)
