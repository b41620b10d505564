"""The option ``--verify``, which commands that load a profile have in common."""

from __future__ import annotations

from pathlib import Path

import click

verify_option = click.option(
    "--verify",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="File of a public key; a profile that its owner has not signed, or not any more, is refused.",
)
