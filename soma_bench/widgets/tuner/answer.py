"""The choice for a form, and what of it is shown at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from soma_bench.errors import SomaError
from soma_bench.optimize import Infeasible, Plan, Solution, optimize
from soma_bench.optimize.profiles import route_reason
from soma_bench.routing.evidence import Evidence
from soma_bench.widgets.tuner.clock import clock
from soma_bench.widgets.tuner.demands import Demands
from soma_bench.widgets.tuner.doubt import doubts, doubts_text
from soma_bench.widgets.tuner.sheet import Sheet, sum_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the optimiser says to one form."""

    demands: Demands
    result: Solution | Infeasible | SomaError
    """An error is what the form or the run has wrong, e.g. a limit on a price nobody knows."""
    playing: tuple[Evidence, ...] = ()
    """What was chosen from."""


def answer(sheet: Sheet, demands: Demands) -> Answer:
    """Ask the optimiser; what it refuses is part of the answer."""
    try:
        playing = demands.playing(sheet.evidence)
        result = optimize(
            playing, demands.constraints, pipeline=demands.pipeline, objective=demands.objective
        )
    except SomaError as error:
        return Answer(demands=demands, result=error)
    return Answer(demands=demands, result=result, playing=playing)


def answer_as_json(sheet: Sheet, given: Answer) -> dict[str, Any]:
    """What is sent to the browser after each move: places of targets, and figures."""
    result = given.result
    told: dict[str, Any] = {"revision": given.demands.revision, "run": given.demands.run}
    if isinstance(result, SomaError):
        return {**told, "state": "error", "message": str(result)}
    if isinstance(result, Infeasible):
        conflict = zip(result.conflict, result.would_do, strict=True)
        return {
            **told,
            "state": "infeasible",
            "message": result.message,
            "conflict": [{"name": name, "would_do": limit} for name, limit in conflict],
        }
    return {**told, "state": "chosen", **_chosen(sheet, given, result)}


def in_words(given: Answer) -> str:
    """The choice in one line."""
    if isinstance(given.result, SomaError):
        return str(given.result)
    if isinstance(given.result, Infeasible):
        return given.result.message
    choices = given.result.plan.choices
    return "; ".join(f"{choice.agent} on {choice.primary.target}" for choice in choices)


def _chosen(sheet: Sheet, given: Answer, solution: Solution) -> dict[str, Any]:
    plan = solution.plan
    low, high = sum_interval([choice.primary for choice in plan.choices])
    rows = [row for c in plan.choices for row in (c.primary, c.fallback) if row is not None]
    return {
        "choices": [
            {
                "agent": choice.agent,
                "primary": sheet.places[choice.agent, choice.primary.target],
                "fallback": None
                if choice.fallback is None
                else sheet.places[choice.agent, choice.fallback.target],
                "why": route_reason(choice, given.playing),
            }
            for choice in plan.choices
        ],
        "pipeline": solution.pipeline,
        "quality": plan.quality,
        "quality_low": low,
        "quality_high": high,
        "latency_p50_s": plan.latency_p50_s,
        "latency_p95_s": plan.latency_p95_s,
        "degraded_latency_s": plan.degraded_latency_s,
        "usd_per_1000": plan.cost_usd_per_1000,
        "synthetic": any(row.synthetic for row in rows),
        "limits": [
            {"name": slack.name, "unit": slack.unit, "limit": slack.limit, "used": slack.used}
            for slack in plan.slacks
        ],
        "stages": _stages(given, solution),
        "memory": _memory(sheet, plan),
        "doubts": doubts_text(doubts(sheet.comparison, plan, given.playing)),
    }


def _stages(given: Answer, solution: Solution) -> list[dict[str, Any]]:
    """Each stage on a clock of medians, and where it would end at its own 95th percentile."""
    constraints = solution.constraints
    median = clock(solution.plan, solution.pipeline, constraints, given.playing, "p50")
    late = clock(solution.plan, solution.pipeline, constraints, given.playing, "p95")
    return [
        {
            "agent": stage.agent,
            "start_s": stage.start_s,
            "load_s": stage.load_s,
            "end_s": stage.end_s,
            "late_end_s": stage.start_s + slow.end_s - slow.start_s,
            "critical": stage.is_critical,
        }
        for stage, slow in zip(median, late, strict=True)
    ]


def _memory(sheet: Sheet, plan: Plan) -> dict[str, Any]:
    sizes = sheet.memory_bytes
    resident = [{"model": model, "bytes": sizes.get(model)} for model in plan.resident]
    together = sum(sizes.get(model, 0) for model in plan.resident)
    return {
        "peak_bytes": plan.memory_bytes,
        "resident": resident,
        "swapped": list(plan.swapped),
        "swapped_bytes": None if plan.memory_bytes is None else plan.memory_bytes - together,
    }
