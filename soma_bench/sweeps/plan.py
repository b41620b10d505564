"""From a sweep to its trials: what will be run, under which key, in which order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.base import Case
from soma_bench.cases.images import load_images
from soma_bench.cases.suite import Suite, load_suite
from soma_bench.errors import ConfigError
from soma_bench.files import digest
from soma_bench.sweeps.spec import Sweep
from soma_bench.types import (
    AGENTS,
    AgentName,
    Image,
    ModelIdentity,
    ProviderName,
    Request,
    Target,
)

_MAX_TRIALS = 200_000
"""Weeks of work for a small model; a sweep of more is a slip, and its plan would fill the memory."""

ModelKey = tuple[ProviderName, str]
"""Provider and model: what has to be loaded for a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrial:
    """One target on one case, once."""

    key: str
    agent: AgentName
    target: Target
    suite: str
    case: Case
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All trials of a sweep, model by model, so that each model is loaded once."""

    sweep: Sweep
    suites: tuple[Suite, ...]
    identities: Mapping[ModelKey, ModelIdentity]
    epoch: int
    """0, or how many times the sweep was started anew; part of every key."""
    trials: tuple[PlannedTrial, ...]
    seeing: frozenset[ModelKey] = frozenset()
    """Models that are shown a case's image; the others are told its measured regions."""

    @property
    def digest(self) -> str:
        """Digest of what the run measures: its trials and the cases they are scored by."""
        return digest([[trial.key, trial.case.digest] for trial in self.trials])

    @property
    def run_id(self) -> str:
        """The run's name: the same plan is the same run, which is what makes it resumable."""
        suffix = f"-{self.epoch + 1}" if self.epoch else ""
        return f"{self.sweep.name}-{self.digest.removeprefix('sha256:')[:8]}{suffix}"

    def request(self, trial: PlannedTrial) -> Request:
        """The request of a trial."""
        suite = next(suite for suite in self.suites if suite.agent == trial.agent)
        images = _images(suite, trial.case, trial.target, self.seeing)
        return build_request(
            self.sweep, trial.agent, trial.target, trial.case, trial.repeat, images
        )


def load_suites(sweep: Sweep, folder: Path) -> tuple[Suite, ...]:
    """The sweep's suites, cut to its split and ``cases_per_agent``, in the order of the agents.

    Raises:
        ConfigError: a suite cannot be read, is for another agent than the sweep says, or has no
            case of the sweep's split.
    """
    suites = []
    for agent in (name for name in AGENTS if name in sweep.suites):
        suite = load_suite(folder / sweep.suites[agent])
        if suite.agent != agent:
            raise ConfigError(f"{suite.path}: holds cases of {suite.agent}, not of {agent}")
        if sweep.split != "all":
            suite = suite.part(sweep.split)
        suites.append(suite.take(sweep.cases_per_agent) if sweep.cases_per_agent else suite)
    return tuple(suites)


def models_of(sweep: Sweep) -> tuple[ModelKey, ...]:
    """Every model that the sweep needs, once, in the order of the file."""
    keys = ((t.provider, t.model) for group in sweep.targets for t in group.targets())
    return tuple(dict.fromkeys(keys))


def build_request(
    sweep: Sweep,
    agent: AgentName,
    target: Target,
    case: Case,
    repeat: int,
    images: tuple[Image, ...] = (),
) -> Request:
    """The request that puts a case to a target, with its images if the target is to see them."""
    return AGENT_BY_NAME[agent].request(
        case.input,
        model=target.model,
        thinking=target.thinking,
        options=sweep.options.options(repeat),
        images=images,
    )


def _images(
    suite: Suite, case: Case, target: Target, seeing: frozenset[ModelKey]
) -> tuple[Image, ...]:
    """What a target is shown of a case.

    Raises:
        ConfigError: the case's image cannot be read or made.
    """
    if (target.provider, target.model) not in seeing:
        return ()
    return load_images(case, suite.path.parent)


def describe_request(request: Request) -> dict[str, Any]:
    """A request as JSON values; an image is named by its digest.

    Its limits are left out: they decide when to give up and never what is answered.
    """
    described = dataclasses.asdict(request)
    del described["limits"]
    for message, turn in zip(described["messages"], request.messages, strict=True):
        message["images"] = [
            {"sha256": hashlib.sha256(image.data).hexdigest(), "media_type": image.media_type}
            for image in turn.images
        ]
    return described


def make_plan(
    sweep: Sweep,
    suites: Sequence[Suite],
    identities: Mapping[ModelKey, ModelIdentity],
    *,
    epoch: int = 0,
    seeing: frozenset[ModelKey] = frozenset(),
) -> Plan:
    """Expand a sweep: by model, then agent, then thinking, so that prompts in a row share most.

    Raises:
        ConfigError: the sweep has more trials than anyone would run, or an image cannot be read.
    """
    groups: dict[ModelKey, dict[AgentName, list[Target]]] = {}
    for model in models_of(sweep):
        groups[model] = {suite.agent: [] for suite in suites}
    for group in sweep.targets:
        for agent in group.agents or sweep.suites:
            for target in group.targets():
                groups[target.provider, target.model][agent].append(target)
    count = sweep.repeats * sum(
        len(targets[suite.agent]) * len(suite.cases)
        for targets in groups.values()
        for suite in suites
    )
    if count > _MAX_TRIALS:
        raise ConfigError(
            f"sweep {sweep.name}: has {count} trials, and {_MAX_TRIALS} are the most;"
            " lower repeats or cases_per_agent, or split its targets"
        )
    trials = tuple(
        PlannedTrial(
            key=_key(
                sweep,
                build_request(
                    sweep,
                    suite.agent,
                    target,
                    case,
                    repeat,
                    _images(suite, case, target, seeing),
                ),
                identities[model],
                suite.agent,
                target,
                case,
                repeat,
                epoch,
            ),
            agent=suite.agent,
            target=target,
            suite=suite.name,
            case=case,
            repeat=repeat,
        )
        for model, targets in groups.items()
        for suite in suites
        for target in targets[suite.agent]
        for case in suite.cases
        for repeat in range(sweep.repeats)
    )
    return Plan(
        sweep=sweep,
        suites=tuple(suites),
        identities=identities,
        epoch=epoch,
        trials=trials,
        seeing=seeing,
    )


def _key(
    sweep: Sweep,
    request: Request,
    identity: ModelIdentity,
    agent: AgentName,
    target: Target,
    case: Case,
    repeat: int,
    epoch: int,
) -> str:
    """Digest of everything that decides an answer; the reference is no part of it."""
    # Placeholders are put in at the call: the same request then asks something else.
    changed = {"privacy": sweep.privacy} if sweep.deidentifies else {}
    return digest(
        {
            **changed,
            "provider": target.provider,
            "weights": identity.weights_digest,
            "chat_template": identity.chat_template,
            "engine": identity.engine,
            "agent": agent,
            "case": case.id,
            "request": describe_request(request),
            "repeat": repeat,
            "epoch": epoch,
        }
    )
