"""``soma-bench report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from soma_bench.cli.demands import demand_options, read_constraints, read_objective
from soma_bench.cli.options import store_option
from soma_bench.cli.output import json_option, print_json
from soma_bench.errors import ConfigError
from soma_bench.files import write_atomically
from soma_bench.optimize import Order
from soma_bench.report import Decision, Demands, build_report, render
from soma_bench.routing.profile import load_profile
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store

_NOT_DEMANDS = frozenset({"run", "profile", "out", "store", "as_json"})


@click.command(epilog="Example: soma-bench report demo --out reports/demo.html --max-latency 60")
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write, ending in .html. [default: reports/RUN.html]",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    help="Take the demands from this profile, and hold the choice against it.",
)
@demand_options
@store_option
@json_option
@click.pass_context
def report(
    ctx: click.Context,
    /,
    run: str,
    out: Path | None,
    profile: Path | None,
    pipeline: Order,
    order: str | None,
    tolerances: Sequence[str],
    weights: Sequence[str],
    store: str | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Write what RUN has shown as one HTML file, to read, to print and to hand on.

    RUN is a run's id, a sweep's name, or "latest". The file holds the decision under the given
    limits and how sure it is, a table an agent, figures, the trials that failed, and where all of
    it comes from. It needs no network and no other file, and holds no text of cases or answers.
    Where nothing fits the limits, the report says which of them stand against each other.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: {out}: does not end in .html; name the file to be written so")
    if profile is not None:
        _refuse_demands_beside_profile(ctx)
        loaded = load_profile(profile)
        demands = Demands(
            constraints=loaded.constraints,
            pipeline=loaded.pipeline,
            objective=loaded.objective,
            profile=loaded,
        )
    else:
        demands = Demands(
            constraints=read_constraints(**limits),
            pipeline=pipeline,
            objective=read_objective(order, tolerances, weights),
        )
    with Store(store_location(store)) as opened:
        found = build_report(opened, run, demands)
    path = out or Path("reports") / f"{found.comparison.run.id}.html"
    changed = write_atomically(path, render(found))
    if as_json:
        decided = isinstance(found.decision, Decision)
        print_json({"out": str(path), "changed": changed, "decided": decided})
        return
    click.echo(found.verdict)
    click.echo(f"{path}: {'written' if changed else 'unchanged'}")


def _refuse_demands_beside_profile(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _NOT_DEMANDS:
            raise ConfigError(
                f"{parameter.opts[0]}: the demands are those of --profile; give one of the two"
            )
