"""Cases of the Pathologist agent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soma_bench.agents.base import Strict
from soma_bench.agents.pathologist import PathologistInput
from soma_bench.cases.base import Case
from soma_bench.cases.rules import Category

ICD10_FORM = r"^[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?$"
"""How an ICD-10-CM code is written: a category of three characters, then up to four after a dot."""


class PathologistReference(Strict):
    """The right diagnosis."""

    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=80)], ...],
        Field(min_length=1, max_length=20),
    ]
    """Names that mean it, the usual one first."""
    icd10: Annotated[tuple[Annotated[str, Field(pattern=ICD10_FORM)], ...], Field(max_length=8)]
    """ICD-10-CM codes that are right for it, the best first; empty where none is known."""
    management: Category | None = None
    """Lung-RADS category whose next step the workup must name; None where it is not asked."""


class PathologistCase(Case):
    """Findings in their context with the right diagnosis."""

    agent: Literal["pathologist"]
    input: PathologistInput
    reference: PathologistReference
