"""Pathologist: is the right diagnosis named, and how high does it stand?

Primary: the best rank-weighted match among the first three diagnoses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from soma_bench.agents.pathologist import Diagnosis, Differential, PathologistOutput
from soma_bench.cases.pathologist import PathologistReference
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.scoring.classification import calibration
from soma_bench.scoring.icd10 import Grade, grade, is_listed, is_well_formed
from soma_bench.scoring.synonyms import bare_name
from soma_bench.scoring.workup import follows_category

_RANK_WEIGHTS = (1.0, 0.5, 0.25)
_RIGHT = 0.5
"""A match from which a diagnosis counts as the right one: its name or its full code."""

_CODE_CREDIT: Mapping[Grade, float] = {"exact": 1.0, "parent": 0.5, "chapter": 0.0, "none": 0.0}
"""A chapter earns nothing: that of neoplasms holds benign and malignant ones alike."""


def score(output: PathologistOutput, reference: PathologistReference) -> Score:
    """Weigh each diagnosis's match by its rank (1, 1/2, 1/4) and take the best.

    A match is half the name (one of the reference's, apart from case, synonyms, qualifiers and
    places) and half the ICD-10-CM code (1 for a right code, 1/2 for its category of three
    characters). Where the reference knows no code, the name is all.
    """
    diagnoses: tuple[Diagnosis | Differential, ...] = (output.primary, *output.differentials)
    named = [(diagnosis.name, diagnosis.icd10) for diagnosis in diagnoses]
    matches = [_match(name, code, reference) for name, code in named]
    right = [match >= _RIGHT for match in matches]
    listed = [is_listed(code) for _, code in named]
    return Score(
        primary=max(w * match for w, match in zip(_RANK_WEIGHTS, matches, strict=False)),
        parts={
            "top1": right[0],
            "top3": any(right[:3]),
            "top5": any(right[:5]),
            "reciprocal_rank": 1 / (right.index(True) + 1) if any(right) else 0.0,
            "name_right": _same_name(output.primary.name, reference),
            "code_grade": grade(output.primary.icd10, reference.icd10) if reference.icd10 else None,
            "code_credit": _code_credit(output.primary.icd10, reference),
            "confidence": output.primary.confidence,
            "brier": (output.primary.confidence / 100 - right[0]) ** 2,
            "codes_well_formed": all(is_well_formed(code) for _, code in named),
            "codes_listed": None if None in listed else all(listed),
            "management_right": None
            if reference.management is None
            else follows_category(output.workup, reference.management),
        },
    )


def summarize(answers: Sequence[Answer]) -> dict[str, float]:
    """Rates of the right diagnosis among the first one, three and five; a failed answer is wrong.

    An answer holds three diagnoses at most today, so that ``top5`` says what ``top3`` says. The
    mean reciprocal rank, and the shares of first codes that are right and at least in the right
    category, count failures as wrong too; so does the share of workups that follow the rules, over
    the cases that ask for it. Over the answers that were read: calibration of the first diagnosis's
    confidence, and the share whose codes are all well formed and, where the classification is
    installed, all listed in it.
    """
    if not answers:
        return {}
    read = [answer.parts for answer in answers if answer.parts is not None]
    figures = {
        name: sum(parts[name] for parts in read) / len(answers) for name in ("top1", "top3", "top5")
    }
    figures["mrr"] = sum(parts["reciprocal_rank"] for parts in read) / len(answers)
    coded = sum(bool(answer.reference.icd10) for answer in answers)
    if coded:
        grades = [parts["code_grade"] for parts in read]
        figures["code_exact"] = grades.count("exact") / coded
        figures["code_category"] = (grades.count("exact") + grades.count("parent")) / coded
    managed = [answer for answer in answers if answer.reference.management is not None]
    if managed:
        figures["management_right"] = fmean(
            float(answer.parts is not None and answer.parts["management_right"])
            for answer in managed
        )
    if read:
        figures["codes_well_formed"] = fmean(float(parts["codes_well_formed"]) for parts in read)
        listed = [parts["codes_listed"] for parts in read]
        if None not in listed:
            figures["codes_listed"] = sum(listed) / len(listed)
    claims = [(parts["confidence"] / 100, parts["top1"]) for parts in read]
    return {**figures, **calibration(claims)}


def breakdown(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many first codes have which grade."""
    grades = [answer.parts["code_grade"] for answer in answers if answer.parts is not None]
    return {"code_grades": {name: grades.count(name) for name in _CODE_CREDIT if name in grades}}


def _match(name: str, code: str, reference: PathologistReference) -> float:
    if not reference.icd10:
        return float(_same_name(name, reference))
    return (_same_name(name, reference) + _code_credit(code, reference)) / 2


def _same_name(name: str, reference: PathologistReference) -> bool:
    return bare_name(name) in {bare_name(known) for known in reference.names}


def _code_credit(code: str, reference: PathologistReference) -> float:
    return _CODE_CREDIT[grade(code, reference.icd10)]


SCORER = Scorer(
    agent="pathologist",
    version=3,
    primary="rank-weighted diagnosis match",
    score=score,
    summarize=summarize,
    headline=("top1", "top3", "code_exact", "ece"),
    breakdown=breakdown,
)
