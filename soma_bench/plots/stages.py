"""The chosen routing on a clock: which stage takes how long, and what the analysis waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from soma_bench.optimize.solution import Infeasible, pipeline_latency
from soma_bench.plots.labels import AGENT_TITLES, name_targets
from soma_bench.plots.routing import primaries
from soma_bench.plots.style import (
    INK,
    SYNTHETIC_NOTE,
    WARNING,
    add_note,
    figure_of_words,
    house_style,
    label_lines,
    new_figure,
)
from soma_bench.routing.constraints import Pipeline, chains
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile
from soma_bench.types import AGENTS, AgentName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ON_PATH, _BESIDE = "#0072B2", "#a6c8e0"
_WIDTH, _HEIGHT = 10.0, 3.9
_FARTHEST_LIMIT = 2.5
"""A limit beyond so many times the longest time would squeeze all bars; it is told in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage's place on the clock, in seconds from the start of the analysis."""

    agent: AgentName
    start_s: float
    end_s: float
    late_end_s: float
    """Where the stage would end if it alone took its 95th percentile."""
    is_critical: bool
    """Whether the analysis waits for it."""


def latency_by_stage(routing: Profile | Infeasible) -> Figure:
    """The stages of one analysis on the profile's primaries, on a clock in seconds.

    Bars are medians, whiskers reach to each stage's own 95th percentile, dark stages are those
    that the analysis waits for; lines mark the totals and the latency limit. An infeasible answer
    gives a figure that says so.

    Raises:
        ConfigError: the profile has no evidence for one of its primaries.
    """
    with house_style():
        if isinstance(routing, Infeasible):
            return figure_of_words(routing.message)
        figure = new_figure(_WIDTH, _HEIGHT)
        _draw(figure, figure.add_subplot(), routing)
    return figure


def timeline(rows: Mapping[AgentName, Evidence], pipeline: Pipeline) -> list[Stage]:
    """When each stage runs if all of them take their median time."""
    paths = chains(pipeline)
    lengths = [sum(rows[agent].latency_p50_s for agent in path) for path in paths]
    slowest = paths[lengths.index(max(lengths))]
    ends: dict[AgentName, float] = {}
    stages = []
    for agent in AGENTS:
        awaited = {path[path.index(agent) - 1] for path in paths if agent in path[1:]}
        start = max((ends[other] for other in awaited), default=0.0)
        ends[agent] = start + rows[agent].latency_p50_s
        stages.append(
            Stage(
                agent=agent,
                start_s=start,
                end_s=ends[agent],
                late_end_s=start + rows[agent].latency_p95_s,
                is_critical=agent in slowest,
            )
        )
    return stages


def _draw(figure: Figure, axes: Axes, profile: Profile) -> None:
    rows = primaries(profile)
    stages = timeline(rows, profile.pipeline)
    for place, stage in enumerate(stages, start=1):
        axes.barh(
            place,
            stage.end_s - stage.start_s,
            left=stage.start_s,
            height=0.56,
            color=_ON_PATH if stage.is_critical else _BESIDE,
            zorder=2,
        )
        axes.errorbar(
            stage.end_s,
            place,
            xerr=[[0.0], [stage.late_end_s - stage.end_s]],
            color=INK,
            capsize=3.5,
            linewidth=1.1,
            zorder=3,
        )
    lines = _total_lines(rows, profile)
    longest = max(stage.late_end_s for stage in stages)
    longest = max([longest, *(line.at_s for line in lines)])
    limit = profile.constraints.max_latency_s
    if limit is not None and limit <= _FARTHEST_LIMIT * longest:
        text = f"limit on {profile.constraints.latency}: {limit:g} s"
        lines.append(_Line(limit, text, {"color": WARNING, "linewidth": 1.8}))
    for line in lines:
        axes.axvline(line.at_s, zorder=1.5, **line.style)
    axes.set_xlim(0, 1.03 * max([longest, *(line.at_s for line in lines)]) or 1.0)
    names = name_targets(row.target for row in rows.values())
    # Line 0 heads the columns at the right.
    figures = [f"{row.latency_p50_s:>7.1f} s{row.latency_p95_s:>7.1f} s" for row in rows.values()]
    label_lines(
        axes,
        [
            "",
            *(f"{AGENT_TITLES[agent]}\n{names.targets[row.target]}" for agent, row in rows.items()),
        ],
        right=[f"{'p50':>9}{'p95':>9}", *figures],
        right_font="monospace",
    )
    axes.set_xlabel("time from the start of the analysis (s)")
    axes.set_title(f"One analysis, {profile.pipeline}", loc="left", fontweight="bold")
    _add_legend(figure, lines, stages)
    add_note(figure, _note(profile, rows, names.shared, longest))


@dataclass(frozen=True, slots=True)
class _Line:
    """An upright line on the clock."""

    at_s: float
    text: str
    style: Mapping[str, Any]


def _total_lines(rows: Mapping[AgentName, Evidence], profile: Profile) -> list[_Line]:
    p50 = pipeline_latency(rows, profile.pipeline, "p50")
    p95 = pipeline_latency(rows, profile.pipeline, "p95")
    return [
        _Line(p50, f"total of p50: {p50:.1f} s", {"color": INK, "linestyle": "--"}),
        _Line(p95, f"total of p95: {p95:.1f} s", {"color": INK, "linestyle": ":"}),
    ]


def _add_legend(figure: Figure, lines: Sequence[_Line], stages: Sequence[Stage]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Patch(color=_ON_PATH, label="p50, on the critical path")]
    if not all(stage.is_critical for stage in stages):
        entries.append(Patch(color=_BESIDE, label="p50, beside it"))
    entries.append(
        Line2D([], [], color=INK, marker="|", markersize=7, linewidth=1.1, label="up to p95")
    )
    entries += [Line2D([], [], label=line.text, **line.style) for line in lines]
    figure.legend(handles=entries, loc="outside upper left", ncols=len(entries))


def _note(profile: Profile, rows: Mapping[AgentName, Evidence], shared: str, longest: float) -> str:
    limit = profile.constraints.max_latency_s
    parts = []
    if shared:
        parts.append(f"Models: {shared}.")
    if limit is not None and limit > _FARTHEST_LIMIT * longest:
        parts.append(
            f"The limit of {limit:g} s on {profile.constraints.latency} lies beyond the axis."
        )
    parts.append(
        "Loading models is not counted. A total of p95 is an upper estimate of the pipeline's p95."
    )
    if any(row.synthetic for row in rows.values()):
        parts.append(SYNTHETIC_NOTE)
    return fill(" ".join(parts), width=165)
