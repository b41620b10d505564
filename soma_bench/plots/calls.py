"""What a call's time is made of: reading the prompt, writing, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from soma_bench.call_times import CallTime
from soma_bench.plots.labels import AGENT_TITLES, name_targets
from soma_bench.plots.style import (
    FAINT,
    INK,
    SYNTHETIC_NOTE,
    add_note,
    figure_of_words,
    house_style,
    label_lines,
    new_figure,
)
from soma_bench.types import AGENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _LINE_HEIGHT = 10.0, 0.24
_HEADER = f"{'p50':>8}{'p95':>9}{'quiet':>8}"
_READING, _WRITING = "#56B4E9", "#0072B2"


def parts_of_calls(rows: Sequence[CallTime]) -> Figure:
    """A line a target, grouped by agent: medians of prefill and decode (s), the whole, up to p95.

    Loading a model is no part of it. Where nothing was measured the figure says so.
    """
    with house_style():
        if not rows:
            return figure_of_words("Nothing was measured.")
        lines: list[CallTime | str] = []
        for agent in AGENTS:
            of_agent = [row for row in rows if row.agent == agent]
            if of_agent:
                lines += [AGENT_TITLES[agent], *of_agent]
        figure = new_figure(_WIDTH, _LINE_HEIGHT * len(lines) + 1.5)
        shared = _draw(figure.add_subplot(), lines)
        _add_legend(figure)
        add_note(figure, _note(rows, shared))
    return figure


def _draw(axes: Axes, lines: Sequence[CallTime | str]) -> str:
    names = name_targets(line.target for line in lines if isinstance(line, CallTime))
    longest = 0.0
    for place, line in enumerate(lines):
        if isinstance(line, str):
            continue
        prefill, decode = line.prefill_s or 0.0, line.decode_s or 0.0
        # Medians of parts need not add up to the median of the whole.
        rest = max(line.total_p50_s - prefill - decode, 0.0)
        left = 0.0
        for width, colour in ((prefill, _READING), (decode, _WRITING), (rest, FAINT)):
            axes.barh(place, width, left=left, height=0.6, color=colour, zorder=2)
            left += width
        reach = max(line.total_p95_s - left, 0.0)
        axes.errorbar(
            left, place, xerr=[[0.0], [reach]], color=INK, capsize=3, linewidth=1.1, zorder=3
        )
        longest = max(longest, left + reach)
    axes.set_xlim(0, 1.03 * longest or 1.0)
    label_lines(
        axes,
        [line if isinstance(line, str) else names.targets[line.target] for line in lines],
        right=[_HEADER, *("" if isinstance(line, str) else _figures(line) for line in lines[1:])],
        headings=[place for place, line in enumerate(lines) if isinstance(line, str)],
        right_font="monospace",
    )
    axes.set_xlabel("time of a call, its model loaded (s)")
    return names.shared


def _figures(row: CallTime) -> str:
    return f"{row.total_p50_s:>6.1f} s{row.total_p95_s:>7.1f} s{row.clean:>5}/{row.n}"


def _add_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = [
        Patch(color=_READING, label="reading the prompt"),
        Patch(color=_WRITING, label="writing"),
        Patch(color=FAINT, label="not told apart"),
        Line2D([], [], color=INK, marker="|", markersize=7, linewidth=1.1, label="up to p95"),
    ]
    figure.legend(handles=entries, loc="outside upper left", ncols=len(entries))


def _note(rows: Sequence[CallTime], shared: str) -> str:
    parts = [f"Models: {shared}."] if shared else []
    parts.append(
        "Medians over the quiet trials (model loaded, machine not busy), or over all where there are"
        " none."
    )
    if any(row.synthetic for row in rows):
        parts.append(SYNTHETIC_NOTE)
    return fill(" ".join(parts), width=165)
