"""Tables of predictions and of costs; every one says by what it was reckoned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from soma_bench.costs import PLAN_USD, Scenario, pay_back_months
from soma_bench.hardware.calibrate import Calibration, Residual
from soma_bench.hardware.model import pipeline_seconds
from soma_bench.hardware.original import PIPELINE
from soma_bench.hardware.plan import TargetPlan
from soma_bench.notebooks.tables import styled_table
from soma_bench.plots.labels import AGENT_TITLES

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_GIB = 1 << 30


def plan_table(plans: Sequence[TargetPlan]) -> Styler:
    """What each target would need, and whether it can run."""
    rows = [
        {
            "target": str(plan.target),
            "agent": AGENT_TITLES[plan.agent],
            "memory (GiB)": plan.memory and plan.memory.total / _GIB,
            "load (s)": plan.prediction and plan.prediction.load_s,
            "prefill (s)": plan.prediction and plan.prediction.prefill_s,
            "decode (s)": plan.prediction and plan.prediction.decode_s,
            "call (s)": plan.prediction and plan.prediction.total_s,
            "verdict": plan.verdict,
            "why": plan.reason,
            "basis": plan.basis,
        }
        for plan in plans
    ]
    seconds = ("load (s)", "prefill (s)", "decode (s)", "call (s)", "memory (GiB)")
    return styled_table(rows, dict.fromkeys(seconds, 1))


def calibration_table(calibration: Calibration) -> Styler:
    """What the predictions rest on, and how far off they were."""
    errors = {"on what was fitted": calibration.error, "left out": calibration.left_out_error}
    rows = [
        {
            "by": calibration.source,
            "of the bandwidth (%)": 100 * calibration.efficiency,
            "every call (s)": calibration.constant_s,
            **{
                f"error {name} (%)": None if error is None else 100 * error
                for name, error in errors.items()
            },
        }
    ]
    return styled_table(rows, {name: 1 for name in rows[0] if name != "by"})


def residual_table(residuals: Sequence[Residual]) -> Styler:
    """Measured calls beside their predictions; what no machine can have done is marked."""
    rows = [
        {
            "call": row.name,
            "measured (s)": row.measured_s,
            "predicted (s)": row.predicted_s,
            "error (%)": 100 * row.error,
            "of the peak bandwidth (%)": 100 * row.share,
            "": "inconsistent with the others" if row.implausible else "",
        }
        for row in residuals
    ]
    return styled_table(
        rows,
        {
            "measured (s)": 1,
            "predicted (s)": 1,
            "error (%)": 0,
            "of the peak bandwidth (%)": 0,
        },
    )


def original_pipeline_table() -> Styler:
    """The original plan's stages one after another, and with two of them side by side."""
    rows = [
        {"pipeline": order, "whole analysis (s)": pipeline_seconds(PIPELINE, order)}
        for order in ("sequential", "parallel")
    ]
    return styled_table(rows, {"whole analysis (s)": 1})


def cost_table(scenarios: Sequence[Scenario], hardware_usd: float) -> Styler:
    """Cost of an analysis and of a month, and when a machine has paid for itself.

    The first scenario is what the others are compared with.
    """
    rows = []
    for one in scenarios:
        months = pay_back_months(one.usd_a_month, scenarios[0].usd_a_month, hardware_usd)
        rows.append(
            {
                "scenario": one.name,
                "an analysis (USD)": one.usd,
                "a month (USD)": one.usd_a_month,
                "pay-back (months)": months if one.is_local else None,
                "tokens by": one.basis,
                "the plan said (USD)": PLAN_USD.get(one.name),
                "prices": "; ".join(sorted({stage.source for stage in one.stages})),
            }
        )
    return styled_table(
        rows,
        {
            "an analysis (USD)": 4,
            "a month (USD)": 2,
            "pay-back (months)": 0,
            "the plan said (USD)": 3,
        },
    )
