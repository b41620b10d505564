"""Figures as SVG that stands in a page, readable on light and on dark paper."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from soma_bench.plots.style import FAINT, INK, QUIET, WARNING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {
    INK: "--ink",
    QUIET: "--quiet",
    FAINT: "--faint",
    WARNING: "--warning",
    "#ffffff": "--paper",
    "#ececec": "--grid",
    "#9a9a9a": "--line",
    # Black is a colour of data, the only one that cannot be seen on dark paper.
    "#000000": "--ink",
}
"""What the page sets, by the colour that the figures are drawn with."""


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an ``<svg>`` element that fetches nothing and fits the page's width.

    Its greys, paper and warning colours become variables of the page, so that they follow its
    light and dark; the same figure always gives the same text.

    Args:
        figure: the figure; its background is left out.
        name: letters and digits that no other figure of the page has; its ids begin with it.
        description: what the figure shows, for those who cannot see it.
    """
    from html import escape

    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = _themed(text)
    head, body = text.split(">", 1)
    head = re.sub(r' (width|height|version)="[^"]*"', "", head)
    width = figure.get_figwidth()
    label = escape(description)
    return (
        f'{head} role="img" aria-label="{label}" style="max-width: {1.2 * width:.2f}in">{body}'
    ).strip()


def _themed(text: str) -> str:
    known = {colour.lower(): variable for colour, variable in _VARIABLES.items()}

    def replace(match: re.Match[str]) -> str:
        variable = known.get(match[0].lower())
        return match[0] if variable is None else f"var({variable})"

    return re.sub(r"#[0-9a-fA-F]{6}\b", replace, text)
