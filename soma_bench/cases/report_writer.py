"""Cases of the ReportWriter agent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soma_bench.agents.base import Strict
from soma_bench.agents.radiologist import Characteristic, Kind, Laterality, Location
from soma_bench.agents.report_writer import Heading, ReportWriterInput
from soma_bench.cases.base import Case

Text = Annotated[str, Field(min_length=1, max_length=100)]


class ReportFact(Strict):
    """A finding that the report must carry over."""

    kind: Kind
    structure: Location
    laterality: Laterality
    size_mm: Annotated[int, Field(ge=1, le=300)]
    characteristics: Annotated[tuple[Characteristic, ...], Field(max_length=3, strict=False)] = ()
    """Density and margin that the report must not contradict; empty where they are not asked."""


class ReportWriterReference(Strict):
    """What a report must say and must not say, in any words and any order."""

    sections: Annotated[tuple[Heading, ...], Field(min_length=1, strict=False)]
    """Headings that it must have, and no others."""
    facts: Annotated[tuple[ReportFact, ...], Field(min_length=1, strict=False)]
    diagnosis: Text
    """What the impression must name."""
    present: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Words that must stand somewhere, such as the patient's name."""
    recommendations: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Words that the recommendations must say."""
    absent: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Words that only an invented report says (unless it negates them)."""


class ReportWriterCase(Case):
    """Findings and a diagnosis with the facts that a report of them must hold."""

    agent: Literal["report_writer"]
    input: ReportWriterInput
    reference: ReportWriterReference
