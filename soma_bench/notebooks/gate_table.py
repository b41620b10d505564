"""What the gate found, figure by figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from soma_bench.gate import Change, Gate
from soma_bench.notebooks.tables import styled_table
from soma_bench.plots.labels import AGENT_TITLES

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_UNITS = {"quality": "0 to 1", "latency": "s", "cost": "USD a call"}


def gate_table(gate: Gate) -> Styler:
    """Every figure before and now, its change with the 95 % interval, the margin and the verdict.

    Changes of quality are absolute, those of latency and cost shares.
    """
    rows = [
        {
            "agent": AGENT_TITLES[change.agent],
            "target": change.target,
            "figure": f"{change.figure} ({_UNITS[change.figure]})",
            "cases": change.cases,
            "before": change.baseline,
            "now": change.current,
            "change": _moved(change, change.change),
            "95 % interval": f"{_moved(change, change.low)} to {_moved(change, change.high)}"
            if change.low is not None
            else "",
            "margin": _moved(change, change.margin),
            "p": change.adjusted_p,
            "verdict": change.verdict,
            "": change.note,
        }
        for change in gate.changes
    ]
    return styled_table(rows, {"before": 3, "now": 3, "p": 3})


def _moved(change: Change, value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "?"
    return f"{value:+.3f}" if change.figure == "quality" else f"{value:+.1%}"
