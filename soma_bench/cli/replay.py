"""``soma-bench replay``: a candidate profile on recorded calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from soma_bench.cli.options import verify_option
from soma_bench.cli.output import dollars, json_option, print_json, print_table, seconds
from soma_bench.environment import read_environment
from soma_bench.providers.pool import ProviderPool
from soma_bench.replay import (
    AgentReplay,
    BadLine,
    RecordedCall,
    Replayed,
    compare_replay,
    read_log,
    rerun,
)
from soma_bench.replay.compare import PairedFigure
from soma_bench.routing.overrides import provider_factory
from soma_bench.routing.profile import Profile, load_profile
from soma_bench.routing.router import Router

_file = click.Path(path_type=Path)


@click.command(epilog="Example: soma-bench replay calls.jsonl --profile routing_profiles/new.json")
@click.argument("log", type=_file)
@click.option(
    "--profile", "profile_path", required=True, type=_file, help="The candidate's routing profile."
)
@click.option("--take", type=click.IntRange(1), metavar="N", help="Replay the first N calls only.")
@verify_option
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    log: Path,
    profile_path: Path,
    take: int | None,
    verify: Path | None,
    as_json: bool,
) -> None:
    """Ask the recorded calls in LOG (JSONL) again, routed by a candidate profile, and compare.

    Latency, cost and tokens are compared call by call with what was recorded, and scores where a call has a reference; for calls without one it is shown how far the answers agree, which is no quality. One call runs at a time. LOG is written by soma-bench run --record; schemas/recorded-call.schema.json says what a line holds. A call whose input still holds an identifier is never put to a profile that could send it to a cloud.

    Exit code 1 when a line could not be read, or a call got no answer of the candidate.
    """
    candidate = load_profile(profile_path, verify)
    calls, bad = read_log(log)
    if take is not None:
        calls = dict(list(calls.items())[:take])
    replayed = asyncio.run(_rerun(calls, candidate))
    rows = compare_replay(replayed)
    unanswered = [one for one in replayed if one.routed is None]
    if as_json:
        print_json(_record(candidate, replayed, bad, rows))
    else:
        for agent in rows:
            _tell(agent)
        _tell_of_lines(bad, unanswered)
        click.echo(
            f"{len(replayed)} calls replayed on {candidate.name}; recorded latencies and fees are"
            " those of the system that was recorded"
        )
    ctx.exit(1 if bad or unanswered else 0)


async def _rerun(calls: dict[int, RecordedCall], candidate: Profile) -> list[Replayed]:
    environment = read_environment()

    def progress(one: Replayed) -> None:
        click.echo(f"line {one.line}: {one.call.agent} {one.outcome.replace('_', ' ')}", err=True)

    async with ProviderPool(provider_factory(candidate, environment)) as providers:
        router = Router(candidate, providers, environment=environment)
        return await rerun(calls, router, on_done=progress)


def _record(
    candidate: Profile,
    replayed: Sequence[Replayed],
    bad: Sequence[BadLine],
    rows: Sequence[AgentReplay],
) -> dict[str, Any]:
    return {
        "profile": candidate.name,
        "calls": len(replayed),
        "bad_lines": [{"line": line.number, "why": line.why} for line in bad],
        "unanswered": [
            {"line": one.line, "agent": one.call.agent, "outcome": one.outcome, "why": one.why}
            for one in replayed
            if one.routed is None
        ],
        "agents": [asdict(row) for row in rows],
    }


def _tell(row: AgentReplay) -> None:
    figures = [*row.figures, *([row.score] if row.score else [])]
    columns = ["", ">calls", ">recorded", ">candidate", ">difference", ">95 % interval", ">p"]
    title = f"{row.agent}: {row.answered} of {row.calls} answered"
    print_table(title, columns, [_cells(figure) for figure in figures])
    asked = ", ".join(f"{target} {count}" for target, count in sorted(row.targets.items()))
    click.echo(f"answered by {asked or 'nobody'}; {row.fallbacks} by a fallback")
    if row.agreement is not None:
        shown = row.agreement
        click.echo(
            f"agreement with the recorded answers, which is no quality: {shown.mean:.2f}"
            f" ({shown.low:.2f} to {shown.high:.2f}), {shown.measure}, {shown.calls} calls"
        )
    click.echo()


def _cells(figure: PairedFigure) -> list[str]:
    shown = {"latency_s": seconds, "cost_usd": _fee}.get(figure.name, _plain)
    ends = "not known" if figure.low is None else f"{shown(figure.low)} to {shown(figure.high)}"
    return [
        {"latency_s": "latency", "cost_usd": "cost", "output_tokens": "output tokens"}.get(
            figure.name, figure.name
        ),
        str(figure.calls),
        shown(figure.recorded),
        shown(figure.candidate),
        shown(figure.difference),
        ends,
        f"{figure.p:.3f}",
    ]


def _fee(value: float | None) -> str:
    """A fee or a difference of fees."""
    if value is None or value >= 0:
        return dollars(value)
    return f"-{dollars(-value)}"


def _plain(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def _tell_of_lines(bad: Sequence[BadLine], unanswered: Sequence[Replayed]) -> None:
    for line in bad:
        click.echo(f"line {line.number} is no recorded call: {line.why}")
    for one in unanswered:
        click.echo(f"line {one.line} {one.outcome.replace('_', ' ')}: {one.why}")
