"""``soma-bench sweep`` and ``soma-bench score``."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from soma_bench.cli.output import (
    gibibytes,
    json_option,
    print_json,
    print_table,
    seconds,
    store_option,
)
from soma_bench.providers.pool import ProviderPool
from soma_bench.settings import store_location
from soma_bench.sweeps.estimate import ModelEstimate, estimate
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.runner import Outcome, Progress, plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import Sweep, load_sweep
from soma_bench.sweeps.store import Store


@click.command(epilog="Example: soma-bench sweep sweeps/demo.yaml --dry-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would run and what it would take.")
@click.option("--fresh", is_flag=True, help="Start anew as another run; keep what was measured.")
@store_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context, file: Path, dry_run: bool, fresh: bool, store: str | None, as_json: bool
) -> None:
    """Run the sweep declared in FILE (YAML).

    Every trial is stored as it ends; what is stored is not run again, so a sweep that was stopped
    is resumed by the same command. Exit code 1 when trials failed for a backend's sake.
    """
    declared = load_sweep(file)
    location = store_location(store)
    if dry_run:
        _dry_run(declared, file.parent, location, fresh=fresh, as_json=as_json)
        return
    outcome = asyncio.run(_run(declared, file.parent, location, fresh=fresh))
    if as_json:
        print_json(dataclasses.asdict(outcome))
    else:
        click.echo(
            f"run {outcome.run_id}: {outcome.total} trials, {outcome.resumed} already stored, "
            f"{outcome.called} run now, {outcome.failed} failed"
        )
        if outcome.failed:
            click.echo(f"the {outcome.failed} failed trials run again with the same command")
        else:
            click.echo(f"next: soma-bench compare {outcome.run_id}")
    ctx.exit(1 if outcome.failed else 0)


async def _run(declared: Sweep, folder: Path, location: str, *, fresh: bool) -> Outcome:
    async with ProviderPool() as providers:
        # The plan is made before the store is: bad input leaves nothing behind.
        existing = open_if_there(location)
        try:
            plan = await plan_sweep(declared, folder, providers, existing, fresh=fresh)
        finally:
            if existing:
                existing.close()
        with Store(location, create=True) as store:
            outcome = await _run_with_bar(plan, store, providers)
            score_run(store, plan.run_id)
    return outcome


async def _run_with_bar(plan: Plan, store: Store, providers: ProviderPool) -> Outcome:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(plan.run_id, total=len(plan.trials))

        def show(progress: Progress) -> None:
            trial = progress.trial
            now_at = f"  {trial.agent} on {trial.target}" if trial else ""
            bar.update(
                task, completed=progress.done + progress.failed, description=plan.run_id + now_at
            )
            if progress.error and trial:
                console.print(f"failed: {trial.agent} on {trial.target}: {progress.error}")

        return await run_plan(plan, store, providers, on_progress=show)


def open_if_there(location: str) -> Store | None:
    """The store, unless it is an SQLite file that does not exist yet."""
    return Store(location) if "://" in location or Path(location).exists() else None


def _dry_run(declared: Sweep, folder: Path, location: str, *, fresh: bool, as_json: bool) -> None:
    async def make() -> tuple[Plan, list[ModelEstimate]]:
        store = open_if_there(location)
        try:
            async with ProviderPool() as providers:
                plan = await plan_sweep(declared, folder, providers, store, fresh=fresh)
            finished = store.finished_keys(plan.run_id) if store else set()
            measured = store.mean_seconds() if store else {}
            return plan, estimate(plan, finished=finished, mean_seconds=measured)
        finally:
            if store:
                store.close()

    plan, estimates = asyncio.run(make())
    if as_json:
        models = [dataclasses.asdict(row) for row in estimates]
        print_json({"run_id": plan.run_id, "trials": len(plan.trials), "models": models})
        return
    rows = [
        [
            row.model,
            str(row.trials),
            str(row.missing),
            gibibytes(row.weights_bytes),
            seconds(row.seconds),
            row.basis,
            "?" if row.fee_usd is None else f"${row.fee_usd:.2f}",
        ]
        for row in estimates
    ]
    columns = ["model", ">trials", ">to run", ">weights", ">time", "basis", ">fees"]
    print_table(f"run {plan.run_id}: {len(plan.trials)} trials", columns, rows)
    total = sum(row.seconds or 0.0 for row in estimates)
    unknown = " (some unknown)" if any(row.seconds is None for row in estimates) else ""
    click.echo(f"time in all: {seconds(total)}{unknown}; predicted times are upper bounds")


@click.command(epilog="Example: soma-bench score demo --again")
@click.argument("run")
@click.option("--again", is_flag=True, help="Also score what the current scorers have scored.")
@store_option
@json_option
def score(run: str, again: bool, store: str | None, as_json: bool) -> None:
    """Score the stored answers of RUN (a run's id, a sweep's name, or "latest")."""
    with Store(store_location(store)) as opened:
        run_id = opened.find_run(run).id
        count = score_run(opened, run_id, again=again)
    if as_json:
        print_json({"run_id": run_id, "scored": count})
    else:
        click.echo(f"run {run_id}: {count} answers scored")
