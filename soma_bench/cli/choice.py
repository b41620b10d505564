"""What ``soma-bench optimize`` says of a choice, in words or as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import click

from soma_bench.cli.output import gibibytes, print_table, seconds
from soma_bench.optimize import Binding, Infeasible, Plan, RunnerUp, ShadowPrice, Slack, Solution
from soma_bench.routing.evidence import Evidence
from soma_bench.types import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What stands beside a choice."""

    binding: tuple[Binding, ...]
    prices: tuple[ShadowPrice, ...]
    second: RunnerUp | None
    single: Plan | None


def infeasible_as_json(answer: Infeasible) -> dict[str, Any]:
    """What stands in the way."""
    conflict = zip(answer.conflict, answer.would_do, strict=True)
    return {
        "feasible": False,
        "conflict": [{"constraint": name, "would_do": limit} for name, limit in conflict],
    }


def solution_as_json(solution: Solution, beside: Beside) -> dict[str, Any]:
    """The choice with its figures."""
    plan = solution.plan
    second = beside.second
    return {
        "feasible": True,
        "pipeline": solution.pipeline,
        "gap": None
        if solution.gap is None
        else {"goal": solution.gap.goal, "at_most": solution.gap.at_most},
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
        "degraded_latency_s": plan.degraded_latency_s,
        "memory_bytes": plan.memory_bytes,
        "resident": list(plan.resident),
        "swapped": list(plan.swapped),
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
            {"constraint": bound.name, "quality_gain": bound.quality_gain}
            for bound in beside.binding
        ],
        "shadow_prices": [
            {
                "constraint": price.name,
                "by": price.by,
                "quality_gain": price.quality_gain,
                "first_by": price.first_by,
                "says": price.message,
            }
            for price in beside.prices
        ],
        "runner_up": None
        if second is None
        else {
            **_beside_as_json(second.plan),
            "pipeline": second.pipeline,
            "told_apart": second.told_apart,
            "differences": [asdict(difference) for difference in second.differences],
            "says": second.message,
        },
        "single_model": None if beside.single is None else _beside_as_json(beside.single),
        "greedy": _beside_as_json(solution.greedy),
    }


def _beside_as_json(plan: Plan) -> dict[str, Any]:
    return {
        "routing": {choice.agent: choice.primary.target for choice in plan.choices},
        "quality": plan.quality,
        "feasible": not plan.violated,
        "breaks": list(plan.violated),
    }


def print_solution(solution: Solution, beside: Beside) -> None:
    """The choice as a table, and below it what else there is to know."""
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
    if plan.swapped:
        click.echo(f"  loaded in each analysis: {', '.join(plan.swapped)}")
    if solution.gap is not None:
        goal = solution.gap.goal or "weighted sum"
        click.echo(f"cut off: {goal} may be better by up to {solution.gap.at_most:.3g}")
    if beside.binding:
        for bound in beside.binding:
            click.echo(f"binds: {bound.name}; without it quality rises by {bound.quality_gain:.3f}")
    else:
        click.echo("binds: nothing; no limit costs quality")
    for price in beside.prices:
        if price.quality_gain or price.first_by is not None:
            click.echo(f"room: {price.message}")
    if beside.second is not None:
        click.echo(f"runner-up: {_totals(beside.second.plan)}; {beside.second.message}")
    if beside.single is not None:
        model = Target.parse(beside.single.choices[0].primary.target)
        click.echo(f"best single model {model.provider}:{model.model}: {_verdict(beside.single)}")
    click.echo(f"best of each agent by itself: {_verdict(solution.greedy)}")
    if any(
        row is not None and row.synthetic
        for choice in plan.choices
        for row in (choice.primary, choice.fallback)
    ):
        click.echo("* synthetic weights: derived for tests, no evidence about a deployable model")


def _verdict(plan: Plan) -> str:
    fits = f"breaks {', '.join(plan.violated)}" if plan.violated else "fits too"
    return f"quality {plan.quality:.3f} of 5; {fits}"


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
