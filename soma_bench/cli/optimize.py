"""``soma-bench optimize``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from soma_bench.cli.output import (
    gibibytes,
    json_option,
    print_json,
    print_table,
    seconds,
    store_option,
)
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.optimize import (
    Binding,
    Infeasible,
    Plan,
    Slack,
    Solution,
    build_profile,
    what_binds,
)
from soma_bench.optimize import optimize as best_assignment
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import save_profile
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, PRIVACY_LEVELS, AgentName

_GIB = 1 << 30


@click.command(epilog="Example: soma-bench optimize demo --floor all=0.5 --max-memory 27")
@click.argument("run")
@click.option(
    "--floor",
    "floors",
    multiple=True,
    metavar="AGENT=X",
    help="Lowest quality of an agent's targets, 0 to 1; AGENT may be all. Repeatable.",
)
@click.option(
    "--floor-on",
    type=click.Choice(["low", "mean"]),
    default="low",
    show_default=True,
    help="Compare floors with the interval's lower end or with the mean.",
)
@click.option("--max-latency", type=float, metavar="SECONDS", help="Of the whole pipeline.")
@click.option(
    "--percentile",
    type=click.Choice(["p50", "p95"]),
    default="p95",
    show_default=True,
    help="Which latency counts.",
)
@click.option("--max-memory", type=float, metavar="GIB", help="Of all resident models together.")
@click.option("--max-cost", type=float, metavar="USD", help="Of 1000 analyses.")
@click.option(
    "--privacy",
    "privacy",
    multiple=True,
    metavar="AGENT=LEVEL",
    help=f"{', '.join(PRIVACY_LEVELS)}; AGENT may be all. Repeatable. [default: local_only]",
)
@click.option(
    "--require-fallback",
    "fallbacks",
    multiple=True,
    metavar="AGENT",
    help="Refuse a routing without a fallback for AGENT, or for all. Repeatable.",
)
@click.option(
    "--pipeline",
    type=click.Choice(["sequential", "parallel"]),
    default="sequential",
    show_default=True,
    help="Whether radiologist and pathologist run side by side.",
)
@click.option("--allow-synthetic", is_flag=True, help="Also choose among weights made for tests.")
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
    pipeline: Pipeline,
    name: str | None,
    out: Path | None,
    store: str | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Choose the best target and fallback for each agent from the figures of RUN.

    RUN is a run's id, a sweep's name, or "latest". The choice is exact: the highest sum of mean
    quality under the limits, then the lowest latency, then the lowest cost. It is written as a
    routing profile. Exit code 1 when nothing fits; what stands in the way is said, and nothing is
    written.
    """
    constraints = _constraints(**limits)
    with Store(store_location(store)) as opened:
        comparison = compare_run(opened, run)
    solution = best_assignment(comparison.evidence, constraints, pipeline=pipeline)
    if comparison.finished < comparison.planned:
        done = f"{comparison.finished} of {comparison.planned} trials"
        click.echo(f"note: run {comparison.run.id} has only {done}", err=True)
    if isinstance(solution, Infeasible):
        if as_json:
            print_json(_infeasible_as_json(solution))
        else:
            click.echo(solution.message)
        ctx.exit(1)
    profile = build_profile(
        solution,
        name=name or comparison.run.name,
        evidence=comparison.evidence,
        provenance=comparison.provenance,
    )
    path = out or Path("routing_profiles") / f"{profile.name}.json"
    changed = save_profile(profile, path)
    binding = what_binds(comparison.evidence, constraints, pipeline=pipeline)
    if as_json:
        print_json({**_as_json(solution, binding), "out": str(path), "changed": changed})
        return
    _print(solution, binding)
    click.echo(f"\n{path}: {'written' if changed else 'unchanged'}")


