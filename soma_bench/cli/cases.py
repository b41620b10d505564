"""``soma-bench cases``: suites made by seed, and from data sets that users have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from soma_bench.cases.generate import GENERATOR_BY_AGENT, SEED, suite_text
from soma_bench.cases.importers.base import Imported, Job, read_cases, write_suite
from soma_bench.cases.importers.formats import FORMAT_BY_NAME
from soma_bench.cli.options import agents_option
from soma_bench.cli.output import json_option, print_json
from soma_bench.files import write_atomically
from soma_bench.types import AGENTS, AgentName

_FOLDER = Path("data/suites")


@click.group(epilog="Example: soma-bench cases generate --agent radiologist --seed 7 --out /tmp")
def cases() -> None:
    """Make suites by seed; import them from files."""


@cases.command(epilog="Example: soma-bench cases generate --agent radiologist --seed 7 --out /tmp")
@agents_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=SEED,
    show_default=True,
    help="Another seed makes other cases of the same kinds.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=_FOLDER,
    show_default=True,
    help="Folder for the files, which are named AGENT-generated.jsonl.",
)
@json_option
def generate(agents: tuple[AgentName, ...], seed: int, out: Path, as_json: bool) -> None:
    """Write suites that follow from a seed alone; half of each is held out."""
    written = []
    for agent in agents or AGENTS:
        made = GENERATOR_BY_AGENT[agent](seed)
        path = out / f"{agent}-generated.jsonl"
        changed = write_atomically(path, suite_text(made))
        held_out = sum(case.split == "held_out" for case in made)
        written.append(
            {
                "agent": agent,
                "path": str(path),
                "cases": len(made),
                "held_out": held_out,
                "changed": changed,
            }
        )
        if not as_json:
            state = "written" if changed else "unchanged"
            click.echo(f"{path}: {len(made)} cases, {held_out} held out, {state}")
    if as_json:
        print_json({"seed": seed, "suites": written})


@cases.command(
    "import", epilog="Example: soma-bench cases import medec MEDEC.csv --agent qc_reviewer"
)
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(FORMAT_BY_NAME)))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--agent", type=click.Choice(AGENTS), required=True, help="Whose cases are made.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The suite's file. [default: data/imported/FORMAT-AGENT.jsonl]",
)
@click.option("--licence", help="Terms of your copy. [default: those of the data set as published]")
@click.option("--source", help="Where your copy comes from. [default: the data set's citation]")
@click.option(
    "--mapping",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For plain: JSON of fields and columns; for dicom: CSV of what each file shows.",
)
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out instead of importing nothing.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    format_name: str,
    path: Path,
    agent: AgentName,
    out: Path | None,
    licence: str | None,
    source: str | None,
    mapping: Path | None,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Make a suite of the file or folder at PATH, which is in FORMAT.

    Nothing is fetched and nothing is written before every row has been read. Rows that cannot be
    used are named, and then nothing is written and the exit code is 1, unless --skip-bad leaves them
    out. Source and licence are kept beside the suite.
    """
    target = out or Path("data/imported") / f"{format_name}-{agent}.jsonl"
    job = Job(path=path, agent=agent, out=target, mapping=mapping)
    found = read_cases(FORMAT_BY_NAME[format_name], job, source=source, licence=licence)
    refused = bool(found.problems) and not skip_bad
    for problem in found.problems:
        click.echo(f"{path}: {problem}", err=True)
    beside = None if refused else write_suite(found)
    if as_json:
        print_json(_summary(found, beside))
    elif refused:
        click.echo(
            f"nothing imported: {found.bad_rows} rows cannot be used;"
            " correct them, or leave them out with --skip-bad"
        )
    else:
        click.echo(
            f"{target}: {len(found.cases)} cases, {found.bad_rows} rows left out,"
            f" {found.passed_over} without anything for {agent}; source and licence: {beside}"
        )
    ctx.exit(1 if refused else 0)


def _summary(found: Imported, beside: Path | None) -> dict[str, Any]:
    return {
        "suite": None if beside is None else str(found.job.out),
        "origin": None if beside is None else str(beside),
        "cases": len(found.cases),
        "bad_rows": found.bad_rows,
        "passed_over": found.passed_over,
        "problems": [
            {"rows": list(problem.numbers), "reason": problem.reason} for problem in found.problems
        ],
        "source": found.source,
        "licence": found.licence,
    }
