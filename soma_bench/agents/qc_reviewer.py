"""QCReviewer: does a report say what its findings and diagnosis say, and is it whole?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from soma_bench.agents.base import (
    Agent,
    MaybeRevision,
    Strict,
    answer_schema,
    json_parser,
    json_writer,
    prompt_text,
    render_revision,
)
from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.radiologist import Finding, Percent
from soma_bench.agents.report_writer import DISCLAIMER, report_line

Category = Literal["COMPLETENESS", "CONSISTENCY", "TERMINOLOGY", "CLARITY", "FORMAT", "DISCLAIMER"]
IssueSeverity = Literal["critical", "major", "minor"]
Verdict = Literal["pass", "fail"]


class QCReviewerInput(Strict):
    """A report and what it was written from: data, a text, or nothing that is known."""

    report: Annotated[str, Field(min_length=1, max_length=8000)]
    """Markdown."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=20)] | None = None
    """Empty when nothing is abnormal; None where the report was not written from findings."""
    diagnosis: PathologistOutput | None = None
    source: Annotated[str, Field(min_length=1, max_length=40_000)] | None = None
    """The text, such as a conversation, that the report was written from instead."""
    revision: MaybeRevision = None

    @model_validator(mode="after")
    def _has_one_origin(self) -> QCReviewerInput:
        if (self.findings is None) != (self.diagnosis is None):
            raise ValueError("give findings and diagnosis together, or neither")
        if self.findings is not None and self.source is not None:
            raise ValueError("give findings and diagnosis or a source, and not both")
        return self


class Issue(Strict):
    """One thing that is wrong with a report."""

    category: Category
    severity: IssueSeverity
    description: Annotated[str, Field(min_length=1, max_length=80)]


class QCReviewerOutput(Strict):
    """What a review found, and whether the report may go out."""

    issues: Annotated[tuple[Issue, ...], Field(max_length=4)]
    """Worst first; empty when nothing is wrong."""
    score: Percent
    """Quality of the report, 0 to 100."""
    verdict: Verdict

    @property
    def critical(self) -> tuple[Issue, ...]:
        """The critical issues, which count whatever the verdict beside them says."""
        return tuple(issue for issue in self.issues if issue.severity == "critical")


def _render(inputs: QCReviewerInput) -> str:
    lines = [*_origin_lines(inputs), "Report:", inputs.report]
    return "\n".join(lines + render_revision(inputs.revision))


def _origin_lines(inputs: QCReviewerInput) -> list[str]:
    if inputs.findings is not None and inputs.diagnosis is not None:
        return [
            "Data:",
            *(f"- {report_line(finding)}" for finding in inputs.findings),
            *([] if inputs.findings else ["- no findings"]),
            f"- diagnosis: {inputs.diagnosis.primary.name}",
        ]
    rules = "The report's headings and its disclaimer are not asked for."
    if inputs.source is not None:
        return [f"Data: the text that the report was written from. {rules}", inputs.source]
    return [f"Data: none; judge the report by itself. {rules}"]


def _example(report: str, output: QCReviewerOutput) -> tuple[QCReviewerInput, QCReviewerOutput]:
    finding = Finding(
        id="F1",
        kind="nodule",
        laterality="left",
        location="lower lobe",
        size_mm=14,
        characteristics=("solid",),
        severity="moderate",
        confidence=90,
    )
    diagnosis = Diagnosis(
        name="Carcinoid tumor", icd10="D3A.090", confidence=60, reasoning="Solid nodule."
    )
    return (
        QCReviewerInput(
            report=report,
            findings=(finding,),
            diagnosis=PathologistOutput(primary=diagnosis, differentials=(), workup=()),
        ),
        output,
    )


_REPORT = f"""\
## Clinical Indication
Cough.
## Comparison
None.
## Technique
Chest CT.
## Findings
There is a 14 mm solid nodule in the left lower lobe.
## Impression
14 mm nodule in the left lower lobe, most likely carcinoid tumor.
## Recommendations
Bronchoscopy.

{DISCLAIMER}"""

AGENT = Agent(
    name="qc_reviewer",
    input_type=QCReviewerInput,
    output_type=QCReviewerOutput,
    system=prompt_text("qc_reviewer"),
    examples=(
        _example(_REPORT, QCReviewerOutput(issues=(), score=96, verdict="pass")),
        _example(
            _REPORT.replace("14 mm solid", "4 mm solid"),
            QCReviewerOutput(
                issues=(
                    Issue(
                        category="CONSISTENCY",
                        severity="critical",
                        description="The data say 14 mm, the findings 4 mm.",
                    ),
                ),
                score=35,
                verdict="fail",
            ),
        ),
    ),
    render=_render,
    write=json_writer,
    parse=json_parser(QCReviewerOutput),
    schema=answer_schema(QCReviewerOutput),
    max_tokens=320,
)
