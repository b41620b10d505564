"""``soma-bench latency``: how fast targets answer at the concurrency of production."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from soma_bench.cases.images import has_image
from soma_bench.cli.latency_options import Asked, asking_options, read_asked
from soma_bench.cli.latency_output import print_changes, print_report
from soma_bench.cli.options import read_target
from soma_bench.cli.output import json_option, print_json
from soma_bench.environment import read_environment
from soma_bench.files import write_atomically
from soma_bench.latency.baseline import Change, compare_reports
from soma_bench.latency.door import Door
from soma_bench.latency.measure import Job, measure
from soma_bench.latency.objectives import Objectives, parse_objectives
from soma_bench.latency.report import Report, load_report, report_text
from soma_bench.latency.work import (
    Work,
    agent_suite,
    made_up_work,
    production_concurrency,
    suite_work,
)
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.context import strictest
from soma_bench.routing.overrides import provider_factory, under
from soma_bench.routing.profile import Profile, load_profile, resolve
from soma_bench.types import AGENTS, AgentName, Target

_SUITES = Path("data/suites")


@click.command(
    epilog="Example: soma-bench latency llamacpp:smollm2-135m-instruct-q4_1 --concurrency 1,4"
    " --requests 40 --slo ttft=2s,total=30s"
)
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    help="Measure each agent's primary on the agent's suite, at the concurrency of production.",
)
@asking_options
@click.option("--slo", help="What a good request holds, e.g. ttft=2s,tpot=50ms,total=30s.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the JSON report there.")
@click.option(
    "--baseline",
    "baseline_path",
    type=click.Path(path_type=Path),
    help="An earlier --out to compare with: exit code 1 when something is slower beyond chance.",
)
@json_option
@click.pass_context
def latency(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    profile_path: Path | None,
    slo: str | None,
    out: Path | None,
    baseline_path: Path | None,
    as_json: bool,
    **asking: Any,
) -> None:
    """Measure how fast TARGETs answer, cold and warm, under the load that production puts on them.

    Every answer is streamed and timed by this side's clock: first token (TTFT), first token that is
    not thinking (TTFOT), time between tokens (ITL), time a token (TPOT), the whole, throughput, and
    goodput, the share of requests within --slo. Each percentile has its 95 % interval, or the number
    of requests that it takes. The report begins with the harness's own error, measured against a
    loopback server of known timing.

    Exit code 1 when a request failed, or when something is slower than in --baseline.
    """
    if profile_path is None and not targets:
        raise click.UsageError("name a TARGET, such as ollama:qwen3:8b-q4_K_M, or give --profile")
    if profile_path is not None and (targets or asking["agent"] or asking["suite"]):
        raise click.UsageError("--profile says the targets and the work; leave the others out")
    asked = read_asked(**asking)
    objectives = parse_objectives(slo) if slo is not None else {}
    baseline = None if baseline_path is None else load_report(baseline_path)
    profile = None if profile_path is None else load_profile(profile_path)
    parsed = [read_target(text) for text in dict.fromkeys(targets)]
    report = asyncio.run(_measure(asked, parsed, profile, objectives))
    if out is not None:
        write_atomically(out, report_text(report))
    changes = () if baseline is None else compare_reports(baseline, report)
    _show(report, baseline, changes, as_json=as_json)
    ctx.exit(1 if _has_failures(report) or any(change.slower for change in changes) else 0)


def _show(
    report: Report, baseline: Report | None, changes: Sequence[Change], *, as_json: bool
) -> None:
    if as_json:
        content = {**asdict(report), **({"changes": [*map(asdict, changes)]} if baseline else {})}
        print_json(content)
        return
    print_report(report)
    if baseline is not None:
        print_changes(baseline, report, changes)


def _has_failures(report: Report) -> bool:
    levels = [level for target in report.targets for level in target.levels]
    cold = [sample for target in report.targets for sample in target.cold]
    return any(level.failures for level in levels) or any(sample.failure for sample in cold)


async def _measure(
    asked: Asked, targets: Sequence[Target], profile: Profile | None, objectives: Objectives
) -> Report:
    if profile is None:
        pool = ProviderPool()
    else:
        environment = read_environment()
        profile = under(profile, environment)
        pool = ProviderPool(provider_factory(profile, environment))
    async with pool as providers:
        if profile is None:
            jobs = [await _target_job(asked, target, providers) for target in targets]
        else:
            jobs = [await _agent_job(asked, profile, agent, providers) for agent in AGENTS]
        return await measure(jobs, objectives=objectives, on_progress=_progress())


async def _target_job(asked: Asked, target: Target, providers: ProviderPool) -> Job:
    door = Door(target, providers.get(target.provider), asked.privacy)
    if asked.agent is None:
        work = made_up_work(
            target,
            prompt_tokens=asked.prompt_tokens,
            output_tokens=asked.output_tokens,
            options=asked.options,
        )
    else:
        work = await _suite_work(asked, door, asked.agent, asked.suite)
    return _job(asked, door, work, usual=1)


async def _agent_job(
    asked: Asked, profile: Profile, agent: AgentName, providers: ProviderPool
) -> Job:
    route = resolve(profile, agent)
    level = strictest([route.privacy, asked.privacy]) or "local_only"
    door = Door(route.primary, providers.get(route.primary.provider), level)
    work = await _suite_work(asked, door, agent, None)
    return _job(asked, door, work, usual=production_concurrency(profile, agent, asked.analyses))


async def _suite_work(asked: Asked, door: Door, agent: AgentName, path: Path | None) -> Work:
    suite = agent_suite(agent, path or _SUITES / f"{agent}.jsonl")
    sees = False
    if any(has_image(case) for case in suite.cases):
        sees = (await door.provider.capabilities(door.target.model)).vision
    return suite_work(door.target, agent, suite, options=asked.options, sees=sees)


def _job(asked: Asked, door: Door, work: Work, *, usual: int) -> Job:
    return Job(
        door=door,
        work=work,
        loads=asked.loads(usual),
        cold_starts=asked.cold_starts if door.is_local else 0,
    )


def _progress() -> Callable[[str, int, int | None], None]:
    """Shows on a terminal how far a load has come."""
    console = Console(stderr=True)

    def show(where: str, ended: int, total: int | None) -> None:
        if console.is_terminal:
            of = f" of {total}" if total else ""
            console.print(f"{where}: {ended}{of} requests   ", end="\r", highlight=False)

    return show
