"""Whole analyses from the table of diagnoses: regions, findings, diagnosis and report hang together."""

from __future__ import annotations

import math

from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.radiologist import Finding, Laterality, Margin, RadiologistInput, Region
from soma_bench.agents.report_writer import Patient, ReportContext, ReportWriterInput
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.report_writer import TECHNIQUES, reference_of
from soma_bench.cases.generate.scenes import LATERAL, findings_of
from soma_bench.cases.pathologist import PathologistReference
from soma_bench.cases.pipeline import PipelineCase, PipelineReference
from soma_bench.cases.radiologist import ExpectedFinding, RadiologistReference
from soma_bench.cases.rules import DIAGNOSES, DiagnosisRule
from soma_bench.pipeline import Analysis

_MESSAGE = "Please report this CT."
_MARGINS: tuple[Margin, ...] = ("smooth", "lobulated", "spiculated")
_HU = {"solid": 35, "part-solid": -180, "ground-glass": -620, "calcified": 320, "cavitary": -60}
_Z_MM = {"upper lobe": 60.0, "lower lobe": -70.0, "pleura": -90.0}


def generate(seed: int) -> list[PipelineCase]:
    """Each history of each diagnosis once; one history of each is held out."""
    draws = Draws(seed, "pipeline")
    cases = [
        _case(rule, number, LATERAL[(place + number) % 2], draws)
        for place, rule in enumerate(DIAGNOSES)
        for number in range(len(rule.contexts))
    ]
    return draws.shuffled(cases)


def _case(rule: DiagnosisRule, history: int, side: Laterality, draws: Draws) -> PipelineCase:
    findings = findings_of(rule, side, draws)
    first = findings[0]
    codes = rule.codes_at(first.laterality, first.location)
    context = ReportContext(
        indication=draws.choice(rule.contexts[history]), technique=draws.choice(TECHNIQUES)
    )
    patient = Patient(
        name="Testperson Linden", age=38 + draws.below(40), sex=draws.choice(("female", "male"))
    )
    diagnosis = PathologistOutput(
        primary=Diagnosis(
            name=rule.names[0],
            icd10=codes[0],
            confidence=80,
            reasoning="History and findings fit.",
        ),
        differentials=(),
        workup=(rule.workup,),
    )
    report = ReportWriterInput(
        findings=findings, diagnosis=diagnosis, patient=patient, context=context
    )
    slug = rule.names[0].lower().replace(" ", "-")
    split: Split = "held_out" if history else "dev"
    return PipelineCase(
        id=f"pipeline-g-{slug}-{history + 1}",
        agent="pipeline",
        input=Analysis(
            message=_MESSAGE,
            imaging=RadiologistInput(
                exam=context.technique.rstrip("."),
                regions=tuple(_region(finding, draws) for finding in findings),
            ),
            patient=patient,
            context=context,
        ),
        reference=PipelineReference(
            radiologist=RadiologistReference(
                findings=tuple(_expected(finding) for finding in findings),
                technical_quality="good",
            ),
            pathologist=PathologistReference(names=rule.names, icd10=codes),
            report_writer=reference_of(report),
            findings=findings,
            diagnosis=diagnosis,
        ),
        tags=(slug,),
        split=split,
        cluster=f"{slug}-{history + 1}",
    )


def _region(finding: Finding, draws: Draws) -> Region:
    """The segmented region that shows a finding."""
    sign = {"left": 1, "right": -1}.get(finding.laterality, 0)
    looks = finding.characteristics
    density = next((_HU[look] for look in looks if look in _HU), 8)
    return Region(
        id=finding.id.replace("F", "R"),
        label=finding.kind,
        structure=finding.place,
        area_mm2=round(math.pi / 4 * finding.size_mm**2, 1),
        diameter_mm=float(finding.size_mm),
        centroid_mm=(
            sign * (50.0 + draws.below(40)),
            float(draws.below(80) - 40),
            _Z_MM.get(finding.location, 0.0),
        ),
        mean_hu=density,
        margin=next((margin for margin in _MARGINS if margin in looks), None),
    )


def _expected(finding: Finding) -> ExpectedFinding:
    return ExpectedFinding(
        kind=finding.kind,
        laterality=finding.laterality,
        location=finding.location,
        size_mm=float(finding.size_mm),
        characteristics=finding.characteristics,
        severity=finding.severity,
    )
