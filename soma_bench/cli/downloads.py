"""How downloads are shown: a bar while they run, sizes in the decimal units in which they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from soma_bench.providers.workspace import Report


@contextmanager
def download_bar() -> Iterator[Report]:
    """A bar on stderr where that is a terminal; else silence."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def report(step: str, done_bytes: int, total_bytes: int) -> None:
            bar.update(task, description=step, completed=done_bytes, total=total_bytes or None)

        yield report


def megabytes(size_bytes: int | None) -> str:
    """A file's size for people; ``?`` where nobody knows it."""
    if size_bytes is None:
        return "?"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.1f} GB"
