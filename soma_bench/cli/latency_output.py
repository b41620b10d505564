"""How ``soma-bench latency`` shows its report to people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from soma_bench.cli.output import print_table
from soma_bench.latency.baseline import Change
from soma_bench.latency.harness import TRUSTED_ERROR, HarnessError
from soma_bench.latency.measure import describe_load
from soma_bench.latency.percentiles import PERCENTS, Percentile
from soma_bench.latency.report import Level, Report, TargetReport
from soma_bench.latency.samples import Sample

_LEAST_CONCURRENCY = 0.9
"""Share of the concurrency asked for below which the report says that it was not held."""


def print_report(report: Report) -> None:
    """Print a report as tables and remarks."""
    _print_machine(report)
    _print_harness(report.harness)
    for target in report.targets:
        click.echo()
        _print_target(target)


def print_changes(then: Report, now: Report, changes: Sequence[Change]) -> None:
    """Print what has changed since an earlier report."""
    click.echo()
    rows = [
        [
            f"{change.target}{f' ({change.agent})' if change.agent else ''}",
            change.load,
            change.measure,
            _ms(change.then_p50_s),
            _ms(change.now_p50_s),
            f"{change.relative:+.1%}",
            f"{change.p:.2g}",
            "SLOWER" if change.slower else "",
        ]
        for change in changes
    ]
    columns = ["target", "load", "measure", ">p50 then", ">p50 now", ">change", ">p", ""]
    print_table(f"against the baseline of {then.measured_at}", columns, rows)
    if then.environment.get("hardware") != now.environment.get("hardware"):
        click.echo("note: the baseline was measured on other hardware")


def _print_machine(report: Report) -> None:
    hardware = report.environment["hardware"]
    click.echo(
        f"{report.measured_at}, {hardware['cpu']}, {hardware['cores']} cores,"
        f" {hardware['memory_bytes'] / (1 << 30):.0f} GiB, {hardware['system']}"
    )


def _print_harness(errors: Sequence[HarnessError]) -> None:
    rows = [
        [
            str(error.concurrency),
            measure.measure,
            _ms(measure.true_p50_s),
            _ms(measure.reported_p50_s),
            f"{_ms(measure.error_p50_s)} ({measure.relative:+.1%})",
            _ms(measure.error_p95_s),
        ]
        for error in errors
        for measure in error.measures
    ]
    columns = [">clients", "measure", ">true p50", ">reported p50", ">error p50", ">error p95"]
    print_table("harness's own error, against a loopback server of known timing", columns, rows)
    for error in errors:
        if not error.trusted:
            click.echo(
                f"note: at {error.concurrency} clients the harness itself is off by more than"
                f" {TRUSTED_ERROR:.0%} of such short answers; the machine is too busy, or too small"
                " for so many clients"
            )


def _print_target(target: TargetReport) -> None:
    synthetic = " [synthetic weights]" if target.identity.synthetic else ""
    click.echo(f"{target.target}{synthetic}: {target.work}")
    for sample in target.cold:
        click.echo(f"cold: {_cold(sample)}")
    for level in target.levels:
        _print_level(level)


def _cold(sample: Sample) -> str:
    if sample.failure is not None:
        return f"failed ({sample.failure})"
    return (
        f"load {_ms(sample.load_s)}, first token {_ms(sample.first_token_s)},"
        f" total {_ms(sample.total_s)}, loading included"
    )


def _print_level(level: Level) -> None:
    rows = [
        [measure.name, str(measure.n), *map(_percentile, measure.percentiles)]
        for measure in level.measures
    ]
    columns = ["measure", ">n", *(f">p{percent:g}" for percent in PERCENTS)]
    title = f"warm, {describe_load(level.load)} ({level.loop} loop), {level.measured} requests"
    print_table(title, columns, rows)
    for line in _remarks(level):
        click.echo(line)


def _remarks(level: Level) -> list[str]:
    through = level.throughput
    lines = [
        f"throughput: {through.requests_per_s:.3g} requests/s,"
        f" {_number(through.output_tokens_per_s)} output tokens/s,"
        f" {_number(through.tokens_per_s)} tokens/s in and out,"
        f" {through.effective_concurrency:.2f} under way on average"
    ]
    if level.goodput:
        good = level.goodput
        limits = ", ".join(f"{name} <= {_ms(limit)}" for name, limit in good.objectives.items())
        lines.append(
            f"goodput: {good.share:.1%} [{good.low:.1%}, {good.high:.1%}] of requests,"
            f" {good.requests_per_s:.3g} a second, within {limits}"
        )
    lines.append(
        f"tokens on average: {_number(level.mean_prompt_tokens)} in,"
        f" {_number(level.mean_cached_tokens)} of them from a cache,"
        f" {_number(level.mean_output_tokens)} out;"
        f" {level.stopped_early} answers ended before their limit"
    )
    lines.append(_steady(level))
    wanted = level.load.concurrency
    if wanted and through.effective_concurrency < _LEAST_CONCURRENCY * wanted:
        lines.append(
            f"note: {through.effective_concurrency:.2f} of {wanted} requests were under way on"
            " average; the harness spaced them out, since it could not time more of them rightly"
        )
    if level.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in level.failures.items())
        stopped = "; stopped there" if level.gave_up else ""
        lines.append(f"failed: {kinds}{stopped}; they count in goodput and in no percentile")
    if level.reloads:
        lines.append(f"note: {level.reloads} requests found the model unloaded and are left out")
    if level.machine.busy:
        lines.append(
            f"note: other processes took {level.machine.other_cpu_share:.0%} of the CPU meanwhile"
        )
    if level.machine.power_mode:
        lines.append(f"power mode: {level.machine.power_mode}")
    return lines


def _steady(level: Level) -> str:
    found = level.steadiness
    if found.change is None or found.p is None:
        return "steady state: too few requests to tell"
    change = f"second half {found.change:+.1%} against the first, trend p = {found.p:.2g}"
    if found.verdict == "steady":
        return f"steady state: yes ({change})"
    return f"steady state: NO ({change}); warm up longer, or let the machine cool, and repeat"


def _percentile(found: Percentile) -> str:
    if found.value is None:
        return f"too few, needs {found.needed}"
    return f"{_ms(found.value)} [{_ms(found.low)}, {_ms(found.high)}]"


def _ms(value_s: float | None) -> str:
    if value_s is None:
        return "?"
    return f"{value_s:.2f} s" if abs(value_s) >= 1 else f"{value_s * 1e3:.1f} ms"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"
