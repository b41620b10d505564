"""Radiologist: what is there was found, where it is and how large, and nothing else.

Primary: F1 of the findings, in which a found finding counts less the more its size is wrong, and
half as soon as its size leads to another management.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from soma_bench.agents.radiologist import Characteristic, Finding, RadiologistOutput
from soma_bench.cases.radiologist import ExpectedFinding, RadiologistReference
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.scoring.classification import calibration
from soma_bench.scoring.management import crosses_step

_DENSITIES: frozenset[Characteristic] = frozenset({"solid", "part-solid", "ground-glass"})
_MARGINS: frozenset[Characteristic] = frozenset({"smooth", "lobulated", "spiculated"})


def score(output: RadiologistOutput, reference: RadiologistReference) -> Score:
    """Match findings one to one by location and laterality, then weigh each pair by its size.

    A pair's credit is 1 for the right size and falls with the relative error of the size to 1/2
    at 100 % and beyond; a size across a step of management (6, 8 and 15 mm for solid nodules) has
    1/2 however near it is. Saying nothing about a normal examination scores 1.
    """
    said, truth = output.findings, reference.findings
    pairs = _match(said, truth, _credit)
    missed = [finding for j, finding in enumerate(truth) if j not in {j for _, j in pairs}]
    invented = [finding for i, finding in enumerate(said) if i not in {i for i, _ in pairs}]
    misplaced = [(invented[i], missed[j]) for i, j in _match(invented, missed, _resemblance)]
    found = [(said[i], truth[j]) for i, j in pairs]
    return Score(
        primary=_f1(sum(_credit(*pair) for pair in found), said, truth),
        parts={
            "detection_f1": _f1(len(found), said, truth),
            "matched": len(found),
            "missed": len(missed),
            "invented": len(invented),
            "wrong_side": sum(one.location == other.location for one, other in misplaced),
            "wrong_location": sum(one.location != other.location for one, other in misplaced),
            "size_errors_mm": [one.size_mm - other.size_mm for one, other in found],
            "steps_crossed": sum(_crosses(*pair) for pair in found),
            "kinds_right": sum(one.kind == other.kind for one, other in found),
            "severities_right": sum(one.severity == other.severity for one, other in found),
            "densities_right": _agreeing(found, _DENSITIES),
            "margins_right": _agreeing(found, _MARGINS),
            "characteristics_right": sum(
                set(one.characteristics) == set(other.characteristics) for one, other in found
            ),
            "confidences": [
                [finding.confidence, i in {i for i, _ in pairs}] for i, finding in enumerate(said)
            ],
            "technical_quality_right": output.technical_quality == reference.technical_quality,
        },
    )


def summarize(answers: Sequence[Answer]) -> dict[str, float]:
    """Over all findings together; a failed answer misses all its findings.

    Sensitivity, precision and detection F1, wrongly named findings per case, share of findings
    with the right side and with the right location among those that were named somewhere near,
    mean absolute size error in mm and share of sizes across a step of management among those
    found, share of densities and margins right, calibration of the confidence that a finding is
    there, and share of answers that could be read. A figure without anything to count is left out.
    """
    if not answers:
        return {}
    read = [answer.parts for answer in answers if answer.parts is not None]

    def total(name: str) -> int:
        return sum(parts[name] for parts in read)

    there = sum(len(answer.reference.findings) for answer in answers)
    matched, invented = total("matched"), total("invented")
    near = matched + total("wrong_side") + total("wrong_location")
    errors = [abs(error) for parts in read for error in parts["size_errors_mm"]]
    figures = {"schema_valid": len(read) / len(answers)}
    if there:
        figures["sensitivity"] = matched / there
    if matched + invented:
        figures["precision"] = matched / (matched + invented)
    if there or invented:
        figures["detection_f1"] = 2 * matched / (there + matched + invented)
    if read:
        figures["false_positives_per_case"] = invented / len(read)
    if near:
        figures["side_right"] = 1 - total("wrong_side") / near
        figures["location_right"] = 1 - total("wrong_location") / near
    if errors:
        figures["size_error_mm"] = sum(errors) / len(errors)
        figures["steps_crossed"] = total("steps_crossed") / matched
        figures["density_right"] = total("densities_right") / matched
        figures["margin_right"] = total("margins_right") / matched
    claims = [(stated / 100, right) for parts in read for stated, right in parts["confidences"]]
    return {**figures, **calibration(claims)}


def _f1(hits: float, said: Sequence[Finding], truth: Sequence[ExpectedFinding]) -> float:
    return 2 * hits / (len(said) + len(truth)) if said or truth else 1.0


def _credit(finding: Finding, expected: ExpectedFinding) -> float:
    """What a pair is worth: 0 in another place, else 1/2 for being found and 1/2 for the size."""
    if (finding.location, finding.laterality) != (expected.location, expected.laterality):
        return 0.0
    if _crosses(finding, expected):
        return 0.5
    error = abs(finding.size_mm - expected.size_mm) / expected.size_mm
    return 1 - min(error, 1) / 2


def _crosses(finding: Finding, expected: ExpectedFinding) -> bool:
    return crosses_step(expected.kind, expected.characteristics, expected.size_mm, finding.size_mm)


def _resemblance(finding: Finding, expected: ExpectedFinding) -> float:
    """How well a wrongly placed finding may be meant for a missed one; 0 for not at all."""
    if finding.location == expected.location:
        place = 2.0
    elif finding.laterality == expected.laterality:
        place = 1.0
    else:
        return 0.0
    smaller, larger = sorted((float(finding.size_mm), expected.size_mm))
    return place + smaller / larger / 2


def _match(
    said: Sequence[Finding],
    truth: Sequence[ExpectedFinding],
    worth: Callable[[Finding, ExpectedFinding], float],
) -> list[tuple[int, int]]:
    """Index pairs of the one-to-one matching with the largest sum of worths."""
    if not said or not truth:
        return []
    from scipy.optimize import linear_sum_assignment

    worths = [[worth(finding, expected) for expected in truth] for finding in said]
    rows, columns = linear_sum_assignment(worths, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if worths[i][j] > 0]


def _agreeing(
    found: Iterable[tuple[Finding, ExpectedFinding]], among: frozenset[Characteristic]
) -> int:
    """How many pairs name the same ones of some characteristics."""
    return sum(
        among.intersection(one.characteristics) == among.intersection(other.characteristics)
        for one, other in found
    )


def breakdown(answers: Sequence[Answer]) -> dict[str, Any]:
    """Sensitivity by a case's tag; a failed answer misses all its findings."""
    found: dict[str, list[int]] = {}
    for answer in answers:
        for tag in answer.tags:
            row = found.setdefault(tag, [0, 0])
            row[0] += 0 if answer.parts is None else answer.parts["matched"]
            row[1] += len(answer.reference.findings)
    return {"sensitivity_by_tag": {tag: hit / n for tag, (hit, n) in sorted(found.items()) if n}}


SCORER = Scorer(
    agent="radiologist",
    version=2,
    primary="size-weighted F1",
    score=score,
    summarize=summarize,
    headline=("sensitivity", "precision", "size_error_mm", "steps_crossed"),
    breakdown=breakdown,
)
