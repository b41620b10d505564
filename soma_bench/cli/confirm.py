"""``soma-bench confirm``: a profile's assignment, measured as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import click

from soma_bench.cases.pipeline import PipelineCase, load_pipeline_cases
from soma_bench.cli.output import json_option, print_json, print_table, seconds
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.overrides import provider_factory
from soma_bench.routing.profile import Profile, load_profile
from soma_bench.routing.router import Router
from soma_bench.scoring.statistics import MeanInterval, Paired, percentile
from soma_bench.sweeps.pipelines import SCORED, PipelineMeasure, Upstream, measure_pipeline

_SUITE = Path("data/suites/pipeline-generated.jsonl")
_Split = Literal["held_out", "dev", "all"]


@click.command(epilog="Example: soma-bench confirm routing_profiles/demo.json --both-orders")
@click.argument("profile_path", metavar="PROFILE", type=click.Path(path_type=Path))
@click.option(
    "--suite",
    type=click.Path(path_type=Path),
    default=_SUITE,
    show_default=True,
    help="Pipeline cases (JSONL).",
)
@click.option(
    "--split",
    type=click.Choice(get_args(_Split)),
    default="held_out",
    show_default=True,
    help="Held-out cases had no part in choosing.",
)
@click.option("--cases", type=click.IntRange(min=1), help="Only the first so many.")
@click.option(
    "--both-orders",
    is_flag=True,
    help="Also run the order that the profile does not choose, and compare.",
)
@json_option
@click.pass_context
def confirm(
    ctx: click.Context,
    profile_path: Path,
    suite: Path,
    split: _Split,
    cases: int | None,
    both_orders: bool,
    as_json: bool,
) -> None:
    """Run whole analyses on the targets of PROFILE and score every stage.

    Each target was chosen by itself; here they work on what the others say. "on truth" is the same
    stage asked on the true findings and diagnosis, and "lost" what the errors before it cost it.
    Exit code 1 when an analysis ended without a report.
    """
    profile = load_profile(profile_path)
    chosen = [c for c in load_pipeline_cases(suite) if split in ("all", c.split)][:cases]
    if not chosen:
        raise ConfigError(f"{suite}: has no case of split {split!r}; use --split all")
    orders: list[Pipeline] = [profile.pipeline]
    if both_orders:
        orders += [order for order in get_args(Pipeline) if order != profile.pipeline]
    measured = asyncio.run(_measure(profile, chosen, orders))
    if as_json:
        print_json(_as_json(profile, measured, orders))
    else:
        _print(profile, measured, orders, len(chosen))
    ctx.exit(0 if all(time.finished for time in measured.times) else 1)


async def _measure(
    profile: Profile, cases: Sequence[PipelineCase], orders: Sequence[Pipeline]
) -> PipelineMeasure:
    environment = read_environment()
    async with ProviderPool(provider_factory(profile, environment)) as providers:
        return await measure_pipeline(
            cases,
            Router(profile, providers, environment=environment).ask,
            orders=orders,
            on_case=lambda case: click.echo(f"{case.id}: done", err=True),
        )


def _print(
    profile: Profile, measured: PipelineMeasure, orders: Sequence[Pipeline], count: int
) -> None:
    quality = measured.quality()
    main = orders[0]
    rows = [
        [
            agent,
            _interval(quality[agent, main]),
            _interval(quality.get((agent, "true"))),
            _difference(measured.compare(agent, main, "true")),
            *(_difference(measured.compare(agent, order, main)) for order in orders[1:]),
        ]
        for agent in SCORED
        if (agent, main) in quality
    ]
    columns = ["stage", f">{main}", ">on truth", ">lost before it"]
    columns += [f">{order} - {main}" for order in orders[1:]]
    print_table(f"profile {profile.name}: {count} whole analyses", columns, rows)
    for order in orders:
        times = [time for time in measured.times if time.order == order]
        taken = [time.seconds for time in times]
        finished = sum(time.finished for time in times)
        click.echo(
            f"{order}: {finished} of {len(times)} ended with a report; p50"
            f" {seconds(percentile(taken, 50))}, p95 {seconds(percentile(taken, 95))}"
        )
    for failure in sorted({one.failure for one in measured.scores if one.failure}):
        click.echo(f"no answer: {failure}", err=True)


def _interval(quality: MeanInterval | None) -> str:
    if quality is None:
        return ""
    return f"{quality.mean:.3f} ({quality.low:.3f} to {quality.high:.3f})"


def _difference(paired: Paired | None) -> str:
    return "" if paired is None else f"{paired.difference.mean:+.3f} (p {paired.p:.3f})"


def _as_json(
    profile: Profile, measured: PipelineMeasure, orders: Sequence[Pipeline]
) -> dict[str, Any]:
    main = orders[0]
    sides: list[tuple[Upstream, Upstream]] = [(main, "true"), *((o, main) for o in orders[1:])]
    pairs = [
        (agent, ours, theirs, paired)
        for agent in SCORED
        for ours, theirs in sides
        if (paired := measured.compare(agent, ours, theirs)) is not None
    ]
    return {
        "profile": profile.name,
        "quality": [
            {"agent": agent, "upstream": upstream, **interval._asdict()}
            for (agent, upstream), interval in measured.quality().items()
        ],
        "differences": [
            {
                "agent": agent,
                "of": ours,
                "against": theirs,
                "cases": paired.cases,
                **paired.difference._asdict(),
                "p": paired.p,
            }
            for agent, ours, theirs, paired in pairs
        ],
        "times": [asdict(time) for time in measured.times],
        "scores": [asdict(score) for score in measured.scores],
    }
