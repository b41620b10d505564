"""``soma-bench route``: where an agent's question would go, and why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel, ValidationError

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli.options import profile_option
from soma_bench.cli.output import json_option, print_json, print_table
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem, parse_json, read_text
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.complexity import Complexity
from soma_bench.routing.context import CallContext, Need
from soma_bench.routing.decision import Decision
from soma_bench.routing.health import check
from soma_bench.routing.overrides import provider_factory
from soma_bench.routing.profile import load_profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, PRIVACY_LEVELS, AgentName, PrivacyLevel, Target

_PROFILE = "routing_profiles/demo.json"


@click.command(
    epilog=f"Example: soma-bench route report_writer --profile {_PROFILE} --need batch --explain"
)
@click.argument("agent", type=click.Choice(AGENTS))
@profile_option
@click.option(
    "--input",
    "input_path",
    type=click.Path(path_type=Path),
    help="The agent's input (JSON), from which its complexity and length are taken.",
)
@click.option(
    "--complexity",
    "level",
    type=click.Choice(get_args(Complexity)),
    help="The complexity of the case, where there is no input. [default: moderate]",
)
@click.option(
    "--need",
    type=click.Choice(get_args(Need)),
    default="interactive",
    show_default=True,
    help="Whether somebody waits for the answer.",
)
@click.option(
    "--privacy",
    type=click.Choice(PRIVACY_LEVELS),
    help="Level of the data; the stricter of it and the agent's own holds.",
)
@click.option(
    "--prior-studies",
    type=click.IntRange(min=0, max=1000),
    default=0,
    help="Earlier examinations to compare with.",
)
@click.option("--explain", is_flag=True, help="Also say why every other target is left out.")
@click.option(
    "--check", "probe", is_flag=True, help="Also ask the backends whether they are there."
)
@json_option
@click.pass_context
def route(
    ctx: click.Context,
    agent: AgentName,
    profile_path: Path,
    input_path: Path | None,
    level: Complexity | None,
    need: Need,
    privacy: PrivacyLevel | None,
    prior_studies: int,
    explain: bool,
    probe: bool,
    as_json: bool,
) -> None:
    """Say which targets a question of AGENT is put to, in which order, and why. Asks no model.

    Exit code 1 when no target may be asked, or with --check when none is healthy.
    """
    if input_path is not None and level is not None:
        raise click.UsageError("--complexity is computed from --input; give one of the two")
    profile = load_profile(profile_path)
    environment = read_environment()
    providers = ProviderPool(provider_factory(profile, environment))
    router = Router(profile, providers, environment=environment)
    decision = router.decide(
        agent,
        CallContext(privacy=privacy, need=need, prior_studies=prior_studies),
        inputs=None if input_path is None else _load_input(agent, input_path),
        level=level or "moderate",
    )
    health = asyncio.run(_health(decision, providers)) if probe else {}
    if as_json:
        print_json(_as_json(decision, health))
    else:
        _print(decision, health, explain=explain)
    usable = [c for c in decision.targets if health.get(c.target) is None]
    ctx.exit(0 if usable else 1)


def _load_input(agent: AgentName, path: Path) -> BaseModel:
    text = read_text(path)
    parse_json(text, str(path))  # refuses duplicate keys and NaN, which the model's reader takes
    try:
        inputs: BaseModel = AGENT_BY_NAME[agent].input_type.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{path}: is no input of {agent}: {first_problem(error)}") from error
    return inputs


async def _health(decision: Decision, providers: ProviderPool) -> dict[Target, str | None]:
    async with providers:
        found = await check((choice.target for choice in decision.targets), providers)
    return {health.target: health.reason for health in found}


def _print(decision: Decision, health: dict[Target, str | None], *, explain: bool) -> None:
    task = decision.task
    title = f"{task.agent}: {task.privacy}, {task.complexity}, {task.need}"
    rows = [
        [str(number), str(choice.target), choice.reason, *_healths(choice.target, health)]
        for number, choice in enumerate(decision.targets, 1)
    ]
    columns = [">", "target", "why", *(["health"] if health else [])]
    print_table(title, columns, rows)
    if not decision.targets:
        click.echo("no target may be asked")
    if explain and decision.left_out:
        click.echo()
        left = [[str(entry.target), entry.reason] for entry in decision.left_out]
        print_table("left out", ["target", "why"], left)


def _healths(target: Target, health: dict[Target, str | None]) -> list[str]:
    return [health[target] or "healthy"] if health else []


def _as_json(decision: Decision, health: dict[Target, str | None]) -> dict[str, Any]:
    task = decision.task
    return {
        "agent": task.agent,
        "privacy": task.privacy,
        "complexity": task.complexity,
        "need": task.need,
        "tokens_at_least": task.tokens,
        "targets": [
            {
                "target": str(choice.target),
                "reason": choice.reason,
                **({"unhealthy": health[choice.target]} if health else {}),
            }
            for choice in decision.targets
        ],
        "left_out": [
            {"target": str(entry.target), "because": entry.because, "reason": entry.reason}
            for entry in decision.left_out
        ],
    }
