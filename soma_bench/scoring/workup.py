"""Whether the recommended next steps are those of a Lung-RADS category, by the table of rules."""

from __future__ import annotations

import re
from collections.abc import Sequence

from soma_bench.cases.rules import MONTHS, Category

_CT = re.compile(r"\b(?:ldct|ct|computed tomography|scan|imaging|screening)\b", re.IGNORECASE)
_PET = re.compile(r"\bpet\b", re.IGNORECASE)
_TISSUE = re.compile(
    r"\b(?:biops\w+|tissue|pet|resection|bronchoscop\w+|fna|needle)\b", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:no|not|without|avoid|instead of)\b", re.IGNORECASE)
_TIME = re.compile(
    r"\b(?P<least>\d+|annual|yearly|one|an?)\b(?:\s*(?:-|\u2013|to)\s*(?P<most>\d+))?"
    r"[ -]?(?P<unit>weeks?|months?|mo\b|years?|yrs?\b)?",
    re.IGNORECASE,
)
_MONTHS_PER_UNIT = {"w": 12 / 52, "m": 1.0, "y": 12.0}


def follows_category(steps: Sequence[str], category: Category) -> bool:
    """Whether the steps hold what a category asks for, and no step of another urgency.

    Categories with an interval need a CT in that many months, a quarter more or less, and no tissue
    first; the others need tissue or PET-CT.

    >>> follows_category(["LDCT in 6 months"], "3"), follows_category(["CT in 1 year"], "3")
    (True, False)
    """
    said = [step for step in steps if not _DENIED.search(step)]
    sampled = any(_TISSUE.search(step) for step in said)
    months = MONTHS[category]
    if months is None:
        return sampled
    spans = [
        span for step in said if _CT.search(step) and not _PET.search(step) for span in _spans(step)
    ]
    in_time = [least <= months * 1.25 and most >= months * 0.75 for least, most in spans]
    return bool(spans) and all(in_time) and not sampled


def _spans(step: str) -> list[tuple[float, float]]:
    """The times that a step names, from and to, in months."""
    found = []
    for match in _TIME.finditer(step):
        least, unit = match["least"].lower(), (match["unit"] or "").lower()
        if least in ("annual", "yearly"):
            found.append((12.0, 12.0))
        elif unit:
            factor = _MONTHS_PER_UNIT[unit[0]]
            number = float(least) if least.isdigit() else 1.0
            found.append((number * factor, float(match["most"] or number) * factor))
    return found
