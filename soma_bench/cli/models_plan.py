"""The part of ``soma-bench models`` that predicts what a machine can run, before any download."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from soma_bench.cli.output import gibibytes, print_json, print_table, seconds
from soma_bench.errors import ConfigError
from soma_bench.hardware import Calibration, Machine, machine
from soma_bench.hardware.calibrate import UNCALIBRATED
from soma_bench.hardware.measured import calibrate_on_run
from soma_bench.hardware.original import MACHINE, original_calibration
from soma_bench.hardware.plan import TargetPlan, plan_sweep
from soma_bench.settings import store_location
from soma_bench.sweeps.spec import load_sweep
from soma_bench.sweeps.store import Store


def plan(
    file: Path,
    *,
    machine_name: str,
    max_latency_s: float | None,
    run: str | None,
    store: str | None,
    as_json: bool,
) -> bool:
    """Show what each target of a sweep would need of a machine.

    Returns:
        Whether every target can run there, as far as that is known.

    Raises:
        ConfigError: the sweep, the machine or the run is wrong.
    """
    if max_latency_s is not None and not 0 < max_latency_s < float("inf"):
        raise ConfigError(f"--max-latency: {max_latency_s:g} is not a time in seconds")
    where = machine(machine_name)
    calibration = _calibration(where, run, store)
    rows = plan_sweep(
        load_sweep(file), file.parent, where, calibration, max_latency_s=max_latency_s
    )
    if as_json:
        print_json(_record(where, calibration, rows))
    else:
        _tell(where, calibration, rows)
    return all(row.can_run for row in rows)


def _calibration(where: Machine, run: str | None, store: str | None) -> Calibration:
    if run is not None:
        with Store(store_location(store)) as opened:
            return calibrate_on_run(opened, run, where)
    return original_calibration(where)[0] if where.name == MACHINE else UNCALIBRATED


def _tell(where: Machine, calibration: Calibration, rows: tuple[TargetPlan, ...]) -> None:
    columns = ["target", "agent", ">memory", ">load", ">prefill", ">decode", ">call", "verdict", ""]
    print_table(f"predicted for {where.name}", columns, [_cells(row) for row in rows])
    room = gibibytes(where.working_set_bytes)
    speed = calibration.efficiency * where.bandwidth / 1e9
    click.echo(
        f"\n{room} for models; {speed:.0f} GB/s while decoding ({calibration.efficiency:.0%})"
    )
    click.echo(f"by {calibration.source}; {_error(calibration)}")
    click.echo("predictions, no evidence: measure before you choose")


def _cells(row: TargetPlan) -> list[str]:
    guess = row.prediction
    times = (guess.load_s, guess.prefill_s, guess.decode_s, guess.total_s) if guess else (None,) * 4
    memory = None if row.memory is None else row.memory.total
    shown = [str(row.target), row.agent, gibibytes(memory), *map(seconds, times)]
    return [*shown, row.verdict, row.reason]


def _error(calibration: Calibration) -> str:
    if calibration.error is None:
        return "error unknown"
    fresh = calibration.left_out_error
    beside = "" if fresh is None else f", {fresh:.1%} on calls left out of the fit"
    return f"error {calibration.error:.1%} on {calibration.n} calls{beside}"


def _record(
    where: Machine, calibration: Calibration, rows: tuple[TargetPlan, ...]
) -> dict[str, Any]:
    fit = asdict(calibration)
    del fit["residuals"]
    return {
        "basis": "predicted",
        "machine": asdict(where),
        "calibration": fit,
        "targets": [
            {
                "agent": row.agent,
                "target": str(row.target),
                "verdict": row.verdict,
                "reason": row.reason,
                "basis": row.basis,
                "weights_bytes": row.weights and row.weights.size_bytes,
                "weights_from": row.weights and row.weights.source,
                "context_bytes": row.memory and row.memory.context,
                "memory_bytes": row.memory and row.memory.total,
                "prompt_tokens": row.work and row.work.prompt_tokens,
                "output_tokens": row.work and row.work.output_tokens,
                "load_s": row.prediction and row.prediction.load_s,
                "prefill_s": row.prediction and row.prediction.prefill_s,
                "decode_s": row.prediction and row.prediction.decode_s,
                "total_s": row.prediction and row.prediction.total_s,
            }
            for row in rows
        ],
    }
