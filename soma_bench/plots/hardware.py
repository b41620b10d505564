"""What loaded models take of a machine's memory, as predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from soma_bench.hardware import Machine, Memory
from soma_bench.hardware.plan import TargetPlan
from soma_bench.plots.style import (
    FAINT,
    QUIET,
    WARNING,
    add_note,
    figure_of_words,
    house_style,
    label_lines,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GIB = 1 << 30
_PARTS = (("weights", "#0072B2"), ("context", "#56B4E9"), ("overhead", FAINT))


def memory_of_models(plans: Sequence[TargetPlan], machine: Machine) -> Figure:
    """A line a model: its weights, context and overhead beside what models may take.

    Where no model's memory is known the figure says so.
    """
    needs: dict[str, Memory] = {}
    for plan in plans:
        if plan.memory is not None:
            needs[plan.target.whole_model] = plan.memory
    if not needs:
        with house_style():
            return figure_of_words("No model's memory is known.")
    room = machine.working_set_bytes / _GIB
    with house_style():
        figure = new_figure(9.0, 0.26 * len(needs) + 1.4)
        axes = figure.add_subplot()
        right = []
        for place, need in enumerate(needs.values()):
            start = 0.0
            for part, colour in _PARTS:
                width = getattr(need, part) / _GIB
                name = part if place == 0 else None
                axes.barh(place, width, left=start, height=0.62, color=colour, label=name)
                start += width
            right.append(f"{start:.1f} GiB" + ("" if start <= room else "  does not fit"))
        label_lines(axes, list(needs), right=right)
        axes.axvline(room, color=WARNING, linewidth=1.2)
        axes.text(
            room, -0.5, f" models may take {room:.0f} GiB", color=QUIET, va="bottom", ha="right"
        )
        axes.set_xlabel("memory (GiB)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
        add_note(figure, f"Predicted for {machine.name}, not measured.")
    return figure
