"""Tables for notebooks: pandas frames with words, units and alignment; ``.data`` is the frame itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from soma_bench.comparison import FAILURE_RATES, Comparison, headline_figures
from soma_bench.optimize import Infeasible, Plan, Slack
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.routing.difference import figures
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile, resolve
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.estimate import ModelEstimate
from soma_bench.tuning import Tuning
from soma_bench.types import AGENTS, AgentName, Target

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_MIB, _GIB = 1 << 20, 1 << 30
MARK = "\N{NO-BREAK SPACE}*"
"""Stands behind a target with synthetic weights."""
_STYLES: list[Any] = [
    # Whatever is long breaks before the page scrolls sideways; figures stay whole.
    {"selector": "td", "props": "vertical-align: top; overflow-wrap: anywhere"},
    {"selector": "th", "props": "font-weight: 600; text-align: left; vertical-align: bottom"},
    {"selector": "caption", "props": "text-align: left; font-weight: 600; padding: 0.3em 0"},
]


def estimate_table(estimates: Sequence[ModelEstimate]) -> Styler:
    """What each model's part of a sweep will take."""
    rows = [
        {
            "model": row.model,
            "trials": row.trials,
            "to run": row.missing,
            "weights (MiB)": None if row.weights_bytes is None else row.weights_bytes / _MIB,
            "time (s)": row.seconds,
            "time is": row.basis,
            "cost (USD)": row.cost_usd,
        }
        for row in estimates
    ]
    return styled_table(rows, {"weights (MiB)": 0, "time (s)": 0, "cost (USD)": 4})


def tally_table(trials: Iterable[Mapping[str, Any]], by: Literal["agent", "target"]) -> Styler:
    """How the trials of a run ended, by agent or by target: counts, tokens and time."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for trial in trials:
        groups[trial[by]].append(trial)
    rows = []
    for name, group in groups.items():
        done = [trial for trial in group if trial["status"] == "done"]
        rows.append(
            {
                by: name,
                "ended": len(group),
                "failed": len(group) - len(done),
                "cut off": sum(trial["finish"] == "length" for trial in done),
                "prompt tokens": _total(done, "prompt_tokens"),
                "of them cached": _total(done, "cached_tokens"),
                "output tokens": _total(done, "output_tokens"),
                "of them thinking": _total(done, "thinking_tokens"),
                "time (s)": _total(done, "total_s"),
            }
        )
    return styled_table(rows, {"time (s)": 1})


def failure_table(trials: Iterable[Mapping[str, Any]]) -> Styler:
    """Each trial that ended with a backend's failure, and what the backend said."""
    return styled_table(
        [
            {name: trial[name] for name in ("agent", "target", "case_id", "repeat", "error")}
            for trial in trials
            if trial["status"] == "error"
        ],
        {},
        empty="no trial ended with a backend's failure",
    )


def comparison_table(comparison: Comparison, agent: AgentName) -> Styler:
    """An agent's targets, the best mean first, as `soma-bench compare` ranks them."""
    rows = []
    for row in comparison.evidence:
        if row.agent != agent:
            continue
        rows.append(
            {
                "target": _marked(row),
                "n": row.n,
                row.metric: row.quality,
                "95 % interval": f"{row.quality_low:.3f} to {row.quality_high:.3f}",
                "unread": row.answer_failures,
                "p50 (s)": row.latency_p50_s,
                "p95 (s)": row.latency_p95_s,
                "output tokens": row.output_tokens,
                "thinking tokens": row.thinking_tokens,
                "memory (MiB)": None if row.memory_bytes is None else row.memory_bytes / _MIB,
            }
        )
    metric = next((row.metric for row in comparison.evidence if row.agent == agent), "")
    places = {metric: 3, "p50 (s)": 2, "p95 (s)": 2}
    whole = {"output tokens": 0, "thinking tokens": 0, "memory (MiB)": 0}
    table = styled_table(rows, {**places, **whole}, empty="not measured")
    return table.set_caption(AGENT_TITLES[agent])


def details_table(comparison: Comparison, agent: AgentName) -> Styler:
    """What was measured of an agent's targets beside the primary metric, in the same order."""
    shown = {
        _marked(row): headline_figures(comparison, row)
        for row in comparison.evidence
        if row.agent == agent
    }
    named = (*SCORER_BY_AGENT[agent].headline, *FAILURE_RATES)
    columns = [name for name in named if any(name in known for known in shown.values())]
    rows = [
        {
            "target": target,
            # A kind of failure that has not occurred is not unknown: its rate is 0.
            **{
                _spoken(name): known.get(name, 0.0 if name in FAILURE_RATES else None)
                for name in columns
            },
        }
        for target, known in shown.items()
    ]
    table = styled_table(rows, dict.fromkeys(map(_spoken, named), 2), empty="not measured")
    return table.set_caption(f"{AGENT_TITLES[agent]}, beside the primary metric")


def _marked(row: Evidence) -> str:
    return row.target + (MARK if row.synthetic else "")


def _spoken(name: str) -> str:
    """A figure's name in words, between which a narrow column's head may break."""
    return name.replace("_", " ")


