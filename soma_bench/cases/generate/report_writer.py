"""Findings with their diagnosis, and the facts that a report of them must hold."""

from __future__ import annotations

from itertools import product

from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.radiologist import Finding
from soma_bench.agents.report_writer import HEADINGS, Patient, ReportContext, ReportWriterInput
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.scenes import LATERAL, another_finding, findings_of
from soma_bench.cases.report_writer import ReportFact, ReportWriterCase, ReportWriterReference
from soma_bench.cases.rules import DIAGNOSES, DiagnosisRule

_TELLINGS = 3
_NAMES = ("Aster", "Birch", "Cedar", "Dahlia", "Elder", "Fern", "Gorse", "Hazel", "Iris", "Juniper")
TECHNIQUES = (
    "Chest CT without contrast, 1 mm slices.",
    "Chest CT with contrast, 1 mm slices.",
    "Low-dose chest CT, 1 mm slices.",
    "Chest CT without contrast, 2 mm slices.",
)
_INVENTED = ("unchanged", "stable", "previously", "carcinoid", "fracture", "pneumothorax")
"""Words that a report of these cases can have only by inventing something."""


def generate(seed: int) -> list[ReportWriterCase]:
    """Each history of each diagnosis three times: with and without patient, comparison, extras.

    One history of each diagnosis is held out; what shares a history is one cluster.
    """
    draws = Draws(seed, "report_writer")
    wanted = [
        (rule, number, telling)
        for rule in DIAGNOSES
        for number in range(len(rule.contexts))
        for telling in range(_TELLINGS)
    ]
    both = (False, True)
    layouts = list(product(both, both, both)) * (len(wanted) // 8 + 1)
    cases = []
    for count, ((rule, number, telling), layout) in enumerate(
        zip(wanted, draws.shuffled(layouts[: len(wanted)]), strict=True), start=1
    ):
        side = LATERAL[count % 2]
        inputs = _inputs(rule, number, count, layout, findings_of(rule, side, draws), draws)
        slug = rule.names[0].lower().replace(" ", "-")
        split: Split = "held_out" if number else "dev"
        cases.append(
            ReportWriterCase(
                id=f"report-writer-g-{slug}-{number + 1}{'abc'[telling]}",
                agent="report_writer",
                input=inputs,
                reference=reference_of(inputs),
                tags=(slug, f"{len(inputs.findings)}-findings"),
                split=split,
                cluster=f"{slug}-{number + 1}",
            )
        )
    return draws.shuffled(cases)


def _inputs(
    rule: DiagnosisRule,
    history: int,
    count: int,
    layout: tuple[bool, bool, bool],
    findings: tuple[Finding, ...],
    draws: Draws,
) -> ReportWriterInput:
    with_patient, with_comparison, with_extra = layout
    if with_extra:
        extra = another_finding(findings[0], len(findings) + 1, draws, findings[1:])
        findings = (*findings, extra)
    patient, comparison = None, None
    if with_patient:
        patient = Patient(
            name=f"Testperson {draws.choice(_NAMES)}",
            mrn=f"SYN-G{count:03}",
            age=38 + draws.below(40),
            sex=draws.choice(("female", "male")),
        )
    if with_comparison:
        comparison = f"Chest CT of 20{20 + draws.below(5)}-{1 + draws.below(9):02}-14."
    first = findings[0]
    diagnosis = Diagnosis(
        name=rule.names[0],
        icd10=rule.codes_at(first.laterality, first.location)[0],
        confidence=80,
        reasoning="History and findings fit.",
    )
    return ReportWriterInput(
        findings=findings,
        diagnosis=PathologistOutput(primary=diagnosis, differentials=(), workup=(rule.workup,)),
        patient=patient,
        context=ReportContext(
            indication=draws.choice(rule.contexts[history]),
            comparison=comparison,
            technique=draws.choice(TECHNIQUES),
        ),
    )


def reference_of(inputs: ReportWriterInput) -> ReportWriterReference:
    """What a report of the inputs must say and must not."""
    given = inputs.model_dump_json().lower()
    present: list[str] = []
    if inputs.patient is not None:
        present += [text for text in (inputs.patient.name, inputs.patient.mrn) if text]
    if inputs.context.comparison is not None:
        present.append(inputs.context.comparison.removeprefix("Chest CT of ").rstrip("."))
    return ReportWriterReference(
        sections=HEADINGS if inputs.patient else HEADINGS[1:],
        facts=tuple(
            ReportFact(
                kind=f.kind,
                structure=f.location,
                laterality=f.laterality,
                size_mm=f.size_mm,
                characteristics=f.characteristics,
            )
            for f in inputs.findings
        ),
        diagnosis=inputs.diagnosis.primary.name,
        present=tuple(present),
        recommendations=inputs.diagnosis.workup,
        absent=tuple(words for words in _INVENTED if words not in given),
    )
