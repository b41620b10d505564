"""Tables of the notebooks that look at one thing each: backends, latency, thinking, quantization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from soma_bench.budgets import Step
from soma_bench.call_times import CallTime
from soma_bench.doctor import Report
from soma_bench.notebooks.orders import OrderTime
from soma_bench.notebooks.tables import MARK, styled_table
from soma_bench.plots.labels import AGENT_TITLES, thinking_name
from soma_bench.quantizations import Quantized

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_MIB = 1 << 20


def backend_table(report: Report) -> Styler:
    """Which backends answer on this machine, and what they have."""
    rows = [
        {
            "provider": one.provider,
            "usable": "yes" if one.usable else "no",
            "models": ", ".join(sorted(one.models)[:6]) + (", ..." if len(one.models) > 6 else ""),
            "why not": one.reason or "",
        }
        for one in report.providers
    ]
    return styled_table(rows, {})


def call_table(rows: Sequence[CallTime]) -> Styler:
    """The parts of every target's calls in seconds, medians unless the column says otherwise."""
    shown = [
        {
            "agent": AGENT_TITLES[row.agent],
            "target": row.target + (MARK if row.synthetic else ""),
            "n": row.n,
            "quiet": row.clean,
            "queue (s)": row.queue_s,
            "prefill (s)": row.prefill_s,
            "first token (s)": row.first_token_s,
            "decode (s)": row.decode_s,
            "p50 (s)": row.total_p50_s,
            "p95 (s)": row.total_p95_s,
            "load (s)": row.load_s,
        }
        for row in rows
    ]
    seconds = ("queue", "prefill", "first token", "decode", "p50", "p95", "load")
    return styled_table(shown, {f"{name} (s)": 2 for name in seconds}, empty="not measured")


def order_table(rows: Sequence[OrderTime]) -> Styler:
    """What a whole analysis takes in either order."""
    shown = [
        {
            "order of the stages": row.order,
            "reckoned from medians (s)": row.reckoned_s,
            "measured p50 (s)": "not measured" if row.measured_s is None else row.measured_s,
            "analyses": row.analyses,
            "ended with a report": row.finished,
        }
        for row in rows
    ]
    return styled_table(shown, {"reckoned from medians (s)": 1, "measured p50 (s)": 1})


def step_table(steps: Sequence[Step]) -> Styler:
    """What each step of thinking bought, by agent and model."""
    rows = [
        {
            "agent": AGENT_TITLES[step.agent],
            "model": step.model,
            "from": thinking_name(step.less) or "as the model does",
            "to": thinking_name(step.more) or "as the model does",
            "cases": step.cases,
            "quality": step.quality.mean,
            "low": step.quality.low,
            "high": step.quality.high,
            "output tokens": step.output_tokens,
            "thinking": step.thinking_tokens,
            "time (s)": step.seconds,
            "quality for 100 tokens": step.quality_per_100_tokens,
        }
        for step in steps
    ]
    places = {"quality": 3, "low": 3, "high": 3, "time (s)": 2, "quality for 100 tokens": 3}
    return styled_table(rows, places, empty="no model was asked with more than one setting")


def quantization_table(rows: Iterable[Quantized]) -> Styler:
    """Quality, speed and size of every target whose quantization is known."""
    shown = [
        {
            "agent": AGENT_TITLES[one.row.agent],
            "target": one.row.target + (MARK if one.row.synthetic else ""),
            "bits per weight": one.bits,
            "weights (MiB)": None if one.weights_bytes is None else one.weights_bytes / _MIB,
            "cases": one.row.cases,
            "quality": one.row.quality,
            "low": one.row.quality_low,
            "high": one.row.quality_high,
            "decoding (tokens/s)": one.decode_tokens_s,
            "p50 (s)": one.row.latency_p50_s,
        }
        for one in rows
    ]
    places = {"bits per weight": 1, "quality": 3, "low": 3, "high": 3, "p50 (s)": 2}
    return styled_table(
        shown,
        {**places, "weights (MiB)": 0, "decoding (tokens/s)": 0},
        empty="no target names a quantization whose bits are known",
    )
