"""How hard a case is for a model, computed from the case alone.

The score is a sum of four parts: the length of the case's text (not of the instructions, which are
the same for all cases), the findings or regions to be judged, the earlier examinations to compare
with, and the findings that contradict each other. A profile may weigh the parts differently
(``complexity`` in its JSON). By the weights below a case with one nodule and a short history is
simple, five findings are moderate, and a contradiction or several earlier examinations on top of
some findings make a case complex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from soma_bench.agents.base import Strict
from soma_bench.agents.radiologist import Characteristic, Finding

Complexity = Literal["simple", "moderate", "complex"]

_Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]

_EXCLUDE_EACH_OTHER: frozenset[frozenset[Characteristic]] = frozenset(
    frozenset(pair)
    for pair in (
        ("solid", "part-solid"),
        ("solid", "ground-glass"),
        ("part-solid", "ground-glass"),
        ("smooth", "lobulated"),
        ("smooth", "spiculated"),
    )
)
_SAME_SIZE_MM = 2
"""Two measurements of one lesion differ by no more than this, as a rule."""


class Scale(Strict):
    """What each part of the score weighs, and where the levels begin."""

    per_1000_characters: _Weight = 1.0
    per_finding: _Weight = 0.5
    per_prior_study: _Weight = 1.0
    per_conflict: _Weight = 3.0
    moderate_from: _Weight = 2.0
    complex_from: _Weight = 4.0

    @model_validator(mode="after")
    def _ascends(self) -> Scale:
        if self.moderate_from > self.complex_from:
            raise ValueError("moderate_from is above complex_from")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What is counted of a case."""

    characters: int
    """Of the case's own text."""
    findings: int
    """Findings, or regions where nobody has read them yet."""
    prior_studies: int
    conflicts: int
    """Pairs of findings that contradict each other."""


def measure(inputs: BaseModel, characters: int, prior_studies: int) -> Measures:
    """Count what makes an agent's input hard."""
    findings = getattr(inputs, "findings", None)
    seen = getattr(inputs, "regions", ()) if findings is None else findings
    return Measures(
        characters=characters,
        findings=len(seen),
        prior_studies=prior_studies,
        conflicts=0 if findings is None else conflicts(findings),
    )


def score(measures: Measures, scale: Scale) -> float:
    """The weighted sum."""
    return (
        scale.per_1000_characters * measures.characters / 1000
        + scale.per_finding * measures.findings
        + scale.per_prior_study * measures.prior_studies
        + scale.per_conflict * measures.conflicts
    )


def complexity(measures: Measures, scale: Scale) -> Complexity:
    """The level of a case."""
    value = score(measures, scale)
    if value >= scale.complex_from:
        return "complex"
    return "moderate" if value >= scale.moderate_from else "simple"


def conflicts(findings: Sequence[Finding]) -> int:
    """Pairs of findings that seem to be one lesion and say of it what cannot both be true.

    One lesion: the same id, or the same kind at the same place and (within 2 mm) of the same size.
    What cannot both be true: another kind or place, or looks that exclude each other.
    """
    return sum(_contradict(one, other) for one, other in combinations(findings, 2))


def _contradict(one: Finding, other: Finding) -> bool:
    alike = (one.kind, one.place) == (other.kind, other.place)
    if not alike:
        return one.id == other.id
    if one.id != other.id and abs(one.size_mm - other.size_mm) > _SAME_SIZE_MM:
        return False
    return any(
        frozenset((mine, theirs)) in _EXCLUDE_EACH_OTHER
        for mine in one.characteristics
        for theirs in other.characteristics
    )
