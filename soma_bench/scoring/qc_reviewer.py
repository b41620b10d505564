"""QCReviewer: was the planted defect found, and a clean report left in peace?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from soma_bench.agents.qc_reviewer import QCReviewerOutput
from soma_bench.cases.qc_reviewer import QCReviewerReference
from soma_bench.scoring.base import Score, Scorer


def score(output: QCReviewerOutput, reference: QCReviewerReference) -> Score:
    """Half for the verdict, half for the issues.

    The issues' half is the precision of the categories that are reported: with a defect, 1 over
    their number if a right one is among them; without one, 1 for none reported. On a suite that is
    half clean every reviewer that always answers the same gets at most 0.5.
    """
    defect = reference.defect
    reported = {issue.category for issue in output.issues}
    found = defect is not None and not reported.isdisjoint(defect.categories)
    verdict_right = output.verdict == reference.verdict
    precision = float(not reported) if defect is None else found / max(1, len(reported))
    return Score(
        primary=0.5 * verdict_right + 0.5 * precision,
        parts={
            "verdict": output.verdict,
            "verdict_right": verdict_right,
            "defect_found": found if defect is not None else None,
            "severity_right": _severity_right(output, reference),
            "false_alarms": len(reported - set(defect.categories if defect else ())),
            "score": output.score,
        },
    )


def _severity_right(output: QCReviewerOutput, reference: QCReviewerReference) -> bool | None:
    """Whether an issue of a right category has the defect's severity; None for a clean report."""
    defect = reference.defect
    if defect is None:
        return None
    return any(
        issue.category in defect.categories and issue.severity == defect.severity
        for issue in output.issues
    )


def summarize(
    answers: Sequence[tuple[Mapping[str, Any] | None, QCReviewerReference]],
) -> dict[str, float]:
    """Sensitivity and specificity of the verdict, and their mean; a failed answer is wrong."""
    right: dict[str, list[bool]] = {"fail": [], "pass": []}
    for parts, reference in answers:
        right[reference.verdict].append(parts is not None and parts["verdict_right"])
    names = {"fail": "sensitivity", "pass": "specificity"}
    figures = {names[verdict]: fmean(hits) for verdict, hits in right.items() if hits}
    if len(figures) == len(names):
        figures["balanced_accuracy"] = fmean(figures.values())
    return figures


SCORER = Scorer(
    agent="qc_reviewer", version=1, primary="QC review score", score=score, summarize=summarize
)
