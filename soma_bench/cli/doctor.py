"""``soma-bench doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from soma_bench.cli.output import gibibytes, json_option, print_json, print_table
from soma_bench.doctor import Report, examine
from soma_bench.providers.survey import ProviderReport

_file = click.Path(path_type=Path)
_MOST_NAMED = 6
"""Models that the table names of a provider; ``--json`` has them all."""


@click.command(epilog="Example: soma-bench doctor --profile routing_profiles/demo.json")
@click.option("--profile", type=_file, help="Also say whether this routing profile can run here.")
@click.option("--sweep", type=_file, help="Also say whether this sweep can run here.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, profile: Path | None, sweep: Path | None, as_json: bool) -> None:
    """Look at this machine: hardware, libraries, backends, models, keys, and what to do next.

    Nothing is loaded or changed, no key is shown, and a backend that hangs is given up after two
    seconds. Exit code 1 when the profile or the sweep in question cannot run here.
    """
    report = examine(profile, sweep)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _print(report)
    ctx.exit(0 if report.runnable else 1)


def _print(report: Report) -> None:
    power = f", power mode {report.power_mode}" if report.power_mode else ""
    click.echo(f"{report.system}, {report.cpu}, {report.cores} cores{power}")
    click.echo(
        f"memory {gibibytes(report.memory_bytes)}, of which models may take "
        f"{gibibytes(report.working_set_bytes)}"
    )
    click.echo(", ".join(f"{name} {version}" for name, version in report.libraries.items()))
    click.echo(f"node {report.node or 'not found'}")
    set_or_not = (
        f"{name} {'set' if is_set else 'not set'}" for name, is_set in report.keys.items()
    )
    click.echo("keys: " + ", ".join(set_or_not) + "\n")
    rows = [
        [
            provider.provider,
            "yes" if provider.usable else "no",
            provider.address or "this machine",
            provider.engine or "?",
            provider.reason or _models(provider, report),
        ]
        for provider in report.providers
    ]
    print_table("providers", ["provider", "usable", "where", "engine", "models"], rows)
    if report.targets:
        click.echo()
        rows = [
            [target.role, target.target, "yes" if target.runnable else "no", target.reason or ""]
            for target in report.targets
        ]
        print_table("needed", ["for", "target", "runs here", "why not"], rows)
    for warning in report.warnings:
        click.echo(f"\nnote: {warning}")
    if report.next_steps:
        click.echo("\nnext:")
    for step in report.next_steps:
        click.echo(f"  {step}")


def _models(provider: ProviderReport, report: Report) -> str:
    names = []
    for name, size in list(provider.models.items())[:_MOST_NAMED]:
        too_large = ", too large" if f"{provider.provider}:{name}" in report.too_large else ""
        names.append(name if size is None else f"{name} ({gibibytes(size)}{too_large})")
    more = len(provider.models) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
