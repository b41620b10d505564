"""The sweep file: which targets meet which suites, and how.

A sweep is YAML 1.2, so ``off`` is the word off and not False. Suites are found relative to the
sweep's own folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.strict_yaml import read_yaml
from soma_bench.types import (
    AgentName,
    Options,
    PrivacyLevel,
    ProviderName,
    Target,
    Thinking,
    parse_thinking,
)

_Path = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class TargetSet(Strict):
    """Targets declared together: one model in several quantizations and thinking settings."""

    provider: ProviderName
    model: Annotated[str, Field(min_length=1, max_length=200)]
    quantizations: Annotated[list[str], Field(min_length=1, max_length=50)] | None = None
    """Joined to the model's name by ``-``; left out where the name says it all."""
    thinking: Annotated[list[Thinking | None], Field(min_length=1, max_length=50)] = [None]  # noqa: RUF012 - pydantic copies it
    agents: Annotated[list[AgentName], Field(min_length=1, max_length=5)] | None = None
    """Agents that these targets are tried on; all agents of the sweep by default."""

    @field_validator("thinking", mode="before")
    @classmethod
    def _read_thinking(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [None if item is None else parse_thinking(item) for item in value]

    @model_validator(mode="after")
    def _models_have_names(self) -> TargetSet:
        self.targets()
        return self

    def targets(self) -> list[Target]:
        """The declared targets."""
        names = [f"{self.model}-{q}" for q in self.quantizations or []] or [self.model]
        plain = [Target.parse(f"{self.provider}:{name}") for name in names]
        return [
            Target(target.provider, target.model, thinking)
            for target in plain
            for thinking in self.thinking
        ]


class GenerationOptions(Strict):
    """Generation settings of a sweep; see `soma_bench.types.Options`."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    context_tokens: Annotated[int, Field(ge=256, le=1_048_576)] = 2048
    cache_prompt: bool = False

    def options(self, repeat: int) -> Options:
        """The options of one repeat: each repeat has a seed of its own."""
        return Options(**{**self.model_dump(), "seed": self.seed + repeat})


class ProviderLimits(Strict):
    """What one provider's account or host may be asked of a sweep."""

    concurrency: Annotated[int, Field(ge=1, le=512)] | Literal["adaptive"] | None = None
    """Calls at a time. ``adaptive`` finds the number. By default 1 for a local provider, whose
    latencies are then the model's own, and ``adaptive`` for a cloud."""
    max_concurrency: Annotated[int, Field(ge=1, le=512)] = 64
    """Most calls at a time that ``adaptive`` goes to."""
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Calls a minute, evenly spread; tries that failed count too."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Tokens a minute, prompts and answers together; an answer counts at its limit until it is
    there."""


class RaceOptions(Strict):
    """How ``sweep --race`` drops targets; see `soma_bench.sweeps.racing`."""

    alpha: Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)] = 0.05
    """Most probable loss of an agent's best target over its whole race."""
    regret: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.01
    """What does not matter: an agent's race is over when its leader is expected to be no further
    than this from the best, and targets that close to the leader are ties. 0 goes on to the end."""
    strict: bool = False
    """Bonferroni alone, without the bootstrap: holds however few the cases are, and saves less."""
    cases: Annotated[int, Field(ge=2, le=100_000)] = 60
    """Most independent cases (clusters) that an agent's race goes to."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Decides the order of the cases and the bootstrap."""


class Sweep(Strict):
    """A declared set of trials."""

    name: _Name
    description: Annotated[str, Field(max_length=2000)] = ""
    suites: Annotated[dict[AgentName, _Path], Field(min_length=1)]
    """Path of the suite for each agent to be measured."""
    split: Literal["dev", "held_out", "all"] = "all"
    """Only the cases of this split of each suite."""
    cases_per_agent: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Only the first so many cases of each suite; all of them by default."""
    targets: Annotated[list[TargetSet], Field(min_length=1, max_length=200)]
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    options: GenerationOptions = GenerationOptions()
    privacy: PrivacyLevel = "local_only"
    """How private the cases are, which decides whether cloud targets are allowed. ``local_only``:
    none is. ``deidentified``: requests go to a cloud with placeholders where patterns find an
    identifier, which lowers the risk and does not remove it. ``open``: they go as they are; for
    phantoms and cases that are public anyway."""
    images_may_leave: bool = False
    """Whether images go to a cloud under ``deidentified``, with whatever stands in their pixels."""
    nlp_model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """An installed spaCy model that finds names under ``deidentified``; patterns alone by default."""
    race: RaceOptions = RaceOptions()
    limits: dict[ProviderName, ProviderLimits] = {}  # noqa: RUF012 - pydantic copies it
    """How hard each provider may be driven. It decides no answer and is part of no trial's key."""
    max_cost_usd: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    """What vendors may charge for the run in all, earlier executions included; no call is made that
    might pass it. Electricity is not counted."""
    warm_up: bool = False
    """Whether each local model answers a short greeting before its first trial, so that no trial has
    to load it. It is not needed for sound latencies: a trial that loaded its model says so and is
    left out of them where others are there. It costs the record of how long loading took, and one
    call a model."""

    @model_validator(mode="after")
    def _targets_are_sound(self) -> Sweep:
        seen: set[tuple[str, AgentName]] = set()
        for group in self.targets:
            for agent in group.agents or self.suites:
                if agent not in self.suites:
                    raise ValueError(f"targets name agent {agent!r}, for which there is no suite")
                for target in group.targets():
                    if (str(target), agent) in seen:
                        raise ValueError(f"target {target} is declared twice for {agent}")
                    seen.add((str(target), agent))
        return self

    @property
    def deidentifies(self) -> bool:
        """Whether requests to a cloud carry placeholders."""
        return self.privacy == "deidentified"


@dataclass(frozen=True, slots=True)
class PlacedSweep:
    """A sweep that was declared somewhere else than in a file."""

    sweep: Sweep
    folder: Path
    """Folder that the sweep's own paths start from."""


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ConfigError: it cannot be read or is not a sweep; the message names the place.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is not a sweep: name, suites and targets are expected")
    return sweep_from(content, str(path))


def sweep_from(content: dict[str, Any], place: str) -> Sweep:
    """A sweep from its mapping.

    Raises:
        ConfigError: it is not a sweep; the message begins with ``place``.
    """
    try:
        return Sweep.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_problem(error)}") from error
