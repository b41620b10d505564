"""``soma-bench costs``."""

from __future__ import annotations

from pathlib import Path

import click

from soma_bench.cli.options import read_target, store_option
from soma_bench.cli.output import dollars, json_option, print_json, print_table
from soma_bench.costs import (
    HARDWARE_USD,
    PER_MONTH,
    PLAN_USD,
    Scenario,
    pay_back_months,
    scenario,
    usual_scenarios,
)
from soma_bench.hardware.original import TARGET
from soma_bench.providers.prices import load_prices
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import load_profile, resolve
from soma_bench.settings import store_location
from soma_bench.types import AGENTS


@click.command(epilog="Example: soma-bench costs m4max --profile routing_profiles/mine.json")
@click.argument("run", required=False)
@click.option(
    "--cloud",
    default="claude:claude-sonnet-5-5",
    show_default=True,
    metavar="TARGET",
    help="What the cloud's part is reckoned with.",
)
@click.option(
    "--local",
    default=str(TARGET),
    show_default=True,
    metavar="TARGET",
    help="What one's own machine is reckoned with.",
)
@click.option("--profile", type=click.Path(path_type=Path), help="Also reckon this profile.")
@click.option(
    "--per-month",
    type=click.IntRange(1, 10**7),
    default=PER_MONTH,
    show_default=True,
    help="Analyses a month.",
)
@click.option(
    "--hardware",
    type=click.FloatRange(0, 10**7),
    default=HARDWARE_USD,
    show_default=True,
    help="Price of the machine in dollars.",
)
@store_option
@json_option
def costs(
    run: str | None,
    cloud: str,
    local: str,
    profile: Path | None,
    per_month: int,
    hardware: float,
    store: str | None,
    as_json: bool,
) -> None:
    """Reckon what analyses cost in the cloud, on one's own machine, or mixed, and the pay-back.

    With RUN its measured tokens and times count; what it has not measured, and everything without RUN, is reckoned with the original plan's tokens, and said to be. "hybrid" has the ReportWriter alone in the cloud.
    """
    evidence = _evidence(run, store)
    prices = load_prices()
    found = list(
        usual_scenarios(
            read_target(cloud, "--cloud"),
            read_target(local, "--local"),
            prices,
            evidence=evidence,
            per_month=per_month,
        )
    )
    if profile is not None:
        loaded = load_profile(profile)
        routes = {agent: resolve(loaded, agent).primary for agent in AGENTS}
        rows = evidence or loaded.evidence
        found.append(
            scenario(f"profile {loaded.name}", routes, prices, evidence=rows, per_month=per_month)
        )
    if as_json:
        print_json([_record(one, found[0], hardware) for one in found])
    else:
        _tell(found, hardware)


def _evidence(run: str | None, store: str | None) -> tuple[Evidence, ...]:
    if run is None:
        return ()
    from soma_bench.comparison import compare_run
    from soma_bench.sweeps.store import Store

    with Store(store_location(store)) as opened:
        return compare_run(opened, run).evidence


def _record(one: Scenario, cloud: Scenario, hardware: float) -> dict[str, object]:
    return {
        "scenario": one.name,
        "usd_per_analysis": one.usd,
        "usd_a_month": one.usd_a_month,
        "analyses_a_month": one.per_month,
        "basis": one.basis,
        "plan_usd_per_analysis": PLAN_USD.get(one.name),
        "pay_back_months": _months(one, cloud, hardware),
        "stages": [
            {
                "agent": stage.agent,
                "target": str(stage.target),
                "usd": stage.usd,
                "basis": stage.basis,
                "source": stage.source,
            }
            for stage in one.stages
        ],
    }


def _months(one: Scenario, cloud: Scenario, hardware: float) -> float | None:
    return pay_back_months(one.usd_a_month, cloud.usd_a_month, hardware) if one.is_local else None


def _tell(found: list[Scenario], hardware: float) -> None:
    rows = []
    for one in found:
        months = _months(one, found[0], hardware)
        never = "never" if one.is_local and one.usd_a_month is not None else ""
        rows.append(
            [
                one.name,
                dollars(one.usd),
                dollars(one.usd_a_month),
                f"{months:.0f} months" if months is not None else never,
                one.basis,
                dollars(PLAN_USD[one.name]) if one.name in PLAN_USD else "",
            ]
        )
    columns = ["scenario", ">an analysis", ">a month", ">pay-back", "tokens by", ">the plan said"]
    print_table(
        f"{found[0].per_month} analyses a month, a machine of ${hardware:,.0f}", columns, rows
    )
    for source in sorted({stage.source for one in found for stage in one.stages}):
        click.echo(f"prices: {source}")
