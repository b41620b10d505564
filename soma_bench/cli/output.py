"""How commands speak: tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from soma_bench.settings import DEFAULT_STORE, STORE_VARIABLE
from soma_bench.types import Target

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
store_option = click.option(
    "--store",
    metavar="PATH|URL",
    help=f"Where trials are kept. [default: ${STORE_VARIABLE}, else {DEFAULT_STORE}]",
)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; columns whose name begins with ``>`` are aligned right.

    Lines are never wrapped by a narrow pipe: off a terminal the table is as wide as it needs.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column[:1] == ">" else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def tell_of_retirements(targets: Iterable[Target]) -> None:
    """Note on stderr which of the targets' models are retired or will be soon."""
    from soma_bench.doctor import retirement_warnings

    for warning in retirement_warnings(targets):
        click.echo(f"note: {warning}", err=True)


def gibibytes(size_bytes: float | None) -> str:
    """A size for people; ``?`` where nobody knows it."""
    return "?" if size_bytes is None else f"{size_bytes / (1 << 30):.2f} GiB"


def dollars(value: float | None) -> str:
    """A price for people, small ones with their first digits; ``?`` where nobody knows it."""
    if value is None:
        return "?"
    decimals = 2 if value <= 0 or value >= 1 else 1 - math.floor(math.log10(value))
    return f"${value:.{decimals}f}"


def seconds(value: float | None) -> str:
    """A time for people; ``?`` where nobody knows it."""
    if value is None:
        return "?"
    return f"{value:.2f} s" if value < 100 else f"{value / 60:.1f} min"
