"""The chosen routing: each agent's primary and fallback with what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from soma_bench.errors import ConfigError
from soma_bench.optimize.solution import Infeasible
from soma_bench.plots.labels import AGENT_TITLES, Names, name_targets
from soma_bench.plots.style import (
    SYNTHETIC_NOTE,
    WARNING,
    add_note,
    figure_of_words,
    house_style,
    label_lines,
    new_figure,
)
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile, resolve
from soma_bench.types import AGENTS, AgentName, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _LINE_HEIGHT = 10.0, 0.21
_PRIMARY, _FALLBACK = "#0072B2", "#6b6b6b"


def chosen_routing(routing: Profile | Infeasible) -> Figure:
    """Primary and fallback of each agent with quality and interval, latency, memory and price.

    A floor is drawn as a line across the agent's targets. An infeasible answer gives a figure that
    says so.

    Raises:
        ConfigError: the profile has no evidence for one of its targets.
    """
    with house_style():
        if isinstance(routing, Infeasible):
            return figure_of_words(routing.message)
        lines = _lines(routing)
        figure = new_figure(_WIDTH, _LINE_HEIGHT * len(lines) + 1.4)
        names = name_targets(line.row.target for line in lines if line.row)
        _draw(figure.add_subplot(), routing, lines, names)
        add_note(figure, _note(lines, names, routing))
    return figure


def primaries(profile: Profile) -> dict[AgentName, Evidence]:
    """The row of each agent's primary, in the agents' order.

    Raises:
        ConfigError: one of them was not measured.
    """
    return {agent: evidence_of(profile, agent, resolve(profile, agent).primary) for agent in AGENTS}


def evidence_of(profile: Profile, agent: AgentName, target: Target) -> Evidence:
    """The profile's row for a target at an agent.

    Raises:
        ConfigError: there is none.
    """
    for row in profile.evidence:
        if (row.agent, row.target) == (agent, str(target)):
            return row
    raise ConfigError(
        f"profile {profile.name}: evidence: has no row for {target} at {agent};"
        " make the profile by soma-bench optimize"
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the figure: a heading, a target, or no fallback."""

    agent: AgentName
    role: str
    """``primary``, ``fallback``, or empty for a heading."""
    row: Evidence | None = None


def _lines(profile: Profile) -> list[_Line]:
    lines = []
    for agent in AGENTS:
        route = resolve(profile, agent)
        lines.append(_Line(agent, ""))
        lines.append(_Line(agent, "primary", evidence_of(profile, agent, route.primary)))
        row = evidence_of(profile, agent, route.fallback) if route.fallback else None
        lines.append(_Line(agent, "fallback", row))
    return lines


def _draw(axes: Axes, profile: Profile, lines: Sequence[_Line], names: Names) -> None:
    for place, line in enumerate(lines):
        if not line.role:
            floor = profile.constraints.quality_floors.get(line.agent)
            if floor is not None:
                axes.vlines(floor, place + 0.6, place + 2.4, color=WARNING, linewidth=1.8, zorder=2)
        if line.row is None:
            continue
        colour = _PRIMARY if line.role == "primary" else _FALLBACK
        face = colour if line.role == "primary" else "white"
        low, high = line.row.quality_low, line.row.quality_high
        axes.hlines(place, low, high, color=colour, linewidth=1.6, clip_on=False, zorder=2)
        axes.plot(
            line.row.quality,
            place,
            color=colour,
            marker="o",
            markersize=6.5,
            markerfacecolor=face,
            clip_on=False,
            zorder=3,
        )
    headings = [place for place, line in enumerate(lines) if not line.role]
    label_lines(
        axes,
        [_label(line, names) for line in lines],
        right=[_HEADER if place == 0 else _figures(line.row) for place, line in enumerate(lines)],
        headings=headings,
        right_font="monospace",
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean of the primary metric, with its 95 % interval (0 to 1)")
    axes.set_title("Chosen routing", loc="left", fontweight="bold")


_HEADER = f"{'p50':>8}{'p95':>9}{'memory':>10}{'1000 calls':>12}"


def _label(line: _Line, names: Names) -> str:
    if not line.role:
        return AGENT_TITLES[line.agent]
    return f"{names.targets[line.row.target] if line.row else 'none'}  ({line.role})"


def _figures(row: Evidence | None) -> str:
    if row is None:
        return ""
    memory = "?" if row.memory_bytes is None else f"{row.memory_bytes / (1 << 30):.2f} GiB"
    price = "?" if row.cost_usd is None else f"${1000 * row.cost_usd:.2f}"
    return f"{row.latency_p50_s:>6.1f} s{row.latency_p95_s:>7.1f} s{memory:>10}{price:>12}"


def _note(lines: Sequence[_Line], names: Names, profile: Profile) -> str:
    parts = []
    if names.shared:
        parts.append(f"Models: {names.shared}.")
    if profile.constraints.quality_floors:
        parts.append(f"Upright lines are the quality floors ({_floor_on(profile)}).")
    parts.append(
        "The means of chosen targets are somewhat too high: they were chosen for being high."
    )
    if any(line.row.synthetic for line in lines if line.row):
        parts.append(SYNTHETIC_NOTE)
    return fill(" ".join(parts), width=165)


def _floor_on(profile: Profile) -> str:
    if profile.constraints.floor_on == "mean":
        return "held by the mean"
    return "held by the lower end of the interval"
