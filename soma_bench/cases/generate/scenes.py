"""Findings as generated cases use them."""

from __future__ import annotations

from collections.abc import Sequence

from soma_bench.agents.radiologist import (
    Characteristic,
    Finding,
    Kind,
    Laterality,
    Location,
    Severity,
)
from soma_bench.cases.draws import Draws
from soma_bench.cases.rules import DiagnosisRule

OTHER_LOBE: dict[Location, Location] = {"upper lobe": "lower lobe", "lower lobe": "upper lobe"}
OTHER_SIDE: dict[Laterality, Laterality] = {"left": "right", "right": "left"}
LATERAL: tuple[Laterality, ...] = ("left", "right")


def severity(size_mm: float, characteristics: Sequence[Characteristic]) -> Severity:
    """Low below 6 mm; else high from 15 mm or when spiculated; else moderate."""
    if size_mm < 6:
        return "low"
    return "high" if size_mm >= 15 or "spiculated" in characteristics else "moderate"


def finding(
    number: int,
    kind: Kind,
    laterality: Laterality,
    location: Location,
    size_mm: int,
    characteristics: tuple[Characteristic, ...],
) -> Finding:
    """The finding ``F<number>``."""
    return Finding(
        id=f"F{number}",
        kind=kind,
        laterality=laterality,
        location=location,
        size_mm=size_mm,
        characteristics=characteristics,
        severity=severity(size_mm, characteristics),
        confidence=90,
    )


def findings_of(rule: DiagnosisRule, side: Laterality, draws: Draws) -> tuple[Finding, ...]:
    """The findings of a diagnosis, all on one side: in the middle where the rule says so."""
    look = rule.look
    location = draws.choice(look.locations)
    laterality = "midline" if location == "mediastinum" else side
    found = []
    for number in range(1, look.count + 1):
        low, high = look.sizes_mm
        size = low + draws.below(high - low + 1)
        found.append(finding(number, look.kind, laterality, location, size, look.characteristics))
        location = OTHER_LOBE.get(location, location)
    return tuple(found)


def another_finding(
    first: Finding, number: int, draws: Draws, others: Sequence[Finding] = ()
) -> Finding:
    """A finding beside the first one, in a place where none is yet."""
    taken = {(f.laterality, f.location) for f in (first, *others)}
    side: Laterality = draws.choice(LATERAL)
    choices: list[tuple[Kind, Laterality, Location, tuple[Characteristic, ...]]] = [
        ("lymph node", side, "hilum", ("solid",)),
        ("effusion", side, "pleura", ()),
        ("nodule", side, draws.choice(("upper lobe", "lower lobe")), ("solid", "smooth")),
    ]
    free = [c for c in choices if (c[1], c[2]) not in taken and c[0] != first.kind]
    kind, laterality, location, looks = draws.choice(free)
    sizes = {"lymph node": (12, 20), "effusion": (15, 45), "nodule": (5, 11)}[kind]
    size = sizes[0] + draws.below(sizes[1] - sizes[0] + 1)
    # Two findings of one size would hide which of them a report speaks of.
    size += size == first.size_mm
    return finding(number, kind, laterality, location, size, looks)
