"""The options that several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from soma_bench.errors import ConfigError
from soma_bench.settings import DEFAULT_STORE, STORE_VARIABLE
from soma_bench.types import AGENTS, Target

Command = TypeVar("Command", bound=Callable[..., Any])
"""A command's function, before or after an option is given to it."""

store_option = click.option(
    "--store",
    metavar="PATH|URL",
    help=f"Where trials are kept. [default: ${STORE_VARIABLE}, else {DEFAULT_STORE}]",
)
profile_option = click.option(
    "--profile",
    "profile_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The routing profile that says where each agent runs.",
)
verify_option = click.option(
    "--verify",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="File of a public key; a profile that its owner has not signed, or not any more, is refused.",
)
agents_option = click.option(
    "--agent",
    "agents",
    type=click.Choice(AGENTS),
    multiple=True,
    help="Only this agent. Repeatable. [default: all]",
)


def read_target(text: str, option: str | None = None) -> Target:
    """The target that an option, or an argument, names.

    Raises:
        ConfigError: it names none; the message says which option, and why.
    """
    try:
        return Target.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}" if option else str(error)) from error
