"""``soma-bench compare``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import click

from soma_bench.cli.options import store_option
from soma_bench.cli.output import (
    dollars,
    json_option,
    print_json,
    print_table,
    seconds,
)
from soma_bench.comparison import Comparison, Samples, compare_run, headline_figures
from soma_bench.routing.evidence import Evidence
from soma_bench.settings import store_location
from soma_bench.standing import how_sure, standing
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS

_COLUMNS = [
    "target",
    ">n",
    ">mean",
    ">95 % interval",
    "against the best",
    ">unread",
    ">p50",
    ">p95",
    ">cold",
    ">busy",
    ">crowded",
    ">prompt tok",
    ">output tok",
    ">thinking",
    ">memory",
    ">1000 calls",
    "beside it",
]


@click.command(epilog="Example: soma-bench compare demo --json")
@click.argument("run")
@store_option
@json_option
def compare(run: str, store: str | None, as_json: bool) -> None:
    """Compare the targets of RUN (a run's id, a sweep's name, or "latest"), agent by agent.

    "mean" is the agent's primary metric with its 95 % interval over cases; "unread" counts
    answers that did not parse, were cut off or were refused, each of which scores 0. "cold" counts
    trials that loaded the model, "busy" those beside which other processes took much of the CPU, and
    "crowded" those beside which the sweep had other calls under way, up to so many at a time: p50
    and p95 are over the other trials, or over all where there are none. "beside it" shows some
    figures of the agent and the rates of failed answers by kind; --json has all of them.

    "against the best" compares each target with the agent's highest mean on the cases that both have
    answered (sign-flip test, Holm over the whole run): what is "not told apart" may be as good, and
    about so many more cases would tell. After a race it says which targets may be the best; the
    chosen one is shown by the cases that were held out, where there are any.
    """
    with Store(store_location(store)) as opened:
        comparison = compare_run(opened, run)
    if as_json:
        print_json(
            {
                "run_id": comparison.run.id,
                "planned": comparison.planned,
                "finished": comparison.finished,
                "evidence": [row.model_dump(mode="json") for row in comparison.evidence],
                "samples": [
                    {"agent": agent, "target": target, **asdict(samples)}
                    for (agent, target), samples in comparison.samples.items()
                ],
                "details": [
                    {"agent": agent, "target": target, **figures}
                    for (agent, target), figures in comparison.details.items()
                ],
                "breakdowns": [
                    {"agent": agent, "target": target, **figures}
                    for (agent, target), figures in comparison.breakdowns.items()
                ],
                "against_best": [
                    {
                        **asdict(row),
                        "is_worse": row.is_worse,
                        "difference": row.difference._asdict(),
                    }
                    for row in comparison.against_best.values()
                ],
                "designs": [asdict(design) for design in comparison.designs.values()],
                "looks": [asdict(look) for looks in comparison.looks.values() for look in looks],
                "provenance": comparison.provenance.model_dump(mode="json"),
            }
        )
        return
    _print(comparison)


def _print(comparison: Comparison) -> None:
    click.echo(f"run {comparison.run.id}: {comparison.finished} of {comparison.planned} trials\n")
    for agent in AGENTS:
        rows = [row for row in comparison.evidence if row.agent == agent]
        if rows:
            cells = [
                _cells(
                    row,
                    standing(comparison, row),
                    headline_figures(comparison, row),
                    comparison.samples[agent, row.target],
                )
                for row in rows
            ]
            print_table(f"{agent}: {rows[0].metric}", _COLUMNS, cells)
            told = how_sure(comparison, agent)
            if told:
                click.echo(told)
            click.echo()
    if not all(samples.clean for samples in comparison.samples.values()):
        click.echo(
            "! every trial was cold, busy or crowded: measure again on a quiet machine, with"
            " concurrency: 1 in the sweep's limits"
        )
    if any(row.synthetic for row in comparison.evidence):
        click.echo("* synthetic weights: derived for tests, no evidence about a deployable model")


def _cells(
    row: Evidence, standing: str, figures: Mapping[str, float], samples: Samples
) -> list[str]:
    memory = "?" if row.memory_bytes is None else f"{row.memory_bytes / (1 << 20):.0f} MiB"
    return [
        row.target + (" *" if row.synthetic else ""),
        str(row.n),
        f"{row.quality:.3f}",
        f"{row.quality_low:.3f} to {row.quality_high:.3f}",
        standing,
        str(row.answer_failures),
        seconds(row.latency_p50_s),
        seconds(row.latency_p95_s) + ("" if samples.clean else " !"),
        str(samples.cold),
        str(samples.busy),
        f"{samples.crowded} (up to {samples.concurrency})" if samples.crowded else "0",
        _tokens(row.prompt_tokens),
        _tokens(row.output_tokens),
        _tokens(row.thinking_tokens),
        memory,
        dollars(None if row.cost_usd is None else 1000 * row.cost_usd),
        ", ".join(f"{name} {value:.2f}" for name, value in figures.items()),
    ]


def _tokens(mean: float | None) -> str:
    return "?" if mean is None else f"{mean:.0f}"
