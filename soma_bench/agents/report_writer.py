"""ReportWriter: the findings and the diagnosis as a Markdown report."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import Field

from soma_bench.agents.base import Agent, MaybeRevision, Strict, prompt_text, render_revision
from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.radiologist import Characteristic, Finding, Kind, Laterality, Location
from soma_bench.errors import AnswerError

Heading = Literal[
    "Patient Information",
    "Clinical Indication",
    "Comparison",
    "Technique",
    "Findings",
    "Impression",
    "Recommendations",
]
HEADINGS: tuple[Heading, ...] = get_args(Heading)
"""A report's headings in their order; the first stands only where a patient is given."""

DISCLAIMER = "Prepared with AI assistance; a physician must review this report."

_HEADING_LINE = re.compile(r"(?P<marks>#{1,6})\s*(?P<hash>.+?)[\s#]*|\*\*(?P<bold>[^*]+)\*\*:?")
_AI = re.compile(r"\bAI\b|\bartificial intelligence\b", re.IGNORECASE)
_PHYSICIAN = re.compile(r"\b(?:physician|radiologist|doctor)\b", re.IGNORECASE)
_REVIEW = re.compile(r"\b(?:review|verif|confirm|approv)", re.IGNORECASE)
_UNREVIEWED = re.compile(
    r"\b(?:no|without)(?:\s+\w+){0,3}\s+(?:review|verif|confirm|approv)"
    r"|\b(?:not|never)(?:\s+(?:be|been|yet|have|to|by|an?|any|the|physician|radiologist|doctor))*"
    r"\s+(?:been|need|requir|necessary|review|verif|confirm|approv)"
    r"|\bneed not\b|n[\u2019']t\b|\b(?:unreviewed|unnecessary|optional)\b",
    re.IGNORECASE,
)

Line = Annotated[str, Field(min_length=1, max_length=200)]


class Patient(Strict):
    """Whom the report is about; what is None is not in the report."""

    name: Line | None = None
    mrn: Line | None = None
    """Medical record number."""
    date_of_birth: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    age: Annotated[int, Field(ge=0, le=120)] | None = None
    """Years."""
    sex: Literal["female", "male", "other"] | None = None


class ReportContext(Strict):
    """What a report says of the examination itself."""

    indication: Line
    comparison: Line | None = None
    """The earlier examination; None where there is none."""
    technique: Line


