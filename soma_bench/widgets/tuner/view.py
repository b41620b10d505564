"""What the tuner and its browser side share: the traits that go between them, and who sets them when."""

from __future__ import annotations

import threading
from importlib import resources
from typing import Any

import anywidget
import traitlets

_ASSETS = resources.files("soma_bench.widgets.tuner") / "assets"
_SCRIPTS = ("elements.js", "form.js", "pictures.js", "results.js", "tuner.js")


def _script() -> str:
    """One ES module: the browser is handed a single text, the sources are one purpose each."""
    return "\n".join((_ASSETS / name).read_text("utf-8") for name in _SCRIPTS)


class TunerView(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget has no types
    """The widget without what it says; `_publishing` must be there before it is made."""

    _esm = _script()
    _css = (_ASSETS / "tuner.css").read_text("utf-8")

    _runs: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)
    """Id, name and start of each run to pick from."""
    _sheet = traitlets.Dict().tag(sync=True)
    """The picked run's figures, sent once."""
    _demands = traitlets.Dict().tag(sync=True)
    """The form; the one trait that the browser sets."""
    _answer = traitlets.Dict().tag(sync=True)
    """The choice for a revision of the form: places of targets, and figures."""
    _beside = traitlets.Dict().tag(sync=True)
    """What stands beside a revision's choice, as far as it is worked out."""
    _measuring = traitlets.Dict().tag(sync=True)
    _exported = traitlets.Dict().tag(sync=True)

    _publishing: threading.RLock
    """Held while traits are set: the kernel's thread and the tuner's own both do."""

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser says; not while an answer is being sent."""
        with self._publishing:
            super().set_state(sync_data)

    def _publish(self, **traits: Any) -> None:
        with self._publishing:
            for name, value in traits.items():
                setattr(self, name, value)
