"""Findings with a history that leaves one diagnosis, from the table of rules."""

from __future__ import annotations

from soma_bench.agents.pathologist import PathologistInput
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.scenes import LATERAL, finding, findings_of
from soma_bench.cases.pathologist import PathologistCase, PathologistReference
from soma_bench.cases.rules import DIAGNOSES, NODULE, Category, lung_rads

_YOUNG = ("24 years old", "Age 24")
_SCREENED_MM: dict[Category, tuple[tuple[int, str], ...]] = {
    "2": ((4, "Baseline low-dose screening CT, 35 pack-years, no complaints."), (5, "First LDCT.")),
    "3": ((6, "Baseline low-dose screening CT, 41 pack-years."), (7, "First LDCT, no cough.")),
    "4A": ((9, "First screening CT, 38 pack-years."), (13, "Baseline LDCT, no weight loss.")),
    "4B": ((16, "First LDCT, 52 pack-years."), (22, "Baseline screening CT, still smokes.")),
}
"""Solid nodules of a first screening: size and history, one of each category held out."""


def generate(seed: int) -> list[PathologistCase]:
    """Each diagnosis with two histories, each told in two ways on both sides.

    One history of each diagnosis is held out; what shares a history is one cluster.
    """
    draws = Draws(seed, "pathologist")
    cases = []
    for rule in DIAGNOSES:
        slug = rule.names[0].lower().replace(" ", "-")
        for number, tellings in enumerate(rule.contexts):
            split: Split = "held_out" if number else "dev"
            for telling, text in enumerate(tellings):
                for side in LATERAL:
                    findings = findings_of(rule, side, draws)
                    first = findings[0]
                    person = draws.choice(("Woman", "Man"))
                    known = any(words in text for words in _YOUNG)
                    age = "" if known else f", {38 + draws.below(40)}"
                    cases.append(
                        PathologistCase(
                            id=f"pathologist-g-{slug}-{number + 1}{'ab'[telling]}-{side}",
                            agent="pathologist",
                            input=PathologistInput(
                                findings=findings, context=f"{person}{age}. {text}"
                            ),
                            reference=PathologistReference(
                                names=rule.names,
                                icd10=rule.codes_at(first.laterality, first.location),
                            ),
                            tags=(slug, side),
                            split=split,
                            cluster=f"{slug}-{number + 1}",
                        )
                    )
    return draws.shuffled(cases + _screened(draws))


def _screened(draws: Draws) -> list[PathologistCase]:
    """Nodules at baseline screening, whose size alone says what comes next."""
    cases = []
    for category, histories in _SCREENED_MM.items():
        for number, (size_mm, history) in enumerate(histories):
            assert lung_rads("solid", size_mm) == category
            side, location = draws.choice(LATERAL), draws.choice(NODULE.look.locations)
            looks = NODULE.look.characteristics
            age = 55 + draws.below(20)
            cases.append(
                PathologistCase(
                    id=f"pathologist-g-screening-{category.lower()}-{number + 1}",
                    agent="pathologist",
                    input=PathologistInput(
                        findings=(finding(1, "nodule", side, location, size_mm, looks),),
                        context=f"{draws.choice(('Woman', 'Man'))}, {age}. {history}"
                        " Lung cancer screening, no earlier scan, no biopsy.",
                    ),
                    reference=PathologistReference(
                        names=NODULE.names, icd10=NODULE.codes, management=category
                    ),
                    tags=("screening", f"lung-rads-{category.lower()}", side),
                    split="held_out" if number else "dev",
                    cluster=f"screening-{category.lower()}-{number + 1}",
                )
            )
    return cases
