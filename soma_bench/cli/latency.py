"""``soma-bench latency``: how fast targets answer at the concurrency of production."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console

from soma_bench.cases.images import has_image
from soma_bench.cli.latency_output import print_changes, print_report
from soma_bench.cli.output import json_option, print_json
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError
from soma_bench.files import write_atomically
from soma_bench.latency.baseline import compare_reports
from soma_bench.latency.door import Door
from soma_bench.latency.load import Load
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
from soma_bench.types import AGENTS, PRIVACY_LEVELS, AgentName, Options, PrivacyLevel, Target

_SUITES = Path("data/suites")
_MOST_CLIENTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the options ask for, apart from the targets."""

    agent: AgentName | None
    suite: Path | None
    prompt_tokens: int
    output_tokens: int
    concurrency: tuple[int, ...] | None
    rate: float | None
    analyses: int
    requests: int | None
    duration_s: float | None
    warm_up: int | None
    cold_starts: int
    privacy: PrivacyLevel
    options: Options
    seed: int

    def loads(self, usual: int) -> tuple[Load, ...]:
        """The loads of a target; ``usual`` is the concurrency where none was given."""
        if self.rate is not None:
            return (self._load(None, self.rate),)
        return tuple(self._load(count, None) for count in self.concurrency or (usual,))

    def _load(self, concurrency: int | None, rate: float | None) -> Load:
        return Load(
            concurrency=concurrency,
            rate=rate,
            requests=self.requests,
            duration_s=self.duration_s,
            warm_up=2 * (concurrency or 2) if self.warm_up is None else self.warm_up,
            seed=self.seed,
        )


class _Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "N,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
            self.fail(f"{value!r} is no list of numbers; write e.g. 1,4", param, ctx)
        counts = tuple(dict.fromkeys(int(part) for part in parts))
        if not all(1 <= count <= _MOST_CLIENTS for count in counts):
            self.fail(f"{value!r}: each must be from 1 to {_MOST_CLIENTS}", param, ctx)
        return counts


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
@click.option("--agent", type=click.Choice(AGENTS), help="Ask what this agent asks.")
@click.option(
    "--suite",
    type=click.Path(path_type=Path),
    help="With --agent: its cases. [default: data/suites/AGENT.jsonl]",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1, 1_000_000),
    default=512,
    show_default=True,
    help="Made-up prompts of about so many tokens, where there is no --agent.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Most tokens of an answer to a made-up prompt.",
)
@click.option(
    "--concurrency",
    type=_Counts(),
    help="Closed loop: so many clients, each asking again when it is answered. [default: 1, or"
    " what the profile's pipeline has under way]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    help="Open loop instead: requests arrive so often a second, whatever the target does.",
)
@click.option(
    "--analyses",
    type=click.IntRange(1, _MOST_CLIENTS),
    default=1,
    show_default=True,
    help="With --profile: analyses that run at once in production.",
)
@click.option(
    "--requests", type=click.IntRange(1, 100_000), help="Measured requests a load. [default: 100]"
)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0, 86_400, min_open=True),
    help="Seconds in which measured requests start; with --requests whichever ends first.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(0, 10_000),
    help="Requests before the measured ones. [default: 2 a client]",
)
@click.option(
    "--cold-starts",
    type=click.IntRange(0, 100),
    default=1,
    show_default=True,
    help="Requests that find the model unloaded; local targets only.",
)
@click.option("--slo", help="What a good request holds, e.g. ttft=2s,tpot=50ms,total=30s.")
@click.option(
    "--privacy",
    type=click.Choice(PRIVACY_LEVELS),
    default="local_only",
    show_default=True,
    help="How private the requests are; cloud targets need more than local_only.",
)
@click.option(
    "--context-tokens",
    type=click.IntRange(256, 1_048_576),
    default=4096,
    show_default=True,
    help="Context window that local models hold.",
)
@click.option("--cache-prompt", is_flag=True, help="Let backends reuse prompts' shared beginnings.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Of --rate's arrivals.")
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
    targets: tuple[str, ...],
    profile_path: Path | None,
    agent: AgentName | None,
    suite: Path | None,
    prompt_tokens: int,
    output_tokens: int,
    concurrency: tuple[int, ...] | None,
    rate: float | None,
    analyses: int,
    requests: int | None,
    duration_s: float | None,
    warm_up: int | None,
    cold_starts: int,
    slo: str | None,
    privacy: PrivacyLevel,
    context_tokens: int,
    cache_prompt: bool,
    seed: int,
    out: Path | None,
    baseline_path: Path | None,
    as_json: bool,
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
    if profile_path is not None and (targets or agent or suite):
        raise click.UsageError("--profile says the targets and the work; leave the others out")
    if suite is not None and agent is None:
        raise click.UsageError("--suite holds the cases of an agent; give --agent too")
    if concurrency is not None and rate is not None:
        raise click.UsageError("--concurrency is a closed loop and --rate an open one; give one")
    asked = _Asked(
        agent=agent,
        suite=suite,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        concurrency=concurrency,
        rate=rate,
        analyses=analyses,
        requests=100 if requests is None and duration_s is None else requests,
        duration_s=duration_s,
        warm_up=warm_up,
        cold_starts=cold_starts,
        privacy=privacy,
        options=Options(context_tokens=context_tokens, cache_prompt=cache_prompt),
        seed=seed,
    )
    objectives = parse_objectives(slo) if slo is not None else {}
    baseline = None if baseline_path is None else load_report(baseline_path)
    profile = None if profile_path is None else load_profile(profile_path)
    parsed = [_target(text) for text in dict.fromkeys(targets)]
    report = asyncio.run(_measure(asked, parsed, profile, objectives))
    if out is not None:
        write_atomically(out, report_text(report))
    changes = () if baseline is None else compare_reports(baseline, report)
    if as_json:
        content = {**asdict(report), **({"changes": [*map(asdict, changes)]} if baseline else {})}
        print_json(content)
    else:
        print_report(report)
        if baseline is not None:
            print_changes(baseline, report, changes)
    ctx.exit(1 if _has_failures(report) or any(change.slower for change in changes) else 0)


def _has_failures(report: Report) -> bool:
    levels = [level for target in report.targets for level in target.levels]
    cold = [sample for target in report.targets for sample in target.cold]
    return any(level.failures for level in levels) or any(sample.failure for sample in cold)


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


async def _measure(
    asked: _Asked, targets: Sequence[Target], profile: Profile | None, objectives: Objectives
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


async def _target_job(asked: _Asked, target: Target, providers: ProviderPool) -> Job:
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
    asked: _Asked, profile: Profile, agent: AgentName, providers: ProviderPool
) -> Job:
    route = resolve(profile, agent)
    level = strictest([route.privacy, asked.privacy]) or "local_only"
    door = Door(route.primary, providers.get(route.primary.provider), level)
    work = await _suite_work(asked, door, agent, None)
    return _job(asked, door, work, usual=production_concurrency(profile, agent, asked.analyses))


async def _suite_work(asked: _Asked, door: Door, agent: AgentName, path: Path | None) -> Work:
    suite = agent_suite(agent, path or _SUITES / f"{agent}.jsonl")
    sees = False
    if any(has_image(case) for case in suite.cases):
        sees = (await door.provider.capabilities(door.target.model)).vision
    return suite_work(door.target, agent, suite, options=asked.options, sees=sees)


def _job(asked: _Asked, door: Door, work: Work, *, usual: int) -> Job:
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