def _constraints(
    *,
    floors: Sequence[str],
    floor_on: str,
    max_latency: float | None,
    percentile: str,
    max_memory: float | None,
    max_cost: float | None,
    privacy: Sequence[str],
    fallbacks: Sequence[str],
    allow_synthetic: bool,
) -> Constraints:
    needed = [agent for text in fallbacks for agent in _agents("--require-fallback", text)]
    try:
        return Constraints.model_validate(
            {
                "quality_floors": _by_agent("--floor", floors, float),
                "floor_on": floor_on,
                "privacy": _by_agent("--privacy", privacy, str),
                "max_latency_s": max_latency,
                "latency": percentile,
                "max_memory_bytes": None if max_memory is None else _bytes(max_memory),
                "max_cost_usd_per_1000": max_cost,
                "require_fallback": dict.fromkeys(needed, True),
                "allow_synthetic": allow_synthetic,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"constraints: {first_problem(error)}") from error


def _by_agent(flag: str, given: Sequence[str], read: Callable[[str], Any]) -> dict[AgentName, Any]:
    values: dict[AgentName, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag}: {text!r} is not AGENT=VALUE")
        try:
            values.update(dict.fromkeys(_agents(flag, name), read(value)))
        except ValueError as error:
            raise ConfigError(f"{flag}: {value!r} for {name} is not a number") from error
    return values


def _agents(flag: str, name: str) -> tuple[AgentName, ...]:
    if name == "all":
        return AGENTS
    found = tuple(agent for agent in AGENTS if agent == name)
    if not found:
        raise ConfigError(f"{flag}: unknown agent {name!r}; known: {', '.join(AGENTS)}, all")
    return found


def _bytes(gib: float) -> int:
    if not 0 < gib <= 1 << 20:
        raise ConfigError(f"--max-memory: {gib:g} GiB is not a memory size")
    return int(gib * _GIB)


def _infeasible_as_json(answer: Infeasible) -> dict[str, Any]:
    conflict = zip(answer.conflict, answer.would_do, strict=True)
    return {
        "feasible": False,
        "conflict": [{"constraint": name, "would_do": limit} for name, limit in conflict],
    }


def _as_json(solution: Solution, binding: Sequence[Binding]) -> dict[str, Any]:
    plan = solution.plan
    return {
        "feasible": True,
        "routing": {
            choice.agent: {
                "primary": choice.primary.target,
                "fallback": None if choice.fallback is None else choice.fallback.target,
            }
            for choice in plan.choices
        },
        "quality": plan.quality,
        "latency_p50_s": plan.latency_p50_s,
        "latency_p95_s": plan.latency_p95_s,
        "memory_bytes": plan.memory_bytes,
        "cost_usd_per_1000": plan.cost_usd_per_1000,
        "limits": [
            {
                "constraint": slack.name,
                "unit": slack.unit,
                "limit": slack.limit,
                "used": slack.used,
                "slack": slack.slack,
            }
            for slack in plan.slacks
        ],
        "binds": [
            {"constraint": bound.name, "quality_gain": bound.quality_gain} for bound in binding
        ],
        "greedy": {
            "routing": {choice.agent: choice.primary.target for choice in solution.greedy.choices},
            "quality": solution.greedy.quality,
            "feasible": not solution.greedy.violated,
            "breaks": list(solution.greedy.violated),
        },
    }


def _print(solution: Solution, binding: Sequence[Binding]) -> None:
    plan = solution.plan
    print_table(
        "routing",
        ["agent", "primary", ">quality", ">p50", ">p95", "fallback", ">quality", "privacy"],
        [
            [
                choice.agent,
                *_target_cells(choice.primary),
                seconds(choice.primary.latency_p50_s),
                seconds(choice.primary.latency_p95_s),
                *_target_cells(choice.fallback),
                solution.constraints.privacy_of(choice.agent),
            ]
            for choice in plan.choices
        ],
    )
    click.echo(f"\n{solution.pipeline} pipeline: {_totals(plan)}")
    for slack in plan.slacks:
        click.echo(f"  {slack.name}: {_room(slack)}")
    if binding:
        for bound in binding:
            click.echo(f"binds: {bound.name}; without it quality rises by {bound.quality_gain:.3f}")
    else:
        click.echo("binds: nothing; no limit costs quality")
    greedy = solution.greedy
    verdict = f"breaks {', '.join(greedy.violated)}" if greedy.violated else "fits too"
    click.echo(f"best of each agent by itself: quality {greedy.quality:.3f} of 5; {verdict}")
    if any(
        row is not None and row.synthetic
        for choice in plan.choices
        for row in (choice.primary, choice.fallback)
    ):
        click.echo("* synthetic weights: derived for tests, no evidence about a deployable model")


def _target_cells(row: Evidence | None) -> list[str]:
    if row is None:
        return ["none", ""]
    quality = f"{row.quality:.3f} [{row.quality_low:.3f}, {row.quality_high:.3f}]"
    return [row.target + (" *" if row.synthetic else ""), quality]


def _totals(plan: Plan) -> str:
    cost = plan.cost_usd_per_1000
    return ", ".join(
        (
            f"quality {plan.quality:.3f} of 5",
            f"p50 {seconds(plan.latency_p50_s)}",
            f"p95 {seconds(plan.latency_p95_s)}",
            f"memory {gibibytes(plan.memory_bytes)}",
            "price unknown" if cost is None else f"${cost:.2f} per 1000",
        )
    )


def _room(slack: Slack) -> str:
    if slack.unit == "bytes":
        return f"{gibibytes(slack.used)} used, {gibibytes(slack.slack)} left"
    if slack.unit == "s":
        return f"{seconds(slack.used)} at worst, {seconds(slack.slack)} left"
    if slack.unit == "quality":
        return f"{slack.used:.3f} at least, {slack.slack:.3f} above"
    return f"${slack.used:.2f} used, ${slack.slack:.2f} left"
