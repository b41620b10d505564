"""Pairs of reports that differ in one planted defect, and clean ones in other words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.qc_reviewer import Category, IssueSeverity, QCReviewerInput
from soma_bench.agents.radiologist import Finding
from soma_bench.agents.report_writer import Heading
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.report_writer import TECHNIQUES
from soma_bench.cases.generate.reports import (
    STYLES,
    Draft,
    findings_text,
    impression_text,
    sentence,
)
from soma_bench.cases.generate.scenes import (
    LATERAL,
    OTHER_LOBE,
    OTHER_SIDE,
    another_finding,
    finding,
    findings_of,
)
from soma_bench.cases.qc_reviewer import Defect, DefectKind, QCReviewerCase, QCReviewerReference
from soma_bench.cases.rules import DIAGNOSES, MONTHS, DiagnosisRule, lung_rads

_PAIRS_A_KIND = 4
_RULES = tuple(
    rule
    for rule in DIAGNOSES
    if rule.look.count == 1 and set(rule.look.locations) <= set(OTHER_LOBE)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What a pair of reports is written from."""

    rule: DiagnosisRule
    findings: tuple[Finding, Finding]
    workup: str
    indication: str
    technique: str
    style: int

    def draft(self, style: int | None = None) -> Draft:
        """The clean report."""
        worded = self.style if style is None else style
        return Draft(
            (
                ("Clinical Indication", self.indication),
                ("Comparison", "None."),
                ("Technique", self.technique),
                ("Findings", findings_text(self.findings, worded)),
                (
                    "Impression",
                    impression_text(self.findings, self.rule.names[0], self.workup, worded),
                ),
                ("Recommendations", f"{self.workup}."),
            )
        )

    def with_findings(self, *findings: Finding) -> Draft:
        """The report whose Findings say something else, and whose Impression does not."""
        return self.draft().having("Findings", findings_text(findings, self.style))