def routing_table(routing: Profile | Infeasible) -> Styler:
    """Each agent's route with the reason for it, or why there is none."""
    if isinstance(routing, Infeasible):
        return _conflict_table(routing)
    by_target = {(row.agent, row.target): row for row in routing.evidence}
    rows = []
    for agent in AGENTS:
        route = resolve(routing, agent)
        row = by_target.get((agent, str(route.primary)))
        rows.append(
            {
                "agent": AGENT_TITLES[agent],
                "primary": str(route.primary),
                "measured": "not measured" if row is None else figures(row),
                "fallback": _target(route.fallback),
                "privacy": route.privacy,
                "reason": route.reason,
            }
        )
    return styled_table(rows, {})


def limits_table(tuning: Tuning) -> Styler:
    """How much room each limit leaves, and what quality it costs; or what cannot be held."""
    if isinstance(tuning.answer, Infeasible):
        return _conflict_table(tuning.answer)
    gains = {bound.name: bound.quality_gain for bound in tuning.binding}
    slacks = {slack.name: slack for slack in tuning.answer.plan.slacks}
    rows = [
        {"demand": name, **_room(slacks.get(name)), "quality it costs": gains.get(name, 0.0)}
        for name in dict.fromkeys([*slacks, *gains])
    ]
    return styled_table(rows, {"quality it costs": 3}, empty="there is no limit")


def greedy_table(tuning: Tuning) -> Styler:
    """The chosen routing beside the best target of each agent taken by itself."""
    if isinstance(tuning.answer, Infeasible):
        return _conflict_table(tuning.answer)
    plan, greedy = tuning.answer.plan, tuning.answer.greedy
    rows = [
        {
            "agent": AGENT_TITLES[ours.agent],
            "chosen": ours.primary.target,
            "quality": ours.primary.quality,
            "best by itself": alone.primary.target,
            "its quality": alone.primary.quality,
        }
        for ours, alone in zip(plan.choices, greedy.choices, strict=True)
    ]
    rows.append(
        {
            "agent": "all",
            "chosen": _totals(plan),
            "quality": plan.quality,
            "best by itself": _totals(greedy),
            "its quality": greedy.quality,
        }
    )
    return styled_table(rows, {"quality": 3, "its quality": 3})


def written_table(written: Mapping[Any, bool]) -> Styler:
    """Which files were written."""
    rows = [
        {"file": str(path), "now": "written" if changed else "unchanged"}
        for path, changed in written.items()
    ]
    return styled_table(rows, {}, empty="nothing fits the demands, so nothing was written")


def _conflict_table(answer: Infeasible) -> Styler:
    rows = [
        {"cannot be held together": name, "would do": limit or ""}
        for name, limit in zip(answer.conflict, answer.would_do, strict=True)
    ]
    return styled_table(rows, {}).set_caption("Infeasible: no routing holds all of these")


def _room(slack: Slack | None) -> dict[str, str]:
    if slack is None:
        return {"limit": "", "used": "", "left": ""}
    if slack.unit == "bytes":
        amounts = [f"{value / _GIB:.2f} GiB" for value in (slack.limit, slack.used, slack.slack)]
    else:
        unit = "" if slack.unit == "quality" else f" {slack.unit}"
        amounts = [f"{value:.3g}{unit}" for value in (slack.limit, slack.used, slack.slack)]
    return dict(zip(("limit", "used", "left"), amounts, strict=True))


def _totals(plan: Plan) -> str:
    broken = f"; breaks {', '.join(plan.violated)}" if plan.violated else ""
    return f"p50 {plan.latency_p50_s:.1f} s, p95 {plan.latency_p95_s:.1f} s{broken}"


def _target(target: Target | None) -> str:
    return "none" if target is None else str(target)


def _total(trials: Sequence[Mapping[str, Any]], field: str) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [trial[field] for trial in trials if trial[field] is not None]
    return sum(known) if known else None


def styled_table(
    rows: Sequence[Mapping[str, Any]], decimals: Mapping[str, int], empty: str = ""
) -> Styler:
    """A styled frame: numbers at the right with their decimals, words at the left, ``?`` unknown."""
    import pandas as pd

    frame = pd.DataFrame(list(rows) or [{"": empty}])
    numbers = frame.select_dtypes("number").columns
    places = {name: places for name, places in decimals.items() if name in numbers}
    words = [name for name in frame.columns if name not in numbers]
    styled = frame.style.hide(axis="index").set_table_styles(_STYLES)
    upright = {"text-align": "right", "white-space": "nowrap"}
    styled = styled.set_properties(subset=list(numbers), **upright)
    styled = styled.set_properties(subset=words, **{"text-align": "left"})
    heads: Any = {name: [{"selector": "th", "props": "text-align: right"}] for name in numbers}
    styled = styled.set_table_styles(heads, overwrite=False)
    whole = {name: "{:,.0f}" for name in numbers if name not in places}
    return styled.format(
        {**whole, **{name: f"{{:,.{count}f}}" for name, count in places.items()}},
        na_rep="?",
        escape="html",
    )
