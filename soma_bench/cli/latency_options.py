"""The options of ``soma-bench latency`` that say what is asked, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from soma_bench.cli.options import Command
from soma_bench.latency.load import Load
from soma_bench.types import AGENTS, PRIVACY_LEVELS, AgentName, Options, PrivacyLevel

_MOST_CLIENTS = 512
_USUAL_REQUESTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options ask for, apart from the targets."""

    agent: AgentName | None
    """Whose questions are asked; None for made-up prompts, or where a profile says whose."""
    suite: Path | None
    """The agent's cases; None for those of ``data/suites``."""
    prompt_tokens: int
    output_tokens: int
    concurrency: tuple[int, ...] | None
    rate: float | None
    """Requests a second of an open loop; None for a closed one."""
    analyses: int
    requests: int | None
    duration_s: float | None
    warm_up: int | None
    cold_starts: int
    privacy: PrivacyLevel
    options: Options
    seed: int

    def loads(self, usual: int) -> tuple[Load, ...]:
        """The loads of a target; ``usual`` is the concurrency where none was given."""
        if self.rate is not None:
            return (self._load(None, self.rate),)
        return tuple(self._load(count, None) for count in self.concurrency or (usual,))

    def _load(self, concurrency: int | None, rate: float | None) -> Load:
        return Load(
            concurrency=concurrency,
            rate=rate,
            requests=self.requests,
            duration_s=self.duration_s,
            warm_up=2 * (concurrency or 2) if self.warm_up is None else self.warm_up,
            seed=self.seed,
        )


class _Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "N,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
            self.fail(f"{value!r} is no list of numbers; write e.g. 1,4", param, ctx)
        counts = tuple(dict.fromkeys(int(part) for part in parts))
        if not all(1 <= count <= _MOST_CLIENTS for count in counts):
            self.fail(f"{value!r}: each must be from 1 to {_MOST_CLIENTS}", param, ctx)
        return counts


_OPTIONS = (
    click.option("--agent", type=click.Choice(AGENTS), help="Ask what this agent asks."),
    click.option(
        "--suite",
        type=click.Path(path_type=Path),
        help="With --agent: its cases. [default: data/suites/AGENT.jsonl]",
    ),
    click.option(
        "--prompt-tokens",
        type=click.IntRange(1, 1_000_000),
        default=512,
        show_default=True,
        help="Made-up prompts of about so many tokens, where there is no --agent.",
    ),
    click.option(
        "--output-tokens",
        type=click.IntRange(1, 100_000),
        default=64,
        show_default=True,
        help="Most tokens of an answer to a made-up prompt.",
    ),
    click.option(
        "--concurrency",
        type=_Counts(),
        help="Closed loop: so many clients, each asking again when it is answered. [default: 1, or"
        " what the profile's pipeline has under way]",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, 10_000, min_open=True),
        help="Open loop instead: requests arrive so often a second, whatever the target does.",
    ),
    click.option(
        "--analyses",
        type=click.IntRange(1, _MOST_CLIENTS),
        default=1,
        show_default=True,
        help="With --profile: analyses that run at once in production.",
    ),
    click.option(
        "--requests",
        type=click.IntRange(1, 100_000),
        help="Measured requests a load. [default: 100]",
    ),
    click.option(
        "--duration",
        "duration_s",
        type=click.FloatRange(0, 86_400, min_open=True),
        help="Seconds in which measured requests start; with --requests whichever ends first.",
    ),
    click.option(
        "--warm-up",
        type=click.IntRange(0, 10_000),
        help="Requests before the measured ones. [default: 2 a client]",
    ),
    click.option(
        "--cold-starts",
        type=click.IntRange(0, 100),
        default=1,
        show_default=True,
        help="Requests that find the model unloaded; local targets only.",
    ),
    click.option(
        "--privacy",
        type=click.Choice(PRIVACY_LEVELS),
        default="local_only",
        show_default=True,
        help="How private the requests are; cloud targets need more than local_only.",
    ),
    click.option(
        "--context-tokens",
        type=click.IntRange(256, 1_048_576),
        default=4096,
        show_default=True,
        help="Context window that local models hold.",
    ),
    click.option(
        "--cache-prompt", is_flag=True, help="Let backends reuse prompts' shared beginnings."
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Of --rate's arrivals."
    ),
)


def asking_options(command: Command) -> Command:
    """Give a command the options that say what is asked and how; `read_asked` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_asked(
    *,
    agent: AgentName | None,
    suite: Path | None,
    prompt_tokens: int,
    output_tokens: int,
    concurrency: tuple[int, ...] | None,
    rate: float | None,
    analyses: int,
    requests: int | None,
    duration_s: float | None,
    warm_up: int | None,
    cold_starts: int,
    privacy: PrivacyLevel,
    context_tokens: int,
    cache_prompt: bool,
    seed: int,
) -> Asked:
    """What the options ask for.

    Raises:
        click.UsageError: two of them do not go together.
    """
    if suite is not None and agent is None:
        raise click.UsageError("--suite holds the cases of an agent; give --agent too")
    if concurrency is not None and rate is not None:
        raise click.UsageError("--concurrency is a closed loop and --rate an open one; give one")
    return Asked(
        agent=agent,
        suite=suite,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        concurrency=concurrency,
        rate=rate,
        analyses=analyses,
        requests=_USUAL_REQUESTS if requests is None and duration_s is None else requests,
        duration_s=duration_s,
        warm_up=warm_up,
        cold_starts=cold_starts,
        privacy=privacy,
        options=Options(context_tokens=context_tokens, cache_prompt=cache_prompt),
        seed=seed,
    )
