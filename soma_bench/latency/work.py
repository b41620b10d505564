"""What targets are asked: made-up prompts of a given length, or the cases of a suite."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.images import has_image, load_images
from soma_bench.cases.suite import Suite, load_suite
from soma_bench.errors import ConfigError
from soma_bench.pipeline.graph import GRAPHS, Stage
from soma_bench.routing.profile import Profile, resolve
from soma_bench.types import AGENTS, AgentName, Message, Options, Request, Target

_WORDS = [
    "the",
    "lung",
    "right",
    "left",
    "upper",
    "lower",
    "lobe",
    "with",
    "small",
    "large",
    "round",
    "part",
    "solid",
    "clear",
    "edge",
    "wall",
    "air",
    "fluid",
    "bone",
    "heart",
    "node",
    "size",
    "shape",
    "growth",
    "change",
    "stable",
    "new",
    "old",
    "scan",
    "image",
    "slice",
    "report",
    "note",
]
"""Common words, of which each is one token in the vocabularies in use."""
_FRAME_TOKENS = 30
"""About what the instruction below and a chat template add."""


@dataclass(frozen=True, slots=True)
class Work:
    """Requests for one target, by their number."""

    name: str
    """What is asked, in words."""
    request: Callable[[int], Request] = field(repr=False)
    agent: AgentName | None = None


def made_up_work(
    target: Target, *, prompt_tokens: int, output_tokens: int, options: Options
) -> Work:
    """Prompts of made-up words, no two of which begin alike, so that no cache of prompts helps.

    Args:
        target: what is asked.
        prompt_tokens: about how long a prompt is; the report says what the backend counts.
        output_tokens: most tokens of an answer, which is asked to go on without end.
        options: generation settings.
    """

    def request(number: int) -> Request:
        rng = random.Random(number)  # noqa: S311 - a prompt, no secret
        count = max(1, prompt_tokens - _FRAME_TOKENS)
        words = " ".join(rng.choice(_WORDS) for _ in range(count))
        text = f"{number} {words}\n\nGo on with words like these, as many as you can."
        return Request(
            model=target.model,
            messages=(Message("user", text),),
            max_tokens=output_tokens,
            thinking=target.thinking,
            options=options,
        )

    name = f"made-up prompts of about {prompt_tokens} tokens, at most {output_tokens} out"
    return Work(name, request)


def agent_suite(agent: AgentName, path: Path) -> Suite:
    """An agent's suite.

    Raises:
        ConfigError: it is wrong or another agent's.
    """
    suite = load_suite(path)
    if suite.agent != agent:
        raise ConfigError(f"{path}: holds cases of {suite.agent}, not of {agent}; name its suite")
    return suite


def suite_work(
    target: Target, agent: AgentName, suite: Suite, *, options: Options, sees: bool
) -> Work:
    """A suite's cases in their order, over and over, as the agent asks them in production.

    Args:
        target: what is asked.
        agent: whose cases they are.
        suite: the cases.
        options: generation settings.
        sees: whether the model is shown the cases' images.

    Raises:
        ConfigError: an image cannot be loaded.
    """
    requests = [
        AGENT_BY_NAME[agent].request(
            case.input,
            model=target.model,
            thinking=target.thinking,
            options=options,
            images=load_images(case, suite.path.parent) if sees and has_image(case) else (),
        )
        for case in suite.cases
    ]
    name = f"{agent}: {suite.name}, {len(requests)} cases"
    return Work(name, lambda number: requests[number % len(requests)], agent)


def production_concurrency(profile: Profile, agent: AgentName, analyses: int = 1) -> int:
    """Calls that a target has under way at most where so many analyses run at once.

    Stages that wait for the same stages run side by side; where they are on the agent's own target,
    they share it.

    Args:
        profile: the profile.
        agent: whose primary is looked at.
        analyses: analyses that are under way at once.
    """
    stages = GRAPHS[profile.pipeline]
    depths = _depths(stages)
    target = resolve(profile, agent).primary
    beside = [
        other
        for other in AGENTS
        if depths.get(other) == depths[agent] and resolve(profile, other).primary == target
    ]
    return analyses * len(beside)


def _depths(stages: Sequence[Stage]) -> dict[AgentName, int]:
    depths: dict[AgentName, int] = {}
    for stage in stages:
        before = [depths[agent] for agent in stage.waits_for(stages)]
        depths[stage.agent] = 1 + max(before, default=0)
    return depths
