"""What a diagnosis is in the generated cases: its names, its codes, how it looks, what tells of it.

ICD-10-CM codes are those of the United States' public list (CMS and NCHS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from soma_bench.agents.radiologist import Characteristic, Kind, Laterality, Location

_SIDE_DIGIT: Mapping[Laterality, str] = {"right": "1", "left": "2"}


def cancer_code(laterality: Laterality, location: Location) -> str:
    """ICD-10-CM code of a primary cancer of the lung; the lingula is part of the left upper lobe."""
    if location == "middle lobe":
        return "C34.2"
    lobe = {"upper lobe": "1", "lingula": "1", "lower lobe": "3", "hilum": "0"}[location]
    return f"C34.{lobe}{_SIDE_DIGIT[laterality]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A finding as a diagnosis shows it; the generator chooses side, place and size from it."""

    kind: Kind
    locations: tuple[Location, ...]
    sizes_mm: tuple[int, int]
    """Smallest and largest."""
    characteristics: tuple[Characteristic, ...] = ("solid",)
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisRule:
    """A diagnosis that its findings and its context leave no doubt of."""

    names: tuple[str, ...]
    """Names that mean it, the usual one first."""
    codes: tuple[str, ...] = ()
    """ICD-10-CM codes that are right, the best first; empty where the finding's place decides."""
    coded_by: Literal["cancer", "metastasis", "benign"] | None = None
    look: Look
    contexts: tuple[tuple[str, ...], ...]
    """Tellings of the history: in each group the same in other words."""
    workup: str

    def codes_at(self, laterality: Laterality, location: Location) -> tuple[str, ...]:
        """The right codes for a finding at a place, the best first."""
        if self.coded_by == "cancer":
            return (cancer_code(laterality, location),)
        digit = _SIDE_DIGIT.get(laterality, "0")
        if self.coded_by == "metastasis":
            return (f"C78.0{digit}",)
        if self.coded_by == "benign":
            return (f"D14.3{digit}",)
        return self.codes
