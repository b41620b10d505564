"""Everything that the notebook on hardware shows, reckoned once."""

from __future__ import annotations

from dataclasses import dataclass

from soma_bench.comparison import compare_run
from soma_bench.costs import Scenario, usual_scenarios
from soma_bench.hardware import Calibration, Machine, machine
from soma_bench.hardware.calibrate import UNCALIBRATED, Residual
from soma_bench.hardware.measured import calibrate_on_run
from soma_bench.hardware.original import MACHINE, original_calibration
from soma_bench.hardware.plan import TargetPlan, plan_sweep
from soma_bench.notebooks.settings import HardwareSettings
from soma_bench.providers.prices import load_prices
from soma_bench.routing.evidence import Evidence
from soma_bench.sweeps.spec import load_sweep
from soma_bench.sweeps.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What is predicted, and by what."""

    machine: Machine
    calibration: Calibration
    original: tuple[Residual, ...]
    """The original plan's measurements beside the fit to the three that agree."""
    plans: tuple[TargetPlan, ...]
    scenarios: tuple[Scenario, ...]


def look_ahead(settings: HardwareSettings) -> Ahead:
    """Predict a sweep's targets on a machine, and reckon what analyses cost.

    Raises:
        ConfigError: the sweep, the machine, the store or the run is wrong.
    """
    where = machine(settings.machine)
    fitted, residuals = original_calibration()
    calibration = fitted if where.name == MACHINE else UNCALIBRATED
    evidence: tuple[Evidence, ...] = ()
    if settings.run is not None:
        with Store(settings.store) as store:
            calibration = calibrate_on_run(store, settings.run, where)
            evidence = compare_run(store, settings.run).evidence
    sweep = load_sweep(settings.sweep_file)
    return Ahead(
        machine=where,
        calibration=calibration,
        original=residuals,
        plans=plan_sweep(
            sweep,
            settings.sweep_file.parent,
            where,
            calibration,
            max_latency_s=settings.max_latency_s,
        ),
        scenarios=usual_scenarios(
            settings.cloud,
            settings.local,
            load_prices(),
            evidence=evidence,
            per_month=settings.analyses_a_month,
        ),
    )
