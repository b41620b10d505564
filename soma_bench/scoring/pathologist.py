"""Pathologist: is the right diagnosis named, and how high does it stand?

Primary: the best rank-weighted match among the first three diagnoses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from soma_bench.agents.pathologist import Diagnosis, Differential, PathologistOutput
from soma_bench.cases.pathologist import ICD10_FORM, PathologistReference
from soma_bench.scoring.base import Score, Scorer

_RANK_WEIGHTS = (1.0, 0.5, 0.25)
_RIGHT = 0.5
"""A match from which a diagnosis counts as the right one: its name or its full code."""

_QUALIFIERS = re.compile(
    r"\b(?:probable|probably|likely|suspected|possible|presumed|primary|the|of|in|left|right"
    r"|bilateral|upper|middle|lower|lobe|lingula)\b"
)


def score(output: PathologistOutput, reference: PathologistReference) -> Score:
    """Weigh each diagnosis's match by its rank (1, 1/2, 1/4) and take the best.

    A match is half the name (one of the reference's, apart from case, qualifiers and places) and
    half the ICD-10-CM code (1 for a right code, 1/2 for its category of three characters).
    """
    diagnoses: tuple[Diagnosis | Differential, ...] = (output.primary, *output.differentials)
    named = [(diagnosis.name, diagnosis.icd10) for diagnosis in diagnoses]
    matches = [_match(name, code, reference) for name, code in named[: len(_RANK_WEIGHTS)]]
    primary = max(weight * match for weight, match in zip(_RANK_WEIGHTS, matches, strict=False))
    top1 = matches[0] >= _RIGHT
    return Score(
        primary=primary,
        parts={
            "top1": top1,
            "top3": any(match >= _RIGHT for match in matches),
            "name_right": _same_name(output.primary.name, reference),
            "code_credit": _code_credit(output.primary.icd10, reference),
            "brier": (output.primary.confidence / 100 - top1) ** 2,
            "codes_well_formed": all(re.fullmatch(ICD10_FORM, code) for _, code in named),
        },
    )


def summarize(
    answers: Sequence[tuple[Mapping[str, Any] | None, PathologistReference]],
) -> dict[str, float]:
    """Rates of a right first diagnosis and of a right one among three; a failed answer is wrong.

    Over the answers that were read: mean Brier score of the first diagnosis's confidence, and the
    share whose codes are all well formed.
    """
    if not answers:
        return {}
    read = [parts for parts, _ in answers if parts is not None]
    figures = {name: sum(parts[name] for parts in read) / len(answers) for name in ("top1", "top3")}
    if read:
        for name in ("brier", "codes_well_formed"):
            figures[name] = sum(parts[name] for parts in read) / len(read)
    return figures


def _match(name: str, code: str, reference: PathologistReference) -> float:
    return (_same_name(name, reference) + _code_credit(code, reference)) / 2


def _same_name(name: str, reference: PathologistReference) -> bool:
    return _bare(name) in {_bare(known) for known in reference.names}


def _code_credit(code: str, reference: PathologistReference) -> float:
    written = code.strip().upper()
    if written in reference.icd10:
        return 1.0
    categories = {right[:3] for right in reference.icd10}
    return 0.5 if re.fullmatch(ICD10_FORM, written) and written[:3] in categories else 0.0


def _bare(name: str) -> frozenset[str]:
    """The words of a diagnosis without case, punctuation, order, qualifiers and places."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower())
    return frozenset(_QUALIFIERS.sub(" ", words).split())


SCORER = Scorer(
    agent="pathologist",
    version=1,
    primary="rank-weighted diagnosis match",
    score=score,
    summarize=summarize,
)
