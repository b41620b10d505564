"""Panels side by side, one an agent."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any

from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.plots.style import QUIET, Look, add_note, new_figure
from soma_bench.types import AgentName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_WIDTH, _PANEL_HEIGHT = 3.3, 2.75
_MOST_COLUMNS = 3
_ENTRY_WIDTH = 2.3
_CHARACTERS_AN_INCH = 15


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, and room above them for a legend."""
    columns = min(count, _MOST_COLUMNS)
    lines = ceil(count / columns)
    figure = new_figure(_PANEL_WIDTH * max(columns, 2), _PANEL_HEIGHT * lines + 0.9)
    cells = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in cells[count:]:
        axes.axis("off")
    return figure, cells[:count]


def add_legend_and_note(figure: Figure, entries: Sequence[Any], note: str) -> None:
    """The legend above the panels and the note below them, both as wide as the figure allows."""
    width = figure.get_figwidth()
    figure.legend(
        handles=entries, loc="outside upper left", ncols=max(1, int(width / _ENTRY_WIDTH))
    )
    add_note(figure, fill(note, width=int(_CHARACTERS_AN_INCH * width)))


def name_panel(axes: Axes, agent: AgentName, metric: str, cases: Sequence[int]) -> None:
    """The agent's name, its metric from 0 to 1, and how many cases stand behind the points."""
    low, high = min(cases), max(cases)
    axes.set_title(AGENT_TITLES[agent], loc="left", fontweight="bold", pad=9)
    shown = str(low) if low == high else f"{low} to {high}"
    axes.set_title(f"{shown} cases", loc="right", fontsize=8.5, color=QUIET, pad=9)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_ylabel(metric)


def point_entries(look: Look) -> list[Any]:
    """The legend's lines for every model and every thinking setting of a look."""
    from matplotlib.lines import Line2D

    def entry(label: str, **drawn: Any) -> Line2D:
        return Line2D([], [], label=label, linestyle="none", markersize=6.5, **drawn)

    models = [
        entry(look.names.models[model], color=colour, fillstyle=style, marker="o")
        for model, (colour, style) in look.colours.items()
    ]
    return models + [
        entry(look.thinking_label(thinking), color=QUIET, marker=marker)
        for thinking, marker in look.markers.items()
    ]