class ReportWriterInput(Strict):
    """What a report is written from."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=20)]
    """Empty when nothing is abnormal."""
    diagnosis: PathologistOutput
    patient: Patient | None = None
    context: ReportContext
    revision: MaybeRevision = None


class ReportWriterOutput(Strict):
    """A report and its sections."""

    markdown: Annotated[str, Field(min_length=1)]
    sections: dict[Heading, str]
    """Text by heading, without the disclaimer; a heading that is not there is no key."""
    disclaimer: str
    """The line that AI assisted and a physician must review; empty where there is none."""


def read_report(text: str) -> ReportWriterOutput:
    """The sections of a Markdown report.

    A heading is a line of its own, ``## Findings`` or ``**Findings:**``. Under an unknown heading
    text belongs to no section, unless that heading is deeper than the section's own. A heading
    that stands twice adds to its section.

    Raises:
        AnswerError: the text is empty or has none of a report's headings.
    """
    sections: dict[Heading, list[str]] = {}
    current: list[str] | None = None
    depth = 0
    disclaimer = ""
    for line in map(str.strip, text.strip().splitlines()):
        heading = _HEADING_LINE.fullmatch(line)
        name = _known_heading(heading)
        if name is not None and heading is not None:
            current, depth = sections.setdefault(name, []), len(heading["marks"] or "")
        elif _is_disclaimer(line):
            disclaimer = line
        elif heading is not None and heading["marks"] and len(heading["marks"]) <= depth:
            current = None
        elif current is not None:
            current.append(line)
    if not sections:
        found = "has none of a report's headings" if text.strip() else "is empty"
        raise AnswerError(f"report_writer: the answer {found}")
    return ReportWriterOutput(
        markdown=text.strip(),
        sections={heading: "\n".join(lines).strip() for heading, lines in sections.items()},
        disclaimer=disclaimer,
    )


def _known_heading(match: re.Match[str] | None) -> Heading | None:
    if match is None:
        return None
    name = (match["hash"] or match["bold"]).strip("*: ").lower()
    return next((heading for heading in HEADINGS if heading.lower() == name), None)


def _is_disclaimer(line: str) -> bool:
    """Whether a line says both that AI had a part and that a physician reviews."""
    wanted = all(words.search(line) for words in (_AI, _PHYSICIAN, _REVIEW))
    return wanted and not _UNREVIEWED.search(line)


def report_line(finding: Finding) -> str:
    """What a report must say of a finding, such as ``8 mm solid nodule, right upper lobe``."""
    looks = ", ".join(finding.characteristics)
    return " ".join(
        filter(None, (f"{finding.size_mm} mm", looks, f"{finding.kind}, {finding.place}"))
    )


def _render(inputs: ReportWriterInput) -> str:
    lines = []
    if inputs.patient is not None:
        given = inputs.patient.model_dump(exclude_none=True)
        lines.append("Patient: " + ", ".join(f"{name} {value}" for name, value in given.items()))
    context, diagnosis = inputs.context, inputs.diagnosis
    lines += [
        f"Indication: {context.indication}",
        f"Comparison: {context.comparison or 'None.'}",
        f"Technique: {context.technique}",
        "Findings:",
        *(f"- {report_line(finding)}" for finding in inputs.findings),
        *([] if inputs.findings else ["- none"]),
        f"Diagnosis: {diagnosis.primary.name}",
    ]
    if diagnosis.differentials:
        others = ", ".join(other.name for other in diagnosis.differentials)
        lines.append(f"Differentials: {others}")
    if diagnosis.workup:
        lines.append(f"Next: {', '.join(diagnosis.workup)}")
    return "\n".join(lines + render_revision(inputs.revision))


def _write(output: ReportWriterOutput) -> str:
    return output.markdown


def _finding(
    identifier: str,
    kind: Kind,
    laterality: Laterality,
    location: Location,
    size_mm: int,
    characteristics: tuple[Characteristic, ...],
) -> Finding:
    return Finding(
        id=identifier,
        kind=kind,
        laterality=laterality,
        location=location,
        size_mm=size_mm,
        characteristics=characteristics,
        severity="moderate",
        confidence=90,
    )


def _diagnosis(name: str, icd10: str, *, workup: str) -> PathologistOutput:
    primary = Diagnosis(name=name, icd10=icd10, confidence=60, reasoning="Fits the findings.")
    return PathologistOutput(primary=primary, differentials=(), workup=(workup,))


AGENT = Agent(
    name="report_writer",
    input_type=ReportWriterInput,
    output_type=ReportWriterOutput,
    system=prompt_text("report_writer"),
    examples=(
        (
            ReportWriterInput(
                findings=(
                    _finding("F1", "mass", "right", "middle lobe", 52, ("solid", "cavitary")),
                    _finding("F2", "effusion", "right", "pleura", 25, ()),
                ),
                diagnosis=_diagnosis("Lung abscess", "J85.2", workup="Blood cultures"),
                patient=Patient(name="Example Grey", mrn="EX-7", sex="male"),
                context=ReportContext(
                    indication="Fever for two weeks.",
                    comparison="Chest CT of 2023-01-09.",
                    technique="Chest CT without contrast, 2 mm slices.",
                ),
            ),
            read_report(
                f"""\
## Patient Information
Example Grey, MRN EX-7, male

## Clinical Indication
Fever for two weeks.

## Comparison
Chest CT of 2023-01-09.

## Technique
Chest CT without contrast, 2 mm slices.

## Findings
There is a 52 mm solid, cavitary mass in the right middle lobe.
There is a 25 mm effusion in the right pleura.

## Impression
52 mm mass in the right middle lobe and 25 mm effusion in the right pleura, most likely lung abscess.

## Recommendations
Blood cultures.

{DISCLAIMER}"""
            ),
        ),
        (
            ReportWriterInput(
                findings=(
                    _finding("F1", "nodule", "left", "lower lobe", 14, ("solid", "lobulated")),
                ),
                diagnosis=_diagnosis("Carcinoid tumor", "D3A.090", workup="Bronchoscopy"),
                context=ReportContext(
                    indication="Persistent cough.",
                    technique="Chest CT with contrast.",
                ),
            ),
            read_report(
                f"""\
## Clinical Indication
Persistent cough.

## Comparison
None.

## Technique
Chest CT with contrast.

## Findings
There is a 14 mm solid, lobulated nodule in the left lower lobe.

## Impression
14 mm nodule in the left lower lobe, most likely carcinoid tumor.

## Recommendations
Bronchoscopy.

{DISCLAIMER}"""
            ),
        ),
    ),
    render=_render,
    write=_write,
    parse=read_report,
    schema=None,
    max_tokens=384,
)
