"""``soma-bench cases``: suites made by seed."""

from __future__ import annotations

from pathlib import Path

import click

from soma_bench.cases.generate import GENERATOR_BY_AGENT, SEED, suite_text
from soma_bench.cli.output import json_option, print_json
from soma_bench.files import write_atomically
from soma_bench.types import AGENTS, AgentName

_FOLDER = Path("data/suites")


@click.group(epilog="Example: soma-bench cases generate --agent radiologist --seed 7 --out /tmp")
def cases() -> None:
    """Make suites by seed."""


@cases.command(epilog="Example: soma-bench cases generate --agent radiologist --seed 7 --out /tmp")
@click.option(
    "--agent",
    "agents",
    type=click.Choice(AGENTS),
    multiple=True,
    help="Only this agent; may be given several times. [default: all]",
)
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
