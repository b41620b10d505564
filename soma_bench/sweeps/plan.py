"""From a sweep to its trials: what will be run, under which key, in which order.

A plan is held as what it was made of and one key of 32 bytes a trial; a trial is put together when
it is its turn. So a hundred thousand trials take three megabytes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.base import Case
from soma_bench.cases.images import has_image, load_images
from soma_bench.cases.suite import Suite, load_suite
from soma_bench.errors import ConfigError
from soma_bench.files import canonical_json
from soma_bench.sweeps.identity import (
    KEY_BYTES,
    TrialKeys,
    describe_request,
    key_text,
    options_json,
    prompt_json,
)
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

__all__ = [
    "Block",
    "ModelKey",
    "Plan",
    "PlannedTrial",
    "Trials",
    "build_request",
    "describe_request",
    "load_suites",
    "make_plan",
    "models_of",
]

_MAX_TRIALS = 5_000_000
"""Months of work for a small model; a sweep of more is a slip."""

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
class Block:
    """The trials of one target on one suite: case by case, and each case's repeats in a row."""

    suite: Suite
    target: Target
    start: int
    """Position of its first trial."""

    @property
    def model(self) -> ModelKey:
        """What has to be loaded for it."""
        return self.target.provider, self.target.model


class Trials(Sequence[PlannedTrial]):
    """A plan's trials in the order in which they run.

    Args:
        blocks: what they are made of.
        repeats: how often each case is put to each target.
        keys: their keys, one after the other.
    """

    def __init__(self, blocks: Sequence[Block], repeats: int, keys: bytes) -> None:
        self.blocks = tuple(blocks)
        self._repeats = repeats
        self._keys = keys
        self._starts = [block.start for block in blocks]

    def __len__(self) -> int:
        return len(self._keys) // KEY_BYTES

    @overload
    def __getitem__(self, at: int) -> PlannedTrial: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[PlannedTrial]: ...
    def __getitem__(self, at: int | slice) -> PlannedTrial | Sequence[PlannedTrial]:
        places = range(len(self))
        if isinstance(at, slice):
            return tuple(map(self._trial, places[at]))
        return self._trial(places[at])

    def __iter__(self) -> Iterator[PlannedTrial]:
        return map(self._trial, range(len(self)))

    def key(self, position: int) -> str:
        """The key of the trial at a position."""
        return key_text(self._keys[position * KEY_BYTES : (position + 1) * KEY_BYTES])

    def _trial(self, position: int) -> PlannedTrial:
        # Suites that came out empty leave blocks of no trial, which begin where the next one does.
        block = self.blocks[bisect_right(self._starts, position) - 1]
        case, repeat = divmod(position - block.start, self._repeats)
        return PlannedTrial(
            key=self.key(position),
            agent=block.suite.agent,
            target=block.target,
            suite=block.suite.name,
            case=block.suite.cases[case],
            repeat=repeat,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All trials of a sweep, model by model, so that each model is loaded once."""

    sweep: Sweep
    suites: tuple[Suite, ...]
    identities: Mapping[ModelKey, ModelIdentity]
    epoch: int
    """0, or how many times the sweep was started anew; part of every key."""
    trials: Trials
    digest: str
    """Digest of what the run measures: its trials and the cases they are scored by."""
    base_digest: str
    """The same at epoch 0: equal for every start of the same sweep."""
    seeing: frozenset[ModelKey] = frozenset()
    """Models that are shown a case's image; the others are told its measured regions."""

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
    blocks: list[Block] = []
    start = 0
    for targets in groups.values():
        for suite in suites:
            for target in targets[suite.agent]:
                blocks.append(Block(suite=suite, target=target, start=start))
                start += len(suite.cases) * sweep.repeats

    def expanded(epoch: int) -> tuple[Trials, str]:
        keys = _keys(sweep, suites, blocks, count, identities, seeing, epoch)
        trials = Trials(blocks, sweep.repeats, keys)
        return trials, _digest(trials, suites, sweep.repeats)

    trials, digest = expanded(0)
    plan = Plan(
        sweep=sweep,
        suites=tuple(suites),
        identities=identities,
        epoch=0,
        trials=trials,
        digest=digest,
        base_digest=digest,
        seeing=seeing,
    )
    if not epoch:
        return plan
    trials, digest = expanded(epoch)
    return replace(plan, epoch=epoch, trials=trials, digest=digest)


def _keys(
    sweep: Sweep,
    suites: Sequence[Suite],
    blocks: Sequence[Block],
    count: int,
    identities: Mapping[ModelKey, ModelIdentity],
    seeing: frozenset[ModelKey],
    epoch: int,
) -> bytes:
    """The keys of all trials: each case's prompt is worded once for all targets and repeats."""
    keys = bytearray(count * KEY_BYTES)
    options = [options_json(sweep.options.options(repeat)) for repeat in range(sweep.repeats)]
    for suite in suites:
        own = [block for block in blocks if block.suite.agent == suite.agent]
        for place, case in enumerate(suite.cases):
            prompts: dict[bool, dict[str, str]] = {}
            for block in own:
                sees = block.model in seeing and has_image(case)
                if sees not in prompts:
                    images = _images(suite, case, block.target, seeing)
                    prompts[sees] = prompt_json(
                        build_request(sweep, suite.agent, block.target, case, 0, images)
                    )
                maker = TrialKeys(
                    prompts[sees],
                    block.target,
                    identities[block.model],
                    agent=suite.agent,
                    case=case.id,
                    epoch=epoch,
                    privacy=sweep.privacy if sweep.deidentifies else None,
                )
                at = (block.start + place * sweep.repeats) * KEY_BYTES
                for repeat, chosen in enumerate(options):
                    keys[at : at + KEY_BYTES] = maker.key(repeat, chosen)
                    at += KEY_BYTES
    return bytes(keys)


def _digest(trials: Trials, suites: Sequence[Suite], repeats: int) -> str:
    """Digest of the list of all keys, each with its case's digest, without holding that list."""
    cases = {suite.agent: [case.digest for case in suite.cases] for suite in suites}
    found = hashlib.sha256(b"[")
    position = 0
    for block in trials.blocks:
        for case in cases[block.suite.agent]:
            for _ in range(repeats):
                comma = "," if position else ""
                found.update((comma + canonical_json([trials.key(position), case])).encode())
                position += 1
    found.update(b"]")
    return f"sha256:{found.hexdigest()}"
