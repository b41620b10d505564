"""How commands speak: tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from soma_bench.amounts import dollars, gibibytes, seconds
from soma_bench.types import Target

__all__ = [
    "dollars",
    "gibibytes",
    "json_option",
    "print_json",
    "print_table",
    "seconds",
    "tell_of_retirements",
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


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
