"""What the sweep view shows, in words: figures with their units and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.sweeps.running import RunFigures, Spend, TargetFigures

Stage = Literal[
    "planning",
    "running",
    "paused",
    "stopping",
    "done",
    "stopped",
    "failed",
    "watching",
    "complete",
    "left",
]

_STAGES: Mapping[Stage, str] = {
    "planning": "Planning: each model is asked what it is",
    "running": "Running",
    "paused": "Paused: the trial in flight is finished and kept, no other begins",
    "stopping": "Stopping after the trial in flight",
    "done": "Done",
    "stopped": "Stopped: what has ended is stored, and the next start resumes",
    "failed": "Ended by an error; what has ended is stored",
    "watching": "Watching a run that is executed elsewhere",
    "complete": "Every trial of the run has ended",
    "left": "No longer watching; the run itself goes on where it runs",
}

_LEAST_USD = 0.0001
"""Below this nobody reads the digits."""

RUNNING_NOTE = (
    "Running estimates: mean of the primary score over the cases that are through, with its 95 %"
    " interval. Looking at them while a sweep runs is not a test: who stops at what he sees chooses"
    " by chance. A race (soma-bench sweep --race) drops targets early with a stated error."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Which buttons do something now."""

    pause: bool = False
    resume: bool = False
    stop: bool = False


def panel_state(
    stage: Stage, figures: RunFigures | None, *, controls: Controls, name: str, error: str = ""
) -> dict[str, Any]:
    """The sweep view as JSON values; every text is plain text.

    Args:
        stage: what the sweep is doing.
        figures: the run so far; None before it is laid out.
        controls: which buttons do something.
        name: the sweep's name, shown until the run has an id.
        error: what ended the sweep, or the view of it.
    """
    state: dict[str, Any] = {
        "stage": stage,
        "stage_text": _STAGES[stage],
        "name": figures.run_id if figures else name,
        "error": error,
        "can": {"pause": controls.pause, "resume": controls.resume, "stop": controls.stop},
        "attached": stage in ("watching", "complete", "left"),
        "note": RUNNING_NOTE,
        "ended": 0,
        "planned": 0,
        "facts": [],
        "rows": [],
    }
    if figures is None:
        return state
    ended = f"{figures.ended:,} of {figures.planned:,} trials"
    if figures.backend_failures:
        ended += f", {figures.backend_failures:,} failed at the backend (they run again)"
    return state | {
        "ended": figures.ended,
        "planned": figures.planned,
        "facts": [
            ["Ended", ended],
            ["Spend so far", spend_text(figures.spend)],
            ["Time left", _time_left(figures)],
        ],
        "rows": [_row(row) for row in figures.targets],
    }


def spend_text(spend: Spend) -> str:
    """Fees and electricity apart, and how many prices are unknown."""
    parts = []
    if spend.fees_usd:
        parts.append(f"{_dollars(spend.fees_usd)} fees")
    if spend.electricity_usd:
        parts.append(f"{_dollars(spend.electricity_usd)} electricity")
    if spend.unknown:
        parts.append(f"unknown price of {spend.unknown:,} trials")
    return " + ".join(parts) or "nothing yet"


def duration_text(seconds: float) -> str:
    """A time for people, in seconds, minutes or hours."""
    if seconds < 0.01:
        return "under 0.01 s"
    if seconds < 100:
        return f"{seconds:.{0 if seconds >= 10 else 2}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _row(row: TargetFigures) -> dict[str, Any]:
    estimate = row.estimate
    return {
        "id": f"{row.agent} {row.target}",
        "agent": AGENT_TITLES[row.agent],
        "target": row.target,
        "ended": row.ended,
        "planned": row.planned,
        "ended_text": f"{row.ended:,} / {row.planned:,}",
        "interval": None if estimate is None else [estimate.mean, estimate.low, estimate.high],
        "estimate_text": (
            "no score yet"
            if estimate is None
            else f"{estimate.mean:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
        ),
        "cases_text": (
            "" if estimate is None else f"{row.metric}, {row.cases:,} case{'s' * (row.cases != 1)}"
        ),
        "failures_text": ", ".join(f"{name} {n:,}" for name, n in row.failures.items()) or "none",
        "mean_text": "" if row.mean_s is None else duration_text(row.mean_s),
        "left_text": _left(row.seconds_left),
        "spend_text": spend_text(row.spend) if row.answered else "",
    }


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return "none" if seconds == 0 else duration_text(seconds)


def _time_left(figures: RunFigures) -> str:
    if figures.ended == figures.planned:
        return "none"
    if figures.untimed:
        known = f"{duration_text(figures.seconds_left)} and " if figures.seconds_left else ""
        return f"{known}an unknown time for {figures.untimed} targets that were never measured"
    return (
        f"about {duration_text(figures.seconds_left)}, by the means of what is measured;"
        " predicted for the rest, as an upper bound"
    )


def _dollars(value: float) -> str:
    """A price with its first digits."""
    if value < _LEAST_USD:
        return f"under ${_LEAST_USD:.4f}"
    decimals = 2 if value >= 1 else 1 - math.floor(math.log10(value))
    return f"${value:,.{decimals}f}"