def _side(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001 - one signature for all defects
    first, second = base.findings
    swapped = first.model_copy(update={"laterality": OTHER_SIDE[first.laterality]})
    return base.with_findings(swapped, second)


def _size(base: _Base, draws: Draws) -> Draft:
    first, second = base.findings
    factor = draws.choice((2, 3))
    other = first.size_mm * factor if first.size_mm < 20 else first.size_mm // factor
    return base.with_findings(first.model_copy(update={"size_mm": other}), second)


def _omitted(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001
    # The second one, of which the Impression says nothing.
    return base.with_findings(base.findings[0])


def _invented(base: _Base, draws: Draws) -> Draft:
    first, second = base.findings
    side, size = OTHER_SIDE[first.laterality], 21 + draws.below(9)
    if second.kind == "effusion":
        made_up = finding(3, "lymph node", side, "hilum", size, ())
    else:
        made_up = finding(3, "effusion", side, "pleura", size, ())
    return base.with_findings(first, second, made_up)


def _negated(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001
    first, second = base.findings
    denied = f"There is no {second.kind} in the {second.place}."
    return base.draft().having("Findings", f"{sentence(first, base.style)} {denied}")


_DROPPED: tuple[Heading, ...] = ("Technique", "Comparison", "Recommendations")


def _section(base: _Base, draws: Draws) -> Draft:
    return base.draft().without(draws.choice(_DROPPED))


def _disclaimer(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001
    return Draft(base.draft().sections, disclaimer="")


def _impression(base: _Base, draws: Draws) -> Draft:
    name = draws.choice([rule.names[0] for rule in _RULES if rule is not base.rule])
    other = impression_text(base.findings, name, base.workup, base.style)
    return base.draft().having("Impression", other)


def _unit(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001
    size = base.findings[0].size_mm
    said = base.draft().text("Findings")
    return base.draft().having("Findings", said.replace(f"{size} mm", f"{size} cm"))


def _location(base: _Base, draws: Draws) -> Draft:  # noqa: ARG001
    first, second = base.findings
    moved = first.model_copy(update={"location": OTHER_LOBE[first.location]})
    return base.with_findings(moved, second)


def _interval(base: _Base, draws: Draws) -> Draft:
    said = base.draft().text("Findings")
    what = base.findings[0].kind
    change = draws.choice(
        (
            f"The {what} has grown since the earlier examination.",
            f"The {what} is unchanged from the earlier examination.",
        )
    )
    return base.draft().having("Findings", f"{said} {change}")


def _follow_up(base: _Base, draws: Draws) -> Draft:
    steps = [f"Chest CT in {months} months" for months in (3, 6, 12)] + ["No follow-up"]
    other = draws.choice([step for step in steps if step != base.workup])
    return base.draft().having("Recommendations", f"{other}.")


def _placeholder(base: _Base, draws: Draws) -> Draft:
    blanks: tuple[tuple[Heading, str], ...] = (
        ("Comparison", "[date of earlier examination]"),
        ("Technique", "[insert technique]"),
        ("Recommendations", "[to be filled in]"),
    )
    heading, text = draws.choice(blanks)
    return base.draft().having(heading, text)


def _term(base: _Base, draws: Draws) -> Draft:
    """Words of another modality: a CT knows neither signal nor echo."""
    said = base.draft().text("Findings")
    wrong = draws.choice(
        (
            "It is hyperintense on T2-weighted images.",
            "It is hypoechoic with posterior enhancement.",
            "It shows high signal on STIR images.",
        )
    )
    return base.draft().having("Findings", f"{said} {wrong}")


@dataclass(frozen=True, slots=True)
class _Plan:
    make: Callable[[_Base, Draws], Draft]
    categories: tuple[Category, ...]
    severity: IssueSeverity


_DEFECTS: Mapping[DefectKind, _Plan] = {
    "side_swapped": _Plan(_side, ("CONSISTENCY",), "critical"),
    "size_changed": _Plan(_size, ("CONSISTENCY",), "critical"),
    "finding_omitted": _Plan(_omitted, ("COMPLETENESS", "CONSISTENCY"), "critical"),
    "finding_invented": _Plan(_invented, ("CONSISTENCY",), "critical"),
    "finding_negated": _Plan(_negated, ("CONSISTENCY",), "critical"),
    "section_missing": _Plan(_section, ("COMPLETENESS", "FORMAT"), "major"),
    "disclaimer_missing": _Plan(_disclaimer, ("DISCLAIMER",), "major"),
    "impression_unsupported": _Plan(_impression, ("CONSISTENCY",), "critical"),
    "unit_changed": _Plan(_unit, ("CONSISTENCY", "TERMINOLOGY"), "critical"),
    "location_changed": _Plan(_location, ("CONSISTENCY",), "major"),
    "interval_invented": _Plan(_interval, ("CONSISTENCY",), "major"),
    "follow_up_mismatch": _Plan(_follow_up, ("CONSISTENCY",), "major"),
    "placeholder_left": _Plan(_placeholder, ("COMPLETENESS", "FORMAT"), "major"),
    "term_wrong": _Plan(_term, ("TERMINOLOGY", "CONSISTENCY"), "major"),
}


def generate(seed: int) -> list[QCReviewerCase]:
    """Four pairs of each kind of defect; half of the clean reports are in other words.

    A pair shares its findings and is one cluster; two pairs of each kind are held out.
    """
    draws = Draws(seed, "qc_reviewer")
    cases = []
    for number in range(len(_DEFECTS) * _PAIRS_A_KIND):
        kind = get_args(DefectKind)[number % len(_DEFECTS)]
        turn = number // len(_DEFECTS)
        base = _base(_RULES[(number + 3 * turn) % len(_RULES)], LATERAL[(number + turn) % 2], draws)
        plan = _DEFECTS[kind]
        split: Split = "held_out" if turn >= _PAIRS_A_KIND // 2 else "dev"
        other_words = (base.style + 1) % STYLES if turn % 2 else base.style
        defect = Defect(kind=kind, categories=plan.categories, severity=plan.severity)
        for name, draft, planted in (
            ("defect", plan.make(base, draws), defect),
            ("clean", base.draft(other_words), None),
        ):
            tags = (kind,) if planted else ("clean", "reworded" if turn % 2 else "same-words")
            cases.append(
                QCReviewerCase(
                    id=f"qc-reviewer-g-{number + 1:02}-{name}",
                    agent="qc_reviewer",
                    input=QCReviewerInput(
                        report=draft.markdown,
                        findings=base.findings,
                        diagnosis=_diagnosis(base),
                    ),
                    reference=QCReviewerReference(defect=planted),
                    tags=tags,
                    split=split,
                    cluster=f"pair-{number + 1:02}",
                )
            )
    return draws.shuffled(cases)


def _base(rule: DiagnosisRule, side: str, draws: Draws) -> _Base:
    first = findings_of(rule, "left" if side == "left" else "right", draws)[0]
    workup = rule.workup
    if first.kind == "nodule" and "solid" in first.characteristics:
        months = MONTHS[lung_rads("solid", first.size_mm)]
        workup = "PET-CT" if months is None else f"Chest CT in {months} months"
    return _Base(
        rule=rule,
        findings=(first, another_finding(first, 2, draws)),
        workup=workup,
        indication=draws.choice(("Cough.", "Chest pain.", "Screening.", "Abnormal radiograph.")),
        technique=draws.choice(TECHNIQUES),
        style=draws.below(STYLES),
    )


def _diagnosis(base: _Base) -> PathologistOutput:
    first = base.findings[0]
    primary = Diagnosis(
        name=base.rule.names[0],
        icd10=base.rule.codes_at(first.laterality, first.location)[0],
        confidence=80,
        reasoning="History and findings fit.",
    )
    return PathologistOutput(primary=primary, differentials=(), workup=(base.workup,))
