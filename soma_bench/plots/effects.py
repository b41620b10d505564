"""What thinking and quantization change: differences case by case, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from soma_bench.effects import Effect, Setting
from soma_bench.plots.labels import AGENT_TITLES, Names, thinking_name
from soma_bench.plots.style import (
    QUIET,
    Look,
    add_note,
    figure_of_words,
    house_style,
    label_lines,
    look_of,
    new_figure,
)
from soma_bench.types import AGENTS, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SETTINGS: tuple[Setting, ...] = ("thinking", "quantization")
_PANEL_WIDTH, _LINE_HEIGHT = 5.0, 0.21


def effects_of_settings(effects: Sequence[Effect]) -> Figure:
    """How the primary metric and the latency change with thinking and with smaller quantizations.

    A panel a setting; a line a target with its mean difference from its baseline over the shared
    cases, the 95 % interval of it, and at the right the median change in latency (s).

    Where nothing was varied the figure says so.
    """
    if not effects:
        with house_style():
            return figure_of_words("No setting was varied with all else equal.")
    panels = [
        (setting, rows)
        for setting in _SETTINGS
        if (rows := [effect for effect in effects if effect.setting == setting])
    ]
    look = look_of(text for effect in effects for text in (effect.target, effect.baseline))
    most = max(len(rows) + len({row.agent for row in rows}) for _, rows in panels)
    widest = max(max(abs(e.quality.low), abs(e.quality.high)) for e in effects)
    with house_style():
        width = _PANEL_WIDTH * len(panels)
        figure = new_figure(width, _LINE_HEIGHT * most + 1.5)
        cells = figure.subplots(1, len(panels), squeeze=False).flat
        for axes, (setting, rows) in zip(cells, panels, strict=True):
            _draw_panel(axes, rows, look)
            axes.set_xlim(-1.08 * max(widest, 0.1), 1.08 * max(widest, 0.1))
            axes.set_title(_title(setting, rows), loc="left", fontweight="bold")
        add_note(figure, _note(effects, look.names, width))
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Effect], look: Look) -> None:
    lines: list[Effect | str] = []
    for agent in AGENTS:
        of_agent = [row for row in rows if row.agent == agent]
        if of_agent:
            lines += [AGENT_TITLES[agent], *of_agent]
    headings = [place for place, line in enumerate(lines) if isinstance(line, str)]
    for place, line in enumerate(lines):
        if isinstance(line, Effect):
            _draw_line(axes, place, line, look)
    axes.axvline(0, color=QUIET, linewidth=1.0, zorder=1.5)
    label_lines(
        axes,
        [line if isinstance(line, str) else look.names.targets[line.target] for line in lines],
        right=["" if isinstance(line, str) else _change(line.latency_s) for line in lines],
        headings=headings,
    )
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("change in primary metric (0 to 1)")


def _draw_line(axes: Axes, place: int, effect: Effect, look: Look) -> None:
    drawn: dict[str, Any] = look.of(effect.target)
    quality = effect.quality
    axes.hlines(place, quality.low, quality.high, color=drawn["color"], linewidth=1.6, zorder=2)
    axes.plot(quality.mean, place, markersize=6, zorder=3, **drawn)


def _change(seconds: float) -> str:
    # No zero is shown as less than nothing.
    return f"{round(seconds, 1) or 0.0:+.1f} s".replace("-", "\N{MINUS SIGN}")


def _title(setting: Setting, rows: Sequence[Effect]) -> str:
    """Names the baseline where all rows have the same."""
    if setting == "thinking":
        baselines = {thinking_name(Target.parse(row.baseline).thinking) for row in rows}
        return f"Thinking, against {_only(baselines, 'the least of each model')}"
    quantizations = {Target.parse(row.baseline).quantization or "" for row in rows}
    return f"Quantization, against {_only(quantizations, 'the largest of each model')}"


def _only(values: set[str], otherwise: str) -> str:
    return values.pop() or otherwise if len(values) == 1 else otherwise


def _note(effects: Sequence[Effect], names: Names, width: float) -> str:
    counts = {effect.cases for effect in effects}
    cases = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    shared = f"Models: {names.shared}. " if names.shared else ""
    return fill(
        f"{shared}Mean difference over {cases} shared cases with its 95 % interval; at the right the"
        " median change in latency. An interval that touches 0 shows no difference; one without"
        " width means that all cases moved alike, and proves little when they are few.",
        width=int(17.5 * width),
    )
