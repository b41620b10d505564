"""Quality against latency: one panel an agent, one point a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any

from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.plots.pareto import pareto_front
from soma_bench.plots.style import (
    INK,
    QUIET,
    SYNTHETIC_NOTE,
    Look,
    add_note,
    figure_of_words,
    house_style,
    look_of,
    new_figure,
)
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_WIDTH, _PANEL_HEIGHT = 3.3, 2.75
_MOST_IN_CELL = 13
"""Entries that a legend in a cell of the grid has room for."""


def quality_against_latency(
    evidence: Sequence[Evidence], *, chosen: Mapping[AgentName, str] | None = None
) -> Figure:
    """Each agent's targets by median latency (s) and mean of the primary metric (0 to 1).

    Bars are the 95 % intervals, colour tells the model and its quantization, shape the thinking
    setting, and the line is the Pareto front of the means.

    Args:
        evidence: rows of any number of agents; agents without a row get no panel.
        chosen: the target that is ringed, by agent.
    """
    if not evidence:
        with house_style():
            return figure_of_words("Nothing was measured.")
    by_agent = {agent: [row for row in evidence if row.agent == agent] for agent in AGENTS}
    panels = [(agent, rows) for agent, rows in by_agent.items() if rows]
    look = look_of(row.target for row in evidence)
    ringed = {agent: target for agent, target in (chosen or {}).items() if by_agent[agent]}
    # One cell more than there are panels: the legend's.
    columns = {1: 2, 2: 3, 3: 2}.get(len(panels), 3)
    lines = ceil((len(panels) + 1) / columns)
    with house_style():
        figure = new_figure(_PANEL_WIDTH * columns, _PANEL_HEIGHT * lines + 0.5)
        cells = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes, (agent, rows) in zip(cells, panels, strict=False):
            _draw_panel(axes, agent, rows, look, ringed.get(agent))
        for axes in cells[len(panels) :]:
            axes.axis("off")
        _add_legend(figure, cells[len(panels)], _legend_entries(look, is_ringed=bool(ringed)))
        add_note(figure, _note(evidence, look, columns))
    return figure


def _draw_panel(
    axes: Axes, agent: AgentName, rows: Sequence[Evidence], look: Look, chosen: str | None
) -> None:
    slowest = max(row.latency_p50_s for row in rows)
    right = slowest * 1.12 if slowest > 0 else 1.0
    front = pareto_front(rows)
    axes.step(
        [*(row.latency_p50_s for row in front), right],
        [*(row.quality for row in front), front[-1].quality],
        where="post",
        color="#9a9a9a",
        linewidth=1.2,
        zorder=1.5,
    )
    for row in rows:
        drawn = look.of(row.target)
        axes.vlines(
            row.latency_p50_s,
            row.quality_low,
            row.quality_high,
            color=drawn["color"],
            linewidth=1.3,
            alpha=0.75,
            clip_on=False,
            zorder=2,
        )
        axes.plot(row.latency_p50_s, row.quality, markersize=6.5, clip_on=False, zorder=3, **drawn)
        if row.target == chosen:
            axes.plot(row.latency_p50_s, row.quality, clip_on=False, zorder=4, **_RING)
    axes.set_xlim(0, right)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("latency p50 (s)")
    axes.set_ylabel(rows[0].metric)
    axes.set_title(AGENT_TITLES[agent], loc="left", fontweight="bold", pad=9)
    axes.set_title(_sample_size(rows), loc="right", fontsize=8.5, color=QUIET, pad=9)


_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 14,
    "fillstyle": "none",
    "color": INK,
    "markeredgewidth": 1.4,
    "linestyle": "none",
}


def _sample_size(rows: Sequence[Evidence]) -> str:
    trials = _span([row.n for row in rows])
    cases = _span([row.cases for row in rows])
    return f"n = {trials}" if trials == cases else f"n = {trials}, {cases} cases"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _legend_entries(look: Look, *, is_ringed: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, **drawn: Any) -> Line2D:
        return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6.5, **drawn})

    entries = [
        entry(look.names.models[model], color=colour, fillstyle=style, marker="o")
        for model, (colour, style) in look.colours.items()
    ]
    entries += [
        entry(look.thinking_label(thinking), color=QUIET, marker=marker)
        for thinking, marker in look.markers.items()
    ]
    entries.append(entry("95 % interval", color=QUIET, marker="|", markersize=11))
    entries.append(entry("Pareto front of the means", color="#9a9a9a", linestyle="-"))
    if is_ringed:
        entries.append(entry("chosen", **{**_RING, "markersize": 11}))
    return entries


def _add_legend(figure: Figure, cell: Axes, entries: Sequence[Any]) -> None:
    """In the free cell, or below the panels where it would not fit: never over data."""
    if len(entries) <= _MOST_IN_CELL:
        cell.legend(handles=entries, loc="center left", labelspacing=0.65, handlelength=1.6)
        return
    widest = max(len(entry.get_label()) for entry in entries)
    columns = max(1, min(5, int(figure.get_figwidth() * 13 / (widest + 7))))
    figure.set_figheight(figure.get_figheight() + 0.21 * ceil(len(entries) / columns))
    figure.legend(handles=entries, loc="outside lower left", ncols=columns, handlelength=1.6)


def _note(evidence: Sequence[Evidence], look: Look, columns: int) -> str:
    parts = []
    if look.names.shared:
        parts.append(f"Models: {look.names.shared}.")
    parts.append("Intervals are 95 %, over cases, or over what cases share such as a patient.")
    if any(row.synthetic for row in evidence):
        parts.append(SYNTHETIC_NOTE)
    return fill(" ".join(parts), width=54 * columns)
