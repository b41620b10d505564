"""QCReviewer: was the planted defect found, and a clean report left in peace?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from soma_bench.agents.qc_reviewer import QCReviewerOutput
from soma_bench.cases.qc_reviewer import QCReviewerReference
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.scoring.classification import auroc, matthews

_WORST_SCORE = {"fail": 101, "pass": -1}
"""The score that a failed answer counts as, by the right verdict: as wrong as can be."""


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


def summarize(answers: Sequence[Answer]) -> dict[str, float]:
    """How well verdict, issues and score tell wrong reports from right ones; a failure is wrong.

    Sensitivity and specificity of the verdict, their mean and the Matthews correlation (0 for
    always the same verdict); localisation, the share of defects that an issue of a right category
    names; AUROC of the score, the chance that a clean report has a higher one than a wrong one.
    """
    if not answers:
        return {}
    wrong = [answer for answer in answers if answer.reference.defect is not None]
    clean = [answer for answer in answers if answer.reference.defect is None]
    figures = {}
    if wrong:
        figures["sensitivity"] = _rate(wrong, "verdict_right")
        figures["localisation"] = _rate(wrong, "defect_found")
    if clean:
        figures["specificity"] = _rate(clean, "verdict_right")
    if wrong and clean:
        figures["balanced_accuracy"] = (figures["sensitivity"] + figures["specificity"]) / 2
        truth = [answer.reference.defect is not None for answer in answers]
        right = [_holds(answer, "verdict_right") for answer in answers]
        said = [is_wrong == is_right for is_wrong, is_right in zip(truth, right, strict=True)]
        figures["mcc"] = matthews(truth, said)
        ranked = auroc([not is_wrong for is_wrong in truth], [_score(a) for a in answers])
        assert ranked is not None, "there are both kinds of reports"
        figures["auroc"] = ranked
    return figures


def breakdown(answers: Sequence[Answer]) -> dict[str, Any]:
    """Sensitivity by kind of defect and by severity; specificity by the clean reports' tags."""
    groups: dict[str, dict[str, list[Answer]]] = {
        "sensitivity_by_kind": defaultdict(list),
        "sensitivity_by_severity": defaultdict(list),
        "specificity_by_tag": defaultdict(list),
    }
    for answer in answers:
        defect = answer.reference.defect
        if defect is not None:
            groups["sensitivity_by_kind"][defect.kind].append(answer)
            groups["sensitivity_by_severity"][defect.severity].append(answer)
        else:
            for tag in answer.tags:
                groups["specificity_by_tag"][tag].append(answer)
    return {
        name: {key: _rate(group, "verdict_right") for key, group in sorted(by_key.items())}
        for name, by_key in groups.items()
        if by_key
    }


def _rate(answers: Sequence[Answer], part: str) -> float:
    return fmean(float(_holds(answer, part)) for answer in answers)


def _holds(answer: Answer, part: str) -> bool:
    return answer.parts is not None and bool(answer.parts[part])


def _score(answer: Answer) -> float:
    if answer.parts is None:
        return _WORST_SCORE[answer.reference.verdict]
    return float(answer.parts["score"])


SCORER = Scorer(
    agent="qc_reviewer",
    version=2,
    primary="QC review score",
    score=score,
    summarize=summarize,
    headline=("sensitivity", "specificity", "mcc", "auroc"),
    breakdown=breakdown,
)
