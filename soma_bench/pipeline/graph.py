"""The pipeline as data: which stage reads what, and what it is asked.

    alignment -> radiologist -> pathologist -> report_writer -> qc_reviewer      (sequential)
    alignment -> radiologist and pathologist -> report_writer -> qc_reviewer     (parallel)

In sequence the Pathologist reads the Radiologist's findings, side by side the segmentation's
regions. A revision is a graph of the same kind, whose stages also read their own earlier answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentInput
from soma_bench.agents.base import Revision
from soma_bench.agents.pathologist import PathologistInput
from soma_bench.agents.qc_reviewer import QCReviewerInput
from soma_bench.agents.report_writer import ReportWriterInput
from soma_bench.pipeline.analysis import Analysis, Outputs
from soma_bench.routing.constraints import Pipeline
from soma_bench.types import AgentName

Build = Callable[[Analysis, Outputs], BaseModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One agent's turn."""

    agent: AgentName
    reads: tuple[AgentName, ...] = ()
    """Whose outputs its input is built from; it inherits their privacy."""
    after: tuple[AgentName, ...] = ()
    """Whom it waits for besides."""
    build: Build

    def waits_for(self, stages: Sequence[Stage]) -> tuple[AgentName, ...]:
        """The stages before it in ``stages`` that must have ended; other answers are there already."""
        earlier = [stage.agent for stage in stages[: stages.index(self)]]
        return tuple(agent for agent in earlier if agent in (*self.reads, *self.after))


def _align(analysis: Analysis, _: Outputs) -> BaseModel:
    return AlignmentInput(message=analysis.message)


def _find(analysis: Analysis, _: Outputs) -> BaseModel:
    return analysis.imaging


def _context(analysis: Analysis) -> str:
    told = (analysis.context.indication, analysis.imaging.clinical_context, *analysis.notes)
    return " ".join(told).strip()


def _diagnose_findings(analysis: Analysis, outputs: Outputs) -> BaseModel:
    return PathologistInput(findings=outputs.radiologist.findings, context=_context(analysis))


def _diagnose_regions(analysis: Analysis, _: Outputs) -> BaseModel:
    return PathologistInput(regions=analysis.imaging.regions, context=_context(analysis))


def _write(analysis: Analysis, outputs: Outputs) -> BaseModel:
    return ReportWriterInput(
        findings=outputs.radiologist.findings,
        diagnosis=outputs.pathologist,
        patient=analysis.patient,
        context=analysis.context,
    )


def _review(_: Analysis, outputs: Outputs) -> BaseModel:
    return QCReviewerInput(
        report=outputs.report.markdown,
        findings=outputs.radiologist.findings,
        diagnosis=outputs.pathologist,
    )


_ALIGNMENT = Stage(agent="alignment", build=_align)
_RADIOLOGIST = Stage(agent="radiologist", after=("alignment",), build=_find)
_REPORT_WRITER = Stage(agent="report_writer", reads=("radiologist", "pathologist"), build=_write)
_QC_REVIEWER = Stage(
    agent="qc_reviewer", reads=("radiologist", "pathologist", "report_writer"), build=_review
)

GRAPHS: Mapping[Pipeline, tuple[Stage, ...]] = {
    "sequential": (
        _ALIGNMENT,
        _RADIOLOGIST,
        Stage(agent="pathologist", reads=("radiologist",), build=_diagnose_findings),
        _REPORT_WRITER,
        _QC_REVIEWER,
    ),
    "parallel": (
        _ALIGNMENT,
        _RADIOLOGIST,
        Stage(agent="pathologist", after=("alignment",), build=_diagnose_regions),
        _REPORT_WRITER,
        _QC_REVIEWER,
    ),
}
"""The stages of an analysis; each stands after those that it waits for."""


def rewrite_graph() -> tuple[Stage, ...]:
    """ReportWriter with its draft and the critical issues of the review, then QCReviewer anew."""

    def issues(outputs: Outputs) -> tuple[str, ...]:
        return tuple(
            f"{issue.severity} {issue.category}: {issue.description}"
            for issue in outputs.review.issues
        )

    writer = _revising(_REPORT_WRITER, issues)
    return (replace(writer, reads=(*writer.reads, "qc_reviewer")), _QC_REVIEWER)


def revision_graph(order: Pipeline, agent: AgentName, message: str) -> tuple[Stage, ...]:
    """``agent`` with its earlier answer and a doctor's wish, then everyone who reads the answer.

    The ReportWriter is given its draft too, so that a report keeps what nobody wanted changed.
    """
    wish = f"the doctor says: {message}"[:2000]
    return tuple(
        _revising(stage, lambda _: (wish,)) if stage.agent in (agent, "report_writer") else stage
        for stage in _from(order, agent)
    )


def addition_graph(order: Pipeline, note: str) -> tuple[Stage, ...]:
    """Pathologist with the case's notes, of which ``note`` is new, then everyone who reads it."""
    wish = f"take into account: {note}"[:2000]
    return tuple(
        _revising(stage, lambda _: (wish,)) if stage.agent == "report_writer" else stage
        for stage in _from(order, "pathologist")
    )


def _from(order: Pipeline, agent: AgentName) -> tuple[Stage, ...]:
    """``agent``'s stage and all that read it, directly or through others."""
    found: list[Stage] = []
    for stage in GRAPHS[order]:
        if stage.agent == agent or any(other.agent in stage.reads for other in found):
            found.append(stage)
    return tuple(found)


def _revising(stage: Stage, requests: Callable[[Outputs], tuple[str, ...]]) -> Stage:
    """A stage that also reads its own earlier answer, to change it."""

    def build(analysis: Analysis, outputs: Outputs) -> BaseModel:
        agent = AGENT_BY_NAME[stage.agent]
        earlier: Any = outputs.of(stage.agent)
        revision = Revision(draft=agent.write(earlier), requests=requests(outputs))
        return stage.build(analysis, outputs).model_copy(update={"revision": revision})

    return replace(stage, reads=(*stage.reads, stage.agent), build=build)
