"""The options by which commands take what a routing must hold and what is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from pydantic import ValidationError

from soma_bench.cli.options import Command
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.routing.constraints import (
    GOALS,
    Constraints,
    Lexicographic,
    Objective,
    Weighted,
    working_set_bytes,
)
from soma_bench.types import AGENTS, PRIVACY_LEVELS, AgentName

_GIB = 1 << 30

_LIMITS = (
    click.option(
        "--floor",
        "floors",
        multiple=True,
        metavar="AGENT=X",
        help="Lowest quality of an agent's targets, 0 to 1; AGENT may be all. Repeatable.",
    ),
    click.option(
        "--floor-on",
        type=click.Choice(["low", "mean"]),
        default="low",
        show_default=True,
        help="Compare floors with the interval's lower end or with the mean.",
    ),
    click.option("--max-latency", type=float, metavar="SECONDS", help="Of the whole pipeline."),
    click.option(
        "--percentile",
        type=click.Choice(["p50", "p95"]),
        default="p95",
        show_default=True,
        help="Which latency counts.",
    ),
    click.option(
        "--max-degraded-latency",
        type=float,
        metavar="SECONDS",
        help="Of the whole pipeline with any one stage on its fallback. [default: --max-latency]",
    ),
    click.option(
        "--max-memory", type=float, metavar="GIB", help="Of all resident models together."
    ),
    click.option(
        "--ram",
        type=float,
        metavar="GIB",
        help="Of the machine; models may take 75 % of it, as on a Mac: 27 of 36. Instead of --max-memory.",
    ),
    click.option(
        "--swap",
        is_flag=True,
        help="Let models be loaded in each analysis where not all fit together.",
    ),
    click.option(
        "--contention",
        type=float,
        default=1.0,
        show_default=True,
        metavar="FACTOR",
        help="How much slower two local stages run side by side, as measured; 1 is not at all.",
    ),
    click.option(
        "--max-cost", type=float, metavar="USD", help="Of 1000 analyses, fallbacks included."
    ),
    click.option(
        "--fallback-rate",
        type=float,
        metavar="SHARE",
        help="How often a stage ends on its fallback. [default: each primary's failures in RUN]",
    ),
    click.option(
        "--fallback-apart",
        type=click.Choice(["target", "provider", "machine"]),
        default="target",
        show_default=True,
        help="What a fallback may not share with its primary.",
    ),
    click.option(
        "--privacy",
        "privacy",
        multiple=True,
        metavar="AGENT=LEVEL",
        help=f"{', '.join(PRIVACY_LEVELS)}; AGENT may be all. Repeatable. [default: local_only]",
    ),
    click.option(
        "--require-fallback",
        "fallbacks",
        multiple=True,
        metavar="AGENT",
        help="Refuse a routing without a fallback for AGENT, or for all. Repeatable.",
    ),
    click.option(
        "--allow-synthetic", is_flag=True, help="Also choose among weights made for tests."
    ),
)
_BEST = (
    click.option(
        "--pipeline",
        type=click.Choice(["sequential", "parallel", "either"]),
        default="sequential",
        show_default=True,
        help="Whether radiologist and pathologist run side by side; either takes what is better.",
    ),
    click.option(
        "--order",
        metavar="GOALS",
        help="What matters most, then next. [default: quality,latency,cost]",
    ),
    click.option(
        "--tolerance",
        "tolerances",
        multiple=True,
        metavar="GOAL=X",
        help="What a goal may give up for later ones, e.g. quality=0.05. Repeatable.",
    ),
    click.option(
        "--weight",
        "weights",
        multiple=True,
        metavar="GOAL=X",
        help="Weigh goals instead: per unit of quality, second, dollar per 1000. Repeatable.",
    ),
)


def demand_options(command: Command) -> Command:
    """Give a command an option for each limit, and for the order of the stages and the objective.

    `read_constraints` takes the limits' values as they come, `read_objective` the objective's.
    """
    for option in reversed((*_LIMITS, *_BEST)):
        command = option(command)
    return command


def read_constraints(
    *,
    floors: Sequence[str],
    floor_on: str,
    max_latency: float | None,
    max_degraded_latency: float | None,
    percentile: str,
    max_memory: float | None,
    ram: float | None,
    swap: bool,
    contention: float,
    max_cost: float | None,
    fallback_rate: float | None,
    fallback_apart: str,
    privacy: Sequence[str],
    fallbacks: Sequence[str],
    allow_synthetic: bool,
) -> Constraints:
    """The limits that the options ask for.

    Raises:
        ConfigError: a value is not what its option takes, or the limits contradict each other.
    """
    needed = [agent for text in fallbacks for agent in _agents("--require-fallback", text)]
    try:
        return Constraints.model_validate(
            {
                "quality_floors": _by_agent("--floor", floors, float),
                "floor_on": floor_on,
                "privacy": _by_agent("--privacy", privacy, str),
                "max_latency_s": max_latency,
                "max_degraded_latency_s": max_degraded_latency,
                "latency": percentile,
                "max_memory_bytes": _memory(max_memory, ram),
                "may_swap": swap,
                "contention": contention,
                "max_cost_usd_per_1000": max_cost,
                "fallback_rate": fallback_rate,
                "fallback_apart": fallback_apart,
                "require_fallback": dict.fromkeys(needed, True),
                "allow_synthetic": allow_synthetic,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"constraints: {first_problem(error)}") from error


def _by_agent(flag: str, given: Sequence[str], read: Callable[[str], Any]) -> dict[AgentName, Any]:
    values: dict[AgentName, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag}: {text!r} is not AGENT=VALUE")
        try:
            values.update(dict.fromkeys(_agents(flag, name), read(value)))
        except ValueError as error:
            raise ConfigError(f"{flag}: {value!r} for {name} is not a number") from error
    return values


def _agents(flag: str, name: str) -> tuple[AgentName, ...]:
    if name == "all":
        return AGENTS
    found = tuple(agent for agent in AGENTS if agent == name)
    if not found:
        raise ConfigError(f"{flag}: unknown agent {name!r}; known: {', '.join(AGENTS)}, all")
    return found


def read_objective(
    order: str | None, tolerances: Sequence[str], weights: Sequence[str]
) -> Objective:
    """What the options call best.

    Raises:
        ConfigError: a value is not what its option takes, or --weight stands beside the others.
    """
    if weights and (order or tolerances):
        raise ConfigError("--weight: weighs all goals at once; leave --order and --tolerance out")
    names = {
        "--weight": ("quality", "latency_per_s", "cost_per_usd_per_1000"),
        "--tolerance": (
            "quality_tolerance",
            "latency_tolerance_s",
            "cost_tolerance_usd_per_1000",
        ),
    }
    flag = "--weight" if weights else "--tolerance"
    fields = dict(zip(GOALS, names[flag], strict=True))
    figures: dict[str, Any] = {}
    for text in weights or tolerances:
        goal, equals, value = text.partition("=")
        field = next((field for known, field in fields.items() if known == goal), None)
        if not equals or field is None:
            raise ConfigError(f"{flag}: {text!r} is not GOAL=X with GOAL of {', '.join(GOALS)}")
        try:
            figures[field] = float(value)
        except ValueError as error:
            raise ConfigError(f"{flag}: {value!r} for {goal} is not a number") from error
    try:
        if weights:
            return Weighted.model_validate({"quality": 0.0, **figures})
        if order is None and not figures:
            return "quality_latency_cost"
        goals = tuple(order.split(",")) if order else GOALS
        return Lexicographic.model_validate({"order": goals, **figures})
    except ValidationError as error:
        raise ConfigError(f"objective: {first_problem(error)}") from error


def _memory(limit: float | None, ram: float | None) -> int | None:
    if limit is not None and ram is not None:
        raise ConfigError("--ram: stands for a --max-memory of 75 % of it; give one of the two")
    if ram is not None:
        return working_set_bytes(_bytes("--ram", ram))
    return None if limit is None else _bytes("--max-memory", limit)


def _bytes(flag: str, gib: float) -> int:
    if not 0 < gib <= 1 << 20:
        raise ConfigError(f"{flag}: {gib:g} GiB is not a memory size")
    return int(gib * _GIB)
