"""``soma-bench sweep`` and ``soma-bench score``."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from soma_bench.cli.cluster import cluster_options
from soma_bench.cli.options import store_option
from soma_bench.cli.output import (
    dollars,
    gibibytes,
    json_option,
    print_json,
    print_table,
    seconds,
    tell_of_retirements,
)
from soma_bench.settings import store_location
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.execute import (
    estimate_sweep,
    execute_race,
    execute_sweep,
    explain_sweep,
)
from soma_bench.sweeps.fleet.address import ClusterUse
from soma_bench.sweeps.race_run import RaceOutcome
from soma_bench.sweeps.runner import Outcome, Progress
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import load_sweep
from soma_bench.sweeps.store import Store

Ended = TypeVar("Ended", Outcome, RaceOutcome)


@click.command(epilog="Example: soma-bench sweep sweeps/demo.yaml --dry-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would run and what it would take.")
@click.option(
    "--explain-miss",
    is_flag=True,
    help="Say why each trial that would run is not taken from the store; run nothing.",
)
@click.option("--fresh", is_flag=True, help="Start anew as another run; keep what was measured.")
@click.option(
    "--race",
    "raced",
    is_flag=True,
    help="Drop hopeless targets look by look; see the file's race section.",
)
@click.option("--strict", is_flag=True, help="With --race: drop by Bonferroni's bound alone.")
@cluster_options
@store_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    file: Path,
    dry_run: bool,
    explain_miss: bool,
    fresh: bool,
    raced: bool,
    strict: bool,
    cluster: ClusterUse | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Run the sweep declared in FILE (YAML).

    Every trial is stored as it ends; what is stored is not run again, so a sweep that was stopped
    is resumed by the same command. Exit code 1 when trials failed for a backend's sake, or were not
    run because of the file's max_cost_usd. SIGUSR1 pauses a sweep before its next call, SIGUSR2 lets
    it go on.

    With --race all targets meet the same cases, and those that cannot be an agent's best any more
    are measured no further: the best is lost in at most 5 of 100 races (race.alpha in the file).
    The target that is chosen is then measured on the cases that were held out.
    """
    _refuse_what_does_not_go_together(
        raced=raced, strict=strict, dry_run=dry_run, explain_miss=explain_miss, cluster=cluster
    )
    location = store_location(store)
    declared = load_sweep(file)
    tell_of_retirements(target for group in declared.targets for target in group.targets())
    if dry_run:
        _dry_run(file, location, fresh=fresh, as_json=as_json)
        return
    if explain_miss:
        _explain(file, location, fresh=fresh, as_json=as_json)
        return
    if raced:
        ended = asyncio.run(_race(file, location, fresh=fresh, strict=strict))
        _show(ended, _print_race, as_json=as_json)
        ctx.exit(1 if any(race.missing for race in ended.races) else 0)
    outcome = asyncio.run(_run(file, location, fresh=fresh, cluster=cluster))
    _show(outcome, _print_outcome, as_json=as_json)
    ctx.exit(1 if outcome.failed or outcome.left else 0)


def _refuse_what_does_not_go_together(
    *, raced: bool, strict: bool, dry_run: bool, explain_miss: bool, cluster: ClusterUse | None
) -> None:
    if strict and not raced:
        raise click.UsageError("--strict says how to race; give --race too")
    if raced and dry_run:
        raise click.UsageError(
            "what a race takes depends on what it finds; --dry-run without --race says the most"
        )
    if cluster and (raced or dry_run or explain_miss):
        raise click.UsageError(
            "--cluster runs a whole sweep; leave out --race, --dry-run and --explain-miss"
        )


async def _run(file: Path, location: str, *, fresh: bool, cluster: ClusterUse | None) -> Outcome:
    control = Control()
    with ExitStack() as opened, control.heeding_signals():
        return await execute_sweep(
            file,
            location,
            fresh=fresh,
            cluster=cluster,
            control=control,
            on_progress=_progress_bar(opened),
        )


async def _race(file: Path, location: str, *, fresh: bool, strict: bool) -> RaceOutcome:
    with ExitStack() as opened:
        return await execute_race(
            file, location, fresh=fresh, strict=strict, on_progress=_progress_bar(opened)
        )


