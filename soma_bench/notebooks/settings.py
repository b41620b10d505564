"""A notebook's parameters, checked before anything is done with them: a wrong name or value is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.gate import Margins
from soma_bench.notebooks.injected import refuse_unknown_names
from soma_bench.notebooks.places import found_from_here, store_from_here
from soma_bench.routing.constraints import Constraints, Percentile, Pipeline
from soma_bench.settings import store_location
from soma_bench.sweeps.spec import PlacedSweep, sweep_from
from soma_bench.types import AGENTS, AgentName, PrivacyLevel, Target

_GIB = 1 << 30

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Location = Annotated[Name, BeforeValidator(store_location), AfterValidator(store_from_here)]
"""Path of an SQLite file, or a database URL; None is the one that the environment names."""
Place = Annotated[Path, Field(strict=False), AfterValidator(found_from_here)]
"""A file or a folder."""


class _Settings(Strict):
    @classmethod
    def checked(cls, **values: Any) -> Self:
        """The settings, from the parameters cell.

        Raises:
            ConfigError: a parameter is missing, unknown, or not what it must be.
        """
        refuse_unknown_names(cls._names(values))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"parameters: {first_problem(error)}") from error

    @classmethod
    def _names(cls, values: Mapping[str, Any]) -> list[str]:
        """The names that the parameters cell has."""
        return list(values)


class SweepSettings(_Settings):
    """Which sweep to run, and where its trials are kept."""

    sweep_file: Place
    store: Location
    fresh: bool
    """Measure anew as another run, keeping what was measured."""
    sweeps_folder: Place
    """Folder that the paths of a declared sweep start from."""
    declared: dict[str, Any]
    """A sweep's fields, in place of a file; those that are None were not given."""

    @property
    def source(self) -> Path | PlacedSweep:
        """The sweep that was declared, else the file.

        Raises:
            ConfigError: what was declared is not a sweep.
        """
        given = {name: value for name, value in self.declared.items() if value is not None}
        if not given:
            return self.sweep_file
        return PlacedSweep(sweep_from(_with_words(given), "parameters"), self.sweeps_folder)

    @classmethod
    def _names(cls, values: Mapping[str, Any]) -> list[str]:
        own = [name for name in values if name != "declared"]
        return [*own, *values.get("declared", ())]


def _with_words(declared: dict[str, Any]) -> dict[str, Any]:
    """Papermill reads YAML 1.1, in which the word ``off`` is False; put the word back."""
    targets = declared.get("targets")
    if not isinstance(targets, list):
        return declared
    return {**declared, "targets": [_with_word_off(group) for group in targets]}


def _with_word_off(group: Any) -> Any:
    if not isinstance(group, dict) or not isinstance(group.get("thinking"), list):
        return group
    return {**group, "thinking": ["off" if one is False else one for one in group["thinking"]]}


class CompareSettings(_Settings):
    """Which run to look at."""

    run: Name
    """A run's id, a sweep's name (its newest run), or ``latest``."""
    store: Location
    sample_agent: AgentName
    """The agent whose best and worst answer are shown in full."""
    sweeps_folder: Place
    """Folder that the run's sweep file was in: its cases' image files are found from there."""


class Limits(Strict):
    """Limits on the whole routing; what is left out has none."""

    latency_s: float | None = None
    memory_gib: Annotated[float, Field(gt=0, le=1 << 20)] | None = None
    cost_usd_per_1000: float | None = None


class TuneSettings(_Settings):
    """What the routing must hold, and where it is written."""

    run: Name
    store: Location
    profile_name: str
    quality_floors: dict[AgentName, float]
    floor_on: Literal["low", "mean"]
    limits: Limits
    latency: Percentile
    privacy: dict[AgentName, PrivacyLevel]
    require_fallback: bool
    allow_synthetic: bool
    pipeline: Pipeline
    profiles_folder: Place
    exports_folder: Place

    @property
    def constraints(self) -> Constraints:
        """The same demands as the optimiser takes them.

        Raises:
            ConfigError: a figure is out of its range.
        """
        memory = self.limits.memory_gib
        try:
            return Constraints(
                quality_floors=self.quality_floors,
                floor_on=self.floor_on,
                privacy=self.privacy,
                max_latency_s=self.limits.latency_s,
                latency=self.latency,
                max_memory_bytes=None if memory is None else int(memory * _GIB),
                max_cost_usd_per_1000=self.limits.cost_usd_per_1000,
                require_fallback=self.require_fallback,
                allow_synthetic=self.allow_synthetic,
            )
        except ValidationError as error:
            raise ConfigError(f"parameters: {first_problem(error)}") from error


class HardwareSettings(_Settings):
    """Which sweep is to run on which machine, and what analyses would cost."""

    sweep_file: Place
    machine: Name
    """A machine of the table, or ``here``."""
    max_latency_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """Longest time of a call, with its model loaded."""
    run: Name | None
    """A run on the machine, to calibrate with and to take tokens from; None for the original
    plan's measurements."""
    store: Location
    cloud: Target
    local: Target
    analyses_a_month: Annotated[int, Field(ge=1)]
    hardware_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @field_validator("cloud", "local", mode="before")
    @classmethod
    def _is_a_target(cls, value: str) -> Target:
        return Target.parse(value)


class QuickstartSettings(_Settings):
    """A first look."""

    sweep_file: Place
    store: Location


class RunSettings(_Settings):
    """Which run to look at, and nothing else."""

    run: Name
    store: Location


class LatencySettings(_Settings):
    """Which run to look at, and how many whole analyses to time beside it."""

    run: Name
    store: Location
    suite: Place
    """Pipeline cases."""
    analyses: Annotated[int, Field(ge=0, le=10_000)]
    """In each order of the stages; 0 calls no model."""


class GateSettings(_Settings):
    """Which run is held against which profile."""

    run: Name
    store: Location
    baseline: Place
    agents: Annotated[list[AgentName], Field(max_length=len(AGENTS))]
    """None named is all of them."""
    quality_margin: Annotated[float, Field(ge=0, le=1)]
    latency_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cost_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    level: Annotated[float, Field(gt=0, le=0.5)]

    @property
    def margins(self) -> Margins:
        """What may be lost: quality absolute, latency and cost as shares."""
        return Margins(
            quality=self.quality_margin, latency=self.latency_margin, cost=self.cost_margin
        )

    @property
    def compared(self) -> Sequence[AgentName]:
        """The agents that are compared."""
        return self.agents or AGENTS
