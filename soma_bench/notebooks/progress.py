"""A sweep's progress as one line of a notebook that changes in place."""

from __future__ import annotations

from html import escape
from typing import Any

from soma_bench.sweeps.runner import Progress


class ProgressLine:
    """Shows a sweep's progress under the running cell; pass it as ``on_progress``."""

    def __init__(self) -> None:
        self._line: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show how far the sweep is."""
        from IPython.display import HTML, display

        content = HTML(progress_html(progress))  # type: ignore[no-untyped-call]
        if self._line is None:
            self._line = display(content, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._line.update(content)


def progress_html(progress: Progress) -> str:
    """A bar, the count, and the trial that has just ended."""
    ended = progress.done + progress.failed
    words = f"{ended} of {progress.total} trials"
    if progress.failed:
        words += f", {progress.failed} failed"
    if progress.trial is not None and ended < progress.total:
        words += f"; {progress.trial.agent} on {progress.trial.target}"
    return (
        f'<progress value="{ended}" max="{progress.total}" aria-label="trials"></progress> '
        f"{escape(progress.run_id)}: {escape(words)}"
    )
