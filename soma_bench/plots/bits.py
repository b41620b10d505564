"""What quantization costs and gains: quality and decoding speed against bits per weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soma_bench.plots.labels import name_targets
from soma_bench.plots.panels import add_legend_and_note, name_panel, panels
from soma_bench.plots.style import (
    SYNTHETIC_NOTE,
    figure_of_words,
    house_style,
    series_look,
)
from soma_bench.quantizations import Quantized
from soma_bench.types import AGENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ASIDE = 0.14


def quality_and_speed_by_bits(rows: Sequence[Quantized]) -> Figure:
    """A panel an agent with the primary metric, and one with decoded tokens a second.

    The x axis is bits per weight of the file. A line is one model with one thinking setting; bars
    are 95 % intervals. The speed is of all agents' calls together. Where no target names a known
    quantization the figure says so.
    """
    with house_style():
        if not rows:
            return figure_of_words("No target names a quantization whose bits are known.")
        by_agent = {agent: [row for row in rows if row.row.agent == agent] for agent in AGENTS}
        shown = [(agent, found) for agent, found in by_agent.items() if found]
        looks = _looks(rows)
        figure, cells = panels(len(shown) + 1)
        for axes, (agent, found) in zip(cells, shown, strict=False):
            name_panel(axes, agent, found[0].row.metric, [one.row.cases for one in found])
            _draw_quality(axes, found, looks)
        _draw_speed(cells[-1], rows, looks)
        for axes in cells:
            _name_bits(axes, rows)
        add_legend_and_note(figure, _entries(looks), _note(rows))
    return figure


def _looks(rows: Sequence[Quantized]) -> Mapping[str, dict[str, Any]]:
    """Colour, shape and name of each family."""
    families = sorted({row.family for row in rows})
    names = name_targets(families).targets
    return {
        family: {**series_look(index), "label": names[family]}
        for index, family in enumerate(families)
    }


def _draw_quality(
    axes: Axes, rows: Sequence[Quantized], looks: Mapping[str, dict[str, Any]]
) -> None:
    for family, line in _lines(rows).items():
        drawn = looks[family]
        bits = [one.bits + _aside(family, looks) for one in line]
        axes.plot(bits, [one.row.quality for one in line], linewidth=1.2, clip_on=False, **drawn)
        axes.vlines(
            bits,
            [one.row.quality_low for one in line],
            [one.row.quality_high for one in line],
            color=drawn["color"],
            linewidth=1.3,
            alpha=0.75,
            clip_on=False,
        )


def _draw_speed(axes: Axes, rows: Sequence[Quantized], looks: Mapping[str, dict[str, Any]]) -> None:
    fastest = 0.0
    for family, line in _lines(rows).items():
        points = sorted(
            {(one.bits, one.decode_tokens_s) for one in line if one.decode_tokens_s is not None}
        )
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1.2, **looks[family])
            fastest = max(fastest, *(speed for _, speed in points))
    axes.set_title("Speed", loc="left", fontweight="bold", pad=9)
    axes.set_ylim(0, 1.1 * fastest or 1.0)
    axes.set_ylabel("decoding (tokens/s, median)")


def _aside(family: str, looks: Mapping[str, dict[str, Any]]) -> float:
    """Bits by which a family is drawn aside, so that bars do not cover each other."""
    return _ASIDE * (list(looks).index(family) - (len(looks) - 1) / 2)


def _lines(rows: Sequence[Quantized]) -> Mapping[str, list[Quantized]]:
    lines: dict[str, list[Quantized]] = defaultdict(list)
    for row in sorted(rows, key=lambda one: one.bits):
        lines[row.family].append(row)
    return lines


def _name_bits(axes: Axes, rows: Sequence[Quantized]) -> None:
    most = max(row.bits for row in rows)
    axes.set_xlim(0, most + 1)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlabel("bits per weight")


def _entries(looks: Mapping[str, dict[str, Any]]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], linewidth=1.2, markersize=6.5, **drawn) for drawn in looks.values()]


def _note(rows: Sequence[Quantized]) -> str:
    names = sorted({(row.bits, row.quantization) for row in rows})
    parts = [", ".join(f"{name}: {bits:g} bits" for bits, name in names) + "."]
    shared = name_targets(row.family for row in rows).shared
    if shared:
        parts.insert(0, f"Models: {shared}.")
    parts.append("Bars are 95 % intervals over cases.")
    if any(row.row.synthetic for row in rows):
        parts.append(SYNTHETIC_NOTE)
    return " ".join(parts)
