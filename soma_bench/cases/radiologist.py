"""Cases of the Radiologist agent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from soma_bench.agents.base import Strict
from soma_bench.agents.radiologist import (
    Characteristic,
    Kind,
    Laterality,
    Location,
    Quality,
    RadiologistInput,
    Severity,
)
from soma_bench.cases.base import Case

_ONLY_SIDE: dict[Location, Laterality] = {
    "middle lobe": "right",
    "lingula": "left",
    "mediastinum": "midline",
}


class ExpectedFinding(Strict):
    """An abnormality that is there."""

    kind: Kind
    laterality: Laterality
    location: Location
    size_mm: Annotated[float, Field(ge=1, le=300, allow_inf_nan=False)]
    """Longest diameter; that of the circle of equal area where only the area was measured."""
    characteristics: Annotated[tuple[Characteristic, ...], Field(max_length=3)]
    severity: Severity

    @model_validator(mode="after")
    def _lies_where_it_can(self) -> ExpectedFinding:
        side = _ONLY_SIDE.get(self.location, self.laterality)
        if self.laterality != side:
            raise ValueError(f"laterality of the {self.location} is {side}, not {self.laterality}")
        return self


class RadiologistReference(Strict):
    """What is to be found in the regions."""

    findings: Annotated[tuple[ExpectedFinding, ...], Field(max_length=6)]
    """Empty where everything is normal."""
    technical_quality: Quality


class RadiologistCase(Case):
    """A segmented examination with its true findings."""

    agent: Literal["radiologist"]
    input: RadiologistInput
    reference: RadiologistReference
