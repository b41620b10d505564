"""Cases of the QCReviewer agent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soma_bench.agents.base import Strict
from soma_bench.agents.qc_reviewer import Category, IssueSeverity, QCReviewerInput, Verdict
from soma_bench.cases.base import Case

DefectKind = Literal[
    "side_swapped",
    "size_changed",
    "finding_omitted",
    "finding_invented",
    "finding_negated",
    "section_missing",
    "disclaimer_missing",
    "impression_unsupported",
    "unit_changed",
    "location_changed",
    "interval_invented",
    "follow_up_mismatch",
    "placeholder_left",
    "term_wrong",
    "number_changed",
    "clinical_error",
]


class Defect(Strict):
    """The one thing that was made wrong in a report."""

    kind: DefectKind
    categories: Annotated[tuple[Category, ...], Field(min_length=1, strict=False)]
    """Categories that are right; more than one where the defect is open to several."""
    severity: IssueSeverity


class QCReviewerReference(Strict):
    """The right verdict, which follows from the defect."""

    defect: Defect | None
    """None for a clean report."""

    @property
    def verdict(self) -> Verdict:
        """``fail`` for a report with a defect."""
        return "pass" if self.defect is None else "fail"


class QCReviewerCase(Case):
    """A report, clean or with one planted defect."""

    agent: Literal["qc_reviewer"]
    input: QCReviewerInput
    reference: QCReviewerReference
