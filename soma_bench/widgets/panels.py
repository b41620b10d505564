"""Panels in a notebook's page: a state that Python sets, drawn by a script, and commands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ASSETS = Path(__file__).parent / "assets"


def make_panel(
    name: str, state: Mapping[str, Any], on_command: Callable[[Mapping[str, Any]], None]
) -> Any:
    """An anywidget that draws ``state`` by ``assets/NAME.js``.

    Args:
        name: the script's name without its suffix.
        state: JSON values; setting the panel's ``state`` anew draws it anew, from any thread.
        on_command: told what the reader does, as the script sends it.
    """
    # Drawn in notebooks only: scripts that never show a panel do without these libraries.
    import anywidget
    import traitlets

    class Panel(anywidget.AnyWidget):  # type: ignore[misc]
        _esm = ASSETS / f"{name}.js"
        _css = ASSETS / "panels.css"
        state = traitlets.Dict().tag(sync=True)

    panel = Panel(state=dict(state))
    panel.on_msg(lambda _, content, __: on_command(content))
    return panel


def with_text(panel: Any, html: str, **kwargs: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a notebook shows of a panel, and beside it the text for pages without a kernel.

    Args:
        panel: as `make_panel` made it.
        html: the text; it is shown where the panel cannot be, and kept in the notebook's file.
        kwargs: as IPython gives them to ``_repr_mimebundle_``.
    """
    data, metadata = panel._repr_mimebundle_(**kwargs)
    return {**data, "text/html": html}, metadata


def render(template: str, **values: object) -> str:
    """HTML by ``assets/TEMPLATE``; every value is escaped that the template does not vouch for."""
    html: str = _environment().get_template(template).render(**values)
    return html


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=FileSystemLoader(ASSETS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
