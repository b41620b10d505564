"""A notebook's parameters, checked before anything is done with them.

papermill warns about a parameter that it does not know and goes on; here a wrong name or value is an
error that says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.routing.constraints import Constraints, Percentile, Pipeline
from soma_bench.types import AgentName, PrivacyLevel, Target

_GIB = 1 << 30

Location = Annotated[str, Field(min_length=1, max_length=1000)]
Folder = Annotated[Path, Field(strict=False)]


class _Settings(Strict):
    @classmethod
    def checked(cls, **values: Any) -> Self:
        """The settings, from the parameters cell.

        Raises:
            ConfigError: a parameter is missing, unknown, or not what it must be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"parameters: {first_problem(error)}") from error


class SweepSettings(_Settings):
    """Which sweep to run, and where its trials are kept."""

    sweep_file: Folder
    store: Location
    """Path of an SQLite file, or a database URL."""
    fresh: bool
    """Measure anew as another run, keeping what was measured."""


class CompareSettings(_Settings):
    """Which run to look at."""

    run: Location
    """A run's id, a sweep's name (its newest run), or ``latest``."""
    store: Location
    sample_agent: AgentName
    """The agent whose best and worst answer are shown in full."""


class Limits(Strict):
    """Limits on the whole routing; what is left out has none."""

    latency_s: float | None = None
    memory_gib: Annotated[float, Field(gt=0, le=1 << 20)] | None = None
    cost_usd_per_1000: float | None = None


class TuneSettings(_Settings):
    """What the routing must hold, and where it is written."""

    run: Location
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
    profiles_folder: Folder
    exports_folder: Folder

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

    sweep_file: Folder
    machine: Location
    """A machine of the table, or ``here``."""
    max_latency_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """Longest time of a call, with its model loaded."""
    run: Location | None
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
