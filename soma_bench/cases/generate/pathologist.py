"""Findings with a history that leaves one diagnosis, from the table of rules."""

from __future__ import annotations

from soma_bench.agents.pathologist import PathologistInput
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.scenes import LATERAL, findings_of
from soma_bench.cases.pathologist import PathologistCase, PathologistReference
from soma_bench.cases.rules import DIAGNOSES

_YOUNG = ("24 years old", "Age 24")


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
    return draws.shuffled(cases)
