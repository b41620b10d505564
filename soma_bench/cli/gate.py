"""``soma-bench gate``."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import click

from soma_bench.cli.options import agents_option, store_option
from soma_bench.cli.output import json_option, print_json, print_table, seconds
from soma_bench.gate import LEVEL, Change, Gate, Margins, gate_run
from soma_bench.routing.profile import load_profile
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName

_DEFAULT = Margins()


@click.command(epilog="Example: soma-bench gate m4max --baseline routing_profiles/mine.json")
@click.argument("run")
@click.option(
    "--baseline", type=click.Path(path_type=Path), required=True, help="Profile to hold it against."
)
@click.option(
    "--margin",
    type=float,
    default=_DEFAULT.quality,
    show_default=True,
    help="Quality that may be lost, absolute.",
)
@click.option(
    "--latency-margin",
    type=float,
    default=_DEFAULT.latency,
    show_default=True,
    help="Share by which calls may take longer.",
)
@click.option(
    "--cost-margin",
    type=float,
    default=_DEFAULT.cost,
    show_default=True,
    help="Share by which calls may cost more.",
)
@agents_option
@click.option(
    "--level",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=LEVEL,
    show_default=True,
    help="Chance of a false alarm.",
)
@store_option
@json_option
@click.pass_context
def gate(
    ctx: click.Context,
    run: str,
    baseline: Path,
    margin: float,
    latency_margin: float,
    cost_margin: float,
    agents: tuple[AgentName, ...],
    level: float,
    store: str | None,
    as_json: bool,
) -> None:
    """Hold RUN against a profile; exit code 1 when quality fell, or latency or cost rose.

    Each primary of the profile is compared with itself in RUN (a run's id, a sweep's name, or "latest"): on the same cases where the store has the profile's own run, else with the figures in the profile. A change counts when it is beyond its margin and beyond chance; the level holds for the whole gate. An agent that cannot be compared does not pass.
    """
    margins = Margins(quality=margin, latency=latency_margin, cost=cost_margin)
    profile = load_profile(baseline)
    with Store(store_location(store)) as opened:
        found = gate_run(opened, run, profile, margins, agents=agents or AGENTS, level=level)
    if as_json:
        changes = [_record(change) for change in found.changes]
        print_json({"passed": found.passed, "level": found.level, "changes": changes})
    else:
        _tell(found)
    ctx.exit(0 if found.passed else 1)


def _record(change: Change) -> dict[str, object]:
    record: dict[str, object] = asdict(change)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
        if name not in ("error", "is_log", "degrees")
    }


def _tell(found: Gate) -> None:
    columns = [
        "agent",
        "target",
        "figure",
        ">cases",
        ">before",
        ">now",
        ">change",
        ">95 % interval",
        ">margin",
        ">p",
        ">would see",
        "verdict",
        "",
    ]
    print_table("gate", columns, [_cells(change) for change in found.changes])
    worse = sum(change.verdict == "worse" for change in found.changes)
    missing = sum(change.verdict == "not compared" for change in found.changes)
    word = "passed" if found.passed else "not passed"
    click.echo(f"\n{word}: {worse} worse, {missing} not compared; level {found.level:g} for all")
    if any(change.how == "unpaired" for change in found.changes):
        click.echo("unpaired figures need larger changes; keep the baseline's run in the store")


def _cells(change: Change) -> list[str]:
    p = "" if change.how == "none" else f"{change.adjusted_p:.3f}"
    return [
        change.agent,
        change.target,
        change.figure,
        str(change.cases or ""),
        _figure(change, change.baseline),
        _figure(change, change.current),
        _moved(change, change.change),
        f"{_moved(change, change.low)} to {_moved(change, change.high)}" if p else "",
        _moved(change, change.margin) if p else "",
        p,
        _moved(change, change.detectable),
        change.verdict,
        change.note,
    ]


def _figure(change: Change, value: float | None) -> str:
    if value is None:
        return ""
    if change.figure == "latency":
        return seconds(value)
    return f"{value:.3f}" if change.figure == "quality" else f"${1000 * value:.2f}/1000"


def _moved(change: Change, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "?" if value is not None else ""
    return f"{value:+.3f}" if change.figure == "quality" else f"{value:+.1%}"
