"""``soma-bench notebook``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from soma_bench.cli.output import json_option, print_json, seconds
from soma_bench.notebooks.parameters import declared_parameters, read_parameters
from soma_bench.notebooks.run import DEFAULT_FOLDER, Outcome, load_notebook, run_notebook


@click.command(epilog="Example: soma-bench notebook notebooks/02_compare.ipynb -p run demo --html")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "given",
    type=(str, str),
    metavar="NAME VALUE",
    multiple=True,
    help="Set a parameter. Repeatable.",
)
@click.option(
    "-f",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE.yaml",
    help="Set parameters from a YAML 1.2 file; -p wins over it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"Where to keep the executed notebook. [default: {DEFAULT_FOLDER}/NAME.ipynb]",
)
@click.option("--html", is_flag=True, help="Also write it as one HTML file beside it.")
@click.option(
    "--cwd",
    type=click.Path(path_type=Path),
    help="Folder that the notebook runs in. [default: this one]",
)
@click.option(
    "--cell-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest time of a cell. [default: no limit]",
)
@json_option
@click.pass_context
def notebook(
    ctx: click.Context,
    path: Path,
    given: tuple[tuple[str, str], ...],
    file: Path | None,
    out: Path | None,
    html: bool,
    cwd: Path | None,
    cell_timeout: float | None,
    as_json: bool,
) -> None:
    """Execute the notebook at PATH and keep it with its outputs.

    Names and types of parameters are checked before anything runs. A run that failed or was stopped
    is kept as NAME.failed.ipynb and never under the name that was asked for.

    Exit codes: 0 done, 1 the notebook's answer is no (a gate that is not passed, trials that failed), 2 wrong use or bad input, 3 a cell raised an error or the kernel died, 130 or 143 stopped by a signal.
    """
    declared = declared_parameters(load_notebook(path), str(path))
    outcome = run_notebook(
        path,
        read_parameters(declared, given, file, str(path)),
        out=out,
        html=html,
        cwd=cwd,
        cell_timeout_s=cell_timeout,
        on_cell=lambda number, count: click.echo(
            f"{path.stem}: cell {number} of {count}", err=True
        ),
    )
    if as_json:
        print_json(_record(outcome))
    else:
        _tell(outcome)
    ctx.exit(outcome.exit_code)


def _record(outcome: Outcome) -> dict[str, object]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(outcome).items()
    }


def _tell(outcome: Outcome) -> None:
    click.echo(f"{outcome.status} after {seconds(outcome.seconds)}: {outcome.notebook}")
    if outcome.html:
        click.echo(f"as a page: {outcome.html}")
    if outcome.error:
        click.echo(f"cell {outcome.cell}: {outcome.error}", err=True)
