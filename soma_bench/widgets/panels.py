"""Panels in a notebook's page: a state that Python sets, drawn by a script, and commands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
