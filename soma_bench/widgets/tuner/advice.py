"""What a page shows that is opened before anything was measured."""

from __future__ import annotations

from html import escape
from typing import Any

from soma_bench.errors import ConfigError
from soma_bench.widgets.tuner.widget import RoutingTuner


def tuner_or_advice(**arguments: Any) -> Any:
    """A tuner, or where there is nothing to tune a text that says what to do.

    For pages that are opened by people who have not measured anything yet; takes what
    `RoutingTuner` takes.
    """
    try:
        return RoutingTuner(**arguments)
    except ConfigError as error:
        import ipywidgets

        return ipywidgets.HTML(
            f'<p role="alert"><b>There is nothing to tune yet.</b> {escape(str(error))}</p>'
            "<p>Measure something first, for example by <code>make demo</code>, or by"
            " <code>soma-bench sweep sweeps/m4max.yaml</code>; then load this page again.</p>"
        )
