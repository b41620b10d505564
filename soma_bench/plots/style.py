"""How all figures look: sizes, colours that everyone can tell apart, shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from soma_bench.effects import thinking_order
from soma_bench.plots.labels import Names, name_targets, thinking_name
from soma_bench.types import Target, Thinking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
QUIET = "#6b6b6b"
FAINT = "#d9d9d9"
WARNING = "#D55E00"

# Okabe and Ito, Color Universal Design (2008), without yellow and grey, which fade on white.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_FILLS = ("full", "none", "left", "bottom")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")

SYNTHETIC_NOTE = (
    "Synthetic weights (derived for tests) are among them: this shows the method and says nothing"
    " about a model anyone would deploy."
)

_SETTINGS: Mapping[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.8,
    "figure.dpi": 100.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Colour and fill of each model, shape of each thinking setting."""

    names: Names
    colours: Mapping[str, tuple[str, str]]
    """(colour, matplotlib fill style) by ``provider:model``."""
    markers: Mapping[Thinking | None, str]

    def of(self, target: str) -> dict[str, Any]:
        """How a target's point is drawn."""
        parsed = Target.parse(target)
        colour, fill = self.colours[parsed.whole_model]
        return {
            "color": colour,
            "fillstyle": fill,
            "marker": self.markers[parsed.thinking],
            "markerfacecoloralt": "white",
        }

    def thinking_label(self, thinking: Thinking | None) -> str:
        """The legend's words for a thinking setting."""
        return thinking_name(thinking) or "thinking as the model does"


def look_of(targets: Iterable[str]) -> Look:
    """One look for targets that appear in the same figure, the same whatever their order."""
    texts = sorted(set(targets))
    names = name_targets(texts)
    settings = sorted({Target.parse(text).thinking for text in texts}, key=thinking_order)
    return Look(
        names=names,
        colours={
            model: (
                _COLOURS[index % len(_COLOURS)],
                _FILLS[index // len(_COLOURS) % len(_FILLS)],
            )
            for index, model in enumerate(names.models)
        },
        markers={
            thinking: _MARKERS[index % len(_MARKERS)] for index, thinking in enumerate(settings)
        },
    )


def series_look(index: int) -> dict[str, Any]:
    """Colour and shape of a figure's n-th line, where lines are no targets."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "fillstyle": _FILLS[index // len(_COLOURS) % len(_FILLS)],
        "markerfacecoloralt": "white",
    }


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults and this module's settings, whatever the reader has set, for a while."""
    from matplotlib import style

    with style.context(["default", dict(_SETTINGS)]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that makes room for whatever stands outside its axes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.05)
    return Figure(figsize=(width, height), layout=layout)


def add_note(figure: Figure, text: str) -> None:
    """Small print below everything else."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color=QUIET)


def label_lines(
    axes: Axes,
    labels: Sequence[str],
    *,
    right: Sequence[str],
    headings: Collection[int] = (),
    right_font: str = "sans-serif",
) -> None:
    """Make the y axis a list: line 0 at the top, its name at the left, its figures at the right.

    Args:
        axes: the axes; data of line i stand at y = i.
        labels: names of the lines.
        right: texts at the right edge, as many.
        headings: lines that begin a group.
        right_font: font family of the texts at the right.
    """
    places = range(len(labels))
    axes.set_yticks(places, labels)
    for place, label in enumerate(axes.get_yticklabels()):
        label.set_fontweight("bold" if place in headings else "normal")
    for place in headings:
        if place:
            axes.axhline(place - 0.5, color=FAINT, linewidth=0.8, zorder=0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    # A point at the left edge must not touch its own label.
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    figures = axes.secondary_yaxis("right")
    figures.set_yticks(places, right)
    figures.tick_params(axis="y", length=0, labelcolor=QUIET, labelfontfamily=right_font)
    figures.spines["right"].set_visible(False)


def figure_of_words(text: str) -> Figure:
    """Words in the place of a picture, on as much room as they need."""
    lines = fill(text, width=110)
    figure = new_figure(10.0, 0.5 + 0.2 * (lines.count("\n") + 1))
    axes = figure.add_subplot()
    axes.axis("off")
    axes.text(0.0, 0.5, lines, fontsize=10, va="center", transform=axes.transAxes)
    return figure
