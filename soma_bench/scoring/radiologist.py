"""Radiologist: what is there was found, where it is and how large, and nothing else.

Primary: F1 of the findings, in which a found finding counts less the more its size is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soma_bench.agents.radiologist import Finding, RadiologistOutput
from soma_bench.cases.radiologist import ExpectedFinding, RadiologistReference
from soma_bench.scoring.base import Score, Scorer


def score(output: RadiologistOutput, reference: RadiologistReference) -> Score:
    """Match findings one to one by location and laterality, then weigh each pair by its size.

    A pair's credit is 1 for the right size and falls with the relative error of the size to 1/2
    at 100 % and beyond. Saying nothing about a normal examination scores 1.
    """
    said, truth = output.findings, reference.findings
    pairs = _match(said, truth)
    credit = sum(_credit(said[i], truth[j]) for i, j in pairs)
    primary = 2 * credit / (len(said) + len(truth)) if said or truth else 1.0
    missed = [expected for j, expected in enumerate(truth) if j not in {j for _, j in pairs}]
    invented = [finding for i, finding in enumerate(said) if i not in {i for i, _ in pairs}]
    return Score(
        primary=primary,
        parts={
            "matched": len(pairs),
            "missed": len(missed),
            "invented": len(invented),
            "size_errors_mm": [said[i].size_mm - truth[j].size_mm for i, j in pairs],
            "wrong_side": _wrong_sides(invented, missed),
            "kinds_right": sum(said[i].kind == truth[j].kind for i, j in pairs),
            "severities_right": sum(said[i].severity == truth[j].severity for i, j in pairs),
            "characteristics_right": sum(
                set(said[i].characteristics) == set(truth[j].characteristics) for i, j in pairs
            ),
            "technical_quality_right": output.technical_quality == reference.technical_quality,
        },
    )


def summarize(
    answers: Sequence[tuple[Mapping[str, Any] | None, RadiologistReference]],
) -> dict[str, float]:
    """Over all findings together: sensitivity, precision, mean absolute size error in mm.

    A failed answer misses all its findings. A figure without anything to count is left out.
    """
    read = [parts for parts, _ in answers if parts is not None]
    there = sum(len(reference.findings) for _, reference in answers)
    matched = sum(parts["matched"] for parts in read)
    named = matched + sum(parts["invented"] for parts in read)
    errors = [abs(error) for parts in read for error in parts["size_errors_mm"]]
    figures = {}
    if there:
        figures["sensitivity"] = matched / there
    if named:
        figures["precision"] = matched / named
    if errors:
        figures["size_error_mm"] = sum(errors) / len(errors)
    return figures


def _same_place(finding: Finding, expected: ExpectedFinding) -> bool:
    return (finding.location, finding.laterality) == (expected.location, expected.laterality)


def _credit(finding: Finding, expected: ExpectedFinding) -> float:
    """What a pair is worth: 0 in another place, else 1/2 for being found and 1/2 for the size."""
    if not _same_place(finding, expected):
        return 0.0
    error = abs(finding.size_mm - expected.size_mm) / expected.size_mm
    return 1 - min(error, 1) / 2


def _match(said: Sequence[Finding], truth: Sequence[ExpectedFinding]) -> list[tuple[int, int]]:
    """Index pairs of the one-to-one matching with the largest sum of credits."""
    if not said or not truth:
        return []
    from scipy.optimize import linear_sum_assignment

    worth = [[_credit(finding, expected) for expected in truth] for finding in said]
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if worth[i][j] > 0]


def _wrong_sides(invented: Sequence[Finding], missed: Sequence[ExpectedFinding]) -> int:
    """How many missed findings were named in the right location of a wrong side."""
    left = [finding.location for finding in invented]
    count = 0
    for expected in missed:
        if expected.location in left:
            left.remove(expected.location)
            count += 1
    return count


SCORER = Scorer(
    agent="radiologist",
    version=1,
    primary="size-weighted F1",
    score=score,
    summarize=summarize,
)
