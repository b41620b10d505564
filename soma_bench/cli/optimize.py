"""``soma-bench optimize``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from soma_bench.cli.choice import Beside, infeasible_as_json, print_solution, solution_as_json
from soma_bench.cli.demands import demand_options, read_constraints, read_objective
from soma_bench.cli.options import store_option
from soma_bench.cli.output import json_option, print_json
from soma_bench.comparison import compare_run
from soma_bench.optimize import (
    Infeasible,
    Order,
    best_single_model,
    build_profile,
    runner_up,
    shadow_prices,
    what_binds,
)
from soma_bench.optimize import optimize as best_assignment
from soma_bench.routing.profile import save_profile
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store


@click.command(epilog="Example: soma-bench optimize demo --floor all=0.5 --max-memory 27")
@click.argument("run")
@demand_options
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop with the best found by then, and say how far from the optimum it may be.",
)
@click.option("--name", help="The profile's name. [default: the sweep's]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write. [default: routing_profiles/NAME.json]",
)
@store_option
@json_option
@click.pass_context
def optimize(
    ctx: click.Context,
    /,
    run: str,
    pipeline: Order,
    order: str | None,
    tolerances: Sequence[str],
    weights: Sequence[str],
    time_limit: float | None,
    name: str | None,
    out: Path | None,
    store: str | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Choose the best target and fallback for each agent from the figures of RUN.

    RUN is a run's id, a sweep's name, or "latest". The choice is exact: the highest sum of mean
    quality under the limits, then the lowest latency, then the lowest cost, unless --order or
    --weight says otherwise. An agent that reads another's answer inherits its privacy. The choice
    is written as a routing profile; beside it stand what each limit costs, the runner-up, the best
    single model and the best of each agent by itself. Exit code 1 when nothing fits; what stands in the way is said, and nothing is
    written.
    """
    constraints = read_constraints(**limits)
    objective = read_objective(order, tolerances, weights)
    with Store(store_location(store)) as opened:
        comparison = compare_run(opened, run)
    evidence = comparison.evidence
    solution = best_assignment(
        evidence, constraints, pipeline=pipeline, objective=objective, time_limit_s=time_limit
    )
    if comparison.finished < comparison.planned:
        done = f"{comparison.finished} of {comparison.planned} trials"
        click.echo(f"note: run {comparison.run.id} has only {done}", err=True)
    if isinstance(solution, Infeasible):
        if as_json:
            print_json(infeasible_as_json(solution))
        else:
            click.echo(solution.message)
        ctx.exit(1)
    profile = build_profile(
        solution,
        name=name or comparison.run.name,
        evidence=evidence,
        provenance=comparison.provenance,
    )
    path = out or Path("routing_profiles") / f"{profile.name}.json"
    changed = save_profile(profile, path)
    beside = Beside(
        binding=what_binds(evidence, constraints, pipeline=pipeline),
        prices=shadow_prices(evidence, constraints, pipeline=pipeline),
        second=runner_up(evidence, solution, pipeline=pipeline, scores=comparison.scores),
        single=best_single_model(evidence, constraints, pipeline=pipeline, objective=objective),
    )
    if as_json:
        print_json({**solution_as_json(solution, beside), "out": str(path), "changed": changed})
        return
    print_solution(solution, beside)
    click.echo(f"\n{path}: {'written' if changed else 'unchanged'}")
