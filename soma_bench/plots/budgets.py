"""What thinking buys: quality against the tokens that a call writes, model by model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from soma_bench.effects import thinking_order
from soma_bench.plots.panels import add_legend_and_note, name_panel, panels, point_entries
from soma_bench.plots.style import (
    SYNTHETIC_NOTE,
    Look,
    figure_of_words,
    house_style,
    look_of,
)
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def quality_by_tokens(evidence: Sequence[Evidence]) -> Figure:
    """A panel an agent: mean output tokens of a call (thinking included) against the primary metric.

    Each line is one model from little thinking to much; bars are 95 % intervals. Targets whose
    tokens nobody counted are left out; where none is left the figure says so.
    """
    counted = [row for row in evidence if row.output_tokens is not None]
    with house_style():
        if not counted:
            return figure_of_words("No call's tokens were counted.")
        by_agent = {agent: [row for row in counted if row.agent == agent] for agent in AGENTS}
        shown = [(agent, rows) for agent, rows in by_agent.items() if rows]
        look = look_of(row.target for row in counted)
        figure, cells = panels(len(shown))
        for axes, (agent, rows) in zip(cells, shown, strict=True):
            name_panel(axes, agent, rows[0].metric, [row.cases for row in rows])
            _draw(axes, rows, look)
        add_legend_and_note(figure, point_entries(look), _note(counted, look))
    return figure


def _draw(axes: Axes, rows: Sequence[Evidence], look: Look) -> None:
    lines: dict[str, list[Evidence]] = defaultdict(list)
    for row in rows:
        lines[Target.parse(row.target).whole_model].append(row)
    for line in lines.values():
        line.sort(key=lambda row: thinking_order(Target.parse(row.target).thinking))
        tokens = [_tokens(row) for row in line]
        colour = look.of(line[0].target)["color"]
        axes.plot(tokens, [row.quality for row in line], color=colour, linewidth=1.2, alpha=0.6)
        for row in line:
            axes.vlines(
                _tokens(row),
                row.quality_low,
                row.quality_high,
                color=colour,
                linewidth=1.3,
                alpha=0.75,
                clip_on=False,
            )
            axes.plot(
                _tokens(row),
                row.quality,
                markersize=6.5,
                clip_on=False,
                zorder=3,
                **look.of(row.target),
            )
    most = max(_tokens(row) for row in rows)
    axes.set_xlim(0, 1.12 * most or 1.0)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("output tokens a call (mean)")


def _tokens(row: Evidence) -> float:
    assert row.output_tokens is not None, "rows without a count are left out"
    return row.output_tokens


def _note(rows: Sequence[Evidence], look: Look) -> str:
    parts = [f"Models: {look.names.shared}."] if look.names.shared else []
    parts.append("Tokens are thinking and answer together; bars are 95 % intervals over cases.")
    if any(row.synthetic for row in rows):
        parts.append(SYNTHETIC_NOTE)
    return " ".join(parts)
