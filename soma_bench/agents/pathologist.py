"""Pathologist: which diagnosis explains the findings, and what should be done next?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from soma_bench.agents.base import (
    Agent,
    MaybeRevision,
    Strict,
    answer_schema,
    json_parser,
    json_writer,
    prompt_text,
    render_revision,
)
from soma_bench.agents.radiologist import (
    Characteristic,
    Finding,
    Kind,
    Laterality,
    Location,
    Percent,
    Region,
    Severity,
    render_region,
)

Name = Annotated[str, Field(min_length=1, max_length=60)]
Code = Annotated[str, Field(min_length=3, max_length=8)]
Phrase = Annotated[str, Field(min_length=1, max_length=60)]


class PathologistInput(Strict):
    """What the diagnosis is made from."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=20)] | None = None
    """The radiologist's findings, empty when there are none; None when nobody has read the
    segmentation yet and its regions stand for them."""
    regions: Annotated[tuple[Region, ...], Field(max_length=20)] = ()
    context: Annotated[str, Field(min_length=1, max_length=8000)]
    """Age, history, complaints, laboratory results."""
    revision: MaybeRevision = None

    @model_validator(mode="after")
    def _says_what_was_seen(self) -> PathologistInput:
        if self.findings is None and not self.regions:
            raise ValueError("give findings (they may be empty) or regions")
        if any(region.area_mm2 is None for region in self.regions):
            raise ValueError(
                "regions must be measured in mm2: without a spacing pixels say nothing"
            )
        return self


class Diagnosis(Strict):
    """The diagnosis that explains the findings best."""

    name: Name
    icd10: Code
    """ICD-10-CM code, such as ``R91.1``."""
    confidence: Percent
    reasoning: Annotated[str, Field(min_length=1, max_length=120)]


class Differential(Strict):
    """Another diagnosis that stays possible."""

    name: Name
    icd10: Code
    confidence: Percent
    findings_for: Phrase
    findings_against: Phrase


class PathologistOutput(Strict):
    """A diagnosis with its alternatives and the next steps."""

    primary: Diagnosis
    differentials: Annotated[tuple[Differential, ...], Field(max_length=2)]
    """Best first."""
    workup: Annotated[tuple[Phrase, ...], Field(max_length=3)]
    """Recommended next steps, most useful first."""


def render_finding(finding: Finding) -> str:
    """One line of text that says everything of a finding but its confidence."""
    looks = ", ".join((*finding.characteristics, finding.kind))
    return (
        f"{finding.id}: {finding.size_mm} mm {looks}, {finding.place}, {finding.severity} severity"
    )


def _render(inputs: PathologistInput) -> str:
    if inputs.findings is None:
        seen = ["Regions:", *map(render_region, inputs.regions)]
    else:
        seen = [
            "Findings:",
            *(map(render_finding, inputs.findings) if inputs.findings else ["none"]),
        ]
    return "\n".join([f"Context: {inputs.context}", *seen, *render_revision(inputs.revision)])


def _finding(
    kind: Kind,
    laterality: Laterality,
    location: Location,
    size_mm: int,
    characteristics: tuple[Characteristic, ...],
    severity: Severity,
) -> Finding:
    return Finding(
        id="F1",
        kind=kind,
        laterality=laterality,
        location=location,
        size_mm=size_mm,
        characteristics=characteristics,
        severity=severity,
        confidence=90,
    )


def _example(
    context: str, finding: Finding, primary: Diagnosis, other: Differential, *, workup: str
) -> tuple[PathologistInput, PathologistOutput]:
    output = PathologistOutput(primary=primary, differentials=(other,), workup=(workup,))
    return PathologistInput(context=context, findings=(finding,)), output


AGENT = Agent(
    name="pathologist",
    input_type=PathologistInput,
    output_type=PathologistOutput,
    system=prompt_text("pathologist"),
    examples=(
        _example(
            "Woman, 44. Fever and productive cough for 5 days, raised CRP.",
            _finding("opacity", "left", "lower lobe", 60, ("solid",), "moderate"),
            Diagnosis(
                name="Pneumonia",
                icd10="J18.9",
                confidence=85,
                reasoning="Fever, cough and raised CRP with a lobar opacity.",
            ),
            Differential(
                name="Atelectasis",
                icd10="J98.11",
                confidence=10,
                findings_for="lobar opacity",
                findings_against="fever, raised CRP",
            ),
            workup="Sputum culture",
        ),
        _example(
            "Man, 71, 40 pack-years. Biopsy: squamous cell carcinoma.",
            _finding("mass", "left", "upper lobe", 41, ("solid", "cavitary"), "high"),
            Diagnosis(
                name="Squamous cell carcinoma",
                icd10="C34.12",
                confidence=95,
                reasoning="The biopsy says so.",
            ),
            Differential(
                name="Lung abscess",
                icd10="J85.2",
                confidence=3,
                findings_for="cavity",
                findings_against="biopsy",
            ),
            workup="PET-CT",
        ),
        _example(
            "Man, 49. No complaints, found by chance.",
            _finding("nodule", "right", "lower lobe", 7, ("solid", "smooth"), "moderate"),
            Diagnosis(
                name="Solitary pulmonary nodule",
                icd10="R91.1",
                confidence=80,
                reasoning="One small smooth nodule without complaints.",
            ),
            Differential(
                name="Pulmonary hamartoma",
                icd10="D14.31",
                confidence=15,
                findings_for="smooth margin",
                findings_against="no fat",
            ),
            workup="Chest CT in 6 months",
        ),
    ),
    render=_render,
    write=json_writer,
    parse=json_parser(PathologistOutput),
    schema=answer_schema(PathologistOutput),
    max_tokens=384,
)
