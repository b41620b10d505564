"""Pairs for the QCReviewer from any text: as it is, and with one thing altered.

What is altered is known, so the truth is certain where nobody has labelled anything: a side, a
negation or a number. Whether the text itself was right before, nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.base import RowError, slug

_SIDE = re.compile(r"\b(left|right)\b(?! now| away)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d./-])(\d{1,4})(?=\s?(?:mm|cm|mg|mcg|ml|kg|%|year|month|week|day))")
_DENIAL = re.compile(
    r"\b(?:denies|no evidence of|without evidence of|negative for|no acute)\b", re.IGNORECASE
)
_AFFIRMED = {
    "denies": "reports",
    "no evidence of": "evidence of",
    "without evidence of": "with evidence of",
    "negative for": "positive for",
    "no acute": "acute",
}
_OTHER_SIDE = {"left": "right", "right": "left"}


def altered(text: str, source: str | None, turn: int) -> tuple[str, str] | None:
    """The text with one thing altered, and the kind of defect; None where nothing can be.

    Args:
        text: a report.
        source: what it was written from, in which an altered side or number must stand: otherwise
            nobody could see that it is wrong.
        turn: which kind is tried first, so that kinds take turns over a file.
    """
    tries = (_swap_side, _flip_denial, _change_number)
    for step in range(len(tries)):
        found = tries[(turn + step) % len(tries)](text, source)
        if found is not None:
            return found
    return None


def pair(
    row_id: str, report: str, source: str | None, turn: int, tags: Sequence[str]
) -> list[Mapping[str, Any]]:
    """The report as it is and altered, as two cases of one cluster.

    Raises:
        RowError: nothing in it can be altered.
    """
    found = altered(report, source, turn)
    if found is None:
        raise RowError("names no side, no negation and no measure that could be altered")
    text, kind = found
    defect = {"kind": kind, "categories": ["CONSISTENCY"], "severity": "critical"}
    return [
        {
            "id": f"{slug(row_id)}-{name}",
            "input": {"report": shown, **({"source": source} if source else {})},
            "reference": {"defect": planted},
            "tags": [*tags, "clean" if planted is None else kind],
            "cluster": slug(row_id),
        }
        for name, shown, planted in (("clean", report, None), ("altered", text, defect))
    ]


def _stands(word: str, source: str | None) -> bool:
    return source is None or re.search(rf"\b{word}\b", source, re.IGNORECASE) is not None


def _swap_side(text: str, source: str | None) -> tuple[str, str] | None:
    match = next((m for m in _SIDE.finditer(text) if _stands(m[0], source)), None)
    if match is None or _stands(_OTHER_SIDE[match[0].lower()], source or ""):
        return None
    other = _OTHER_SIDE[match[0].lower()]
    other = other.capitalize() if match[0][0].isupper() else other
    return text[: match.start()] + other + text[match.end() :], "side_swapped"


def _flip_denial(text: str, source: str | None) -> tuple[str, str] | None:  # noqa: ARG001
    match = _DENIAL.search(text)
    if match is None:
        return None
    other = _AFFIRMED[match[0].lower()]
    other = other.capitalize() if match[0][0].isupper() else other
    return text[: match.start()] + other + text[match.end() :], "finding_negated"


def _change_number(text: str, source: str | None) -> tuple[str, str] | None:
    match = next((m for m in _NUMBER.finditer(text) if _stands(m[1], source)), None)
    if match is None:
        return None
    other = int(match[1]) * 3 if int(match[1]) else 7
    return text[: match.start()] + str(other) + text[match.end() :], "number_changed"
