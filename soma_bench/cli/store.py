"""``soma-bench store``: what a store holds, and bringing it up to date."""

from __future__ import annotations

import dataclasses

import click

from soma_bench.cli.options import store_option
from soma_bench.cli.output import json_option, print_json, print_table
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store
from soma_bench.sweeps.store.migrate import migrate as migrate_store


@click.group(epilog="Example: soma-bench store info --store postgresql://lab@host/soma")
def store() -> None:
    """Look at a store and bring it up to date."""


@store.command(epilog="Example: soma-bench store info --store reports/runs.db")
@store_option
@json_option
def info(store: str | None, as_json: bool) -> None:
    """Say which runs a store holds and how far each has come."""
    with Store(store_location(store)) as opened:
        location, version = opened.location, opened.version
        progress = opened.progress()
    if as_json:
        runs = [dataclasses.asdict(run) for run in progress]
        print_json({"location": location, "version": version, "runs": runs})
        return
    click.echo(f"{location}: store version {version}, {len(progress)} runs")
    print_table(
        "",
        ("run", "started", ">trials", ">done", ">failed"),
        [
            (run.id, run.started_at, str(run.planned), str(run.done), str(run.failed))
            for run in progress
        ],
    )


@store.command(epilog="Example: soma-bench store migrate --store reports/runs.db")
@store_option
@json_option
def migrate(store: str | None, as_json: bool) -> None:
    """Bring a store that an earlier version made up to date, whole or not at all.

    An SQLite file is copied first, to FILE.VERSION.bak beside it.
    """
    done = migrate_store(store_location(store))
    if as_json:
        print_json(dataclasses.asdict(done) | {"backup": done.backup and str(done.backup)})
    elif done.before == done.after:
        click.echo(f"{done.location}: is up to date (store version {done.after})")
    else:
        kept = f"; as it was before: {done.backup}" if done.backup else ""
        click.echo(f"{done.location}: store version {done.before} -> {done.after}{kept}")