def _progress_bar(opened: ExitStack) -> Callable[[Progress], None]:
    """What shows a run's progress; ``opened`` closes it.

    The bar opens with the first report: bad input is one line on stderr and nothing else.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    bar = Bar(*columns, console=console)

    def show(progress: Progress) -> None:
        trial = progress.trial
        if trial is None and not bar.task_ids:
            opened.enter_context(bar)
            bar.add_task(progress.run_id, total=progress.total, completed=progress.done)
            return
        where = f"  {trial.agent} on {trial.target}" if trial else ""
        bar.update(
            bar.task_ids[0],
            total=progress.total,
            completed=progress.done + progress.failed,
            description=f"{progress.run_id}{where}",
        )
        if progress.error and trial:
            console.print(f"failed: {trial.agent} on {trial.target}: {progress.error}")

    return show


def _show(ended: Ended, print_ended: Callable[[Ended], None], *, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(ended))
    else:
        print_ended(ended)


def _print_outcome(outcome: Outcome) -> None:
    click.echo(
        f"run {outcome.run_id}: {outcome.total} trials, {outcome.resumed} already stored, "
        f"{outcome.called} run now, {outcome.failed} failed"
    )
    if outcome.stopped_by == "max_cost_usd":
        click.echo(f"{outcome.left} trials were not run: they might have passed max_cost_usd")
    if outcome.failed:
        click.echo(f"the {outcome.failed} failed trials run again with the same command")
    else:
        click.echo(f"next: soma-bench compare {outcome.run_id}")


def _print_race(outcome: RaceOutcome) -> None:
    rows = [
        [
            race.agent,
            str(race.targets),
            str(race.looks[-1].n) if race.looks else "0",
            str(len(race.confidence_set)),
            race.chosen or f"waits for {race.missing} answers",
            (race.looks[-1].stop or "") if race.looks else "",
            f"{race.held_out} cases" if race.held_out else "none in the suite",
        ]
        for race in outcome.races
    ]
    columns = ["agent", ">targets", ">cases", ">may be best", "chosen", "stopped as", "held out"]
    print_table(f"race {outcome.run_id}", columns, rows)
    click.echo(
        f"{outcome.measured} trials measured, {outcome.called} of them now; without a race the same"
        f" cases take {outcome.total}"
    )
    if any(race.missing for race in outcome.races):
        click.echo("what waits goes on with the same command")
    else:
        click.echo(f"next: soma-bench compare {outcome.run_id}")


def _explain(file: Path, location: str, *, fresh: bool, as_json: bool) -> None:
    plan, misses = asyncio.run(explain_sweep(file, location, fresh=fresh))
    if as_json:
        print_json({"run_id": plan.run_id, "misses": [dataclasses.asdict(miss) for miss in misses]})
        return
    count = sum(miss.trials for miss in misses)
    rows = [[miss.agent, miss.target, str(miss.trials), miss.reason] for miss in misses]
    title = f"run {plan.run_id}: {count} of {len(plan.trials)} trials are to be run"
    print_table(title, ["agent", "target", ">trials", "differs from the nearest stored"], rows)


def _dry_run(file: Path, location: str, *, fresh: bool, as_json: bool) -> None:
    plan, estimates = asyncio.run(estimate_sweep(file, location, fresh=fresh))
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
            dollars(row.cost_usd),
        ]
        for row in estimates
    ]
    columns = ["model", ">trials", ">to run", ">weights", ">time", "basis", ">cost"]
    print_table(f"run {plan.run_id}: {len(plan.trials)} trials", columns, rows)
    total = sum(row.seconds or 0.0 for row in estimates)
    unknown = " (some unknown)" if any(row.seconds is None for row in estimates) else ""
    click.echo(f"time in all: {seconds(total)}{unknown}; predicted times are upper bounds")
    known = sum(row.cost_usd or 0.0 for row in estimates)
    unknown = " (some unknown)" if any(row.cost_usd is None for row in estimates) else ""
    click.echo(f"cost in all: {dollars(known)}{unknown}; predicted costs are upper bounds")
    for note in sorted({row.cost_note for row in estimates if row.cost_note}):
        click.echo(f"cost by: {note}")


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
