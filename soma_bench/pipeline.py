"""The five agents as a pipeline: from a doctor's message and a segmentation to a reviewed report.

Alignment first; then Radiologist and Pathologist, one after the other (the Pathologist reads the
findings) or side by side (it reads the regions); then ReportWriter; then QCReviewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import BaseModel, Field

from soma_bench.agents.alignment import AlignmentInput, AlignmentOutput
from soma_bench.agents.base import Strict
from soma_bench.agents.pathologist import PathologistInput, PathologistOutput
from soma_bench.agents.qc_reviewer import QCReviewerInput, QCReviewerOutput
from soma_bench.agents.radiologist import RadiologistInput, RadiologistOutput
from soma_bench.agents.report_writer import (
    Patient,
    ReportContext,
    ReportWriterInput,
    ReportWriterOutput,
)
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.router import Routed
from soma_bench.types import AgentName

Ask = Callable[[AgentName, BaseModel], Awaitable[Routed]]
"""Puts an agent's question to wherever it is routed."""


class Analysis(Strict):
    """What one analysis starts from."""

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    """The doctor's message that asks for it."""
    imaging: RadiologistInput
    patient: Patient | None = None
    context: ReportContext


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """A reviewed report, with what every stage said and where it ran."""

    alignment: AlignmentOutput
    radiologist: RadiologistOutput
    pathologist: PathologistOutput
    report: ReportWriterOutput
    review: QCReviewerOutput
    stages: tuple[Routed, ...]
    """In the order in which they ended."""


async def analyse(
    analysis: Analysis,
    ask: Ask,
    *,
    order: Pipeline = "sequential",
    on_stage: Callable[[Routed], None] = lambda _: None,
) -> AnalysisResult:
    """Run the five agents.

    Args:
        analysis: what to analyse.
        ask: puts a question to an agent, e.g. `soma_bench.routing.router.Router.ask`.
        order: whether Radiologist and Pathologist run one after the other or side by side.
        on_stage: told of every stage as it ends.

    Raises:
        AnswerError: a stage got no usable answer; the analysis ends there.
    """
    stages: list[Routed] = []

    async def stage(agent: AgentName, inputs: BaseModel) -> BaseModel:
        routed = await ask(agent, inputs)
        stages.append(routed)
        on_stage(routed)
        return cast(BaseModel, routed.output)

    intent = cast(
        AlignmentOutput, await stage("alignment", AlignmentInput(message=analysis.message))
    )
    radiology, pathology = await _read_images(analysis, stage, order)
    report = cast(
        ReportWriterOutput,
        await stage(
            "report_writer",
            ReportWriterInput(
                findings=radiology.findings,
                diagnosis=pathology,
                patient=analysis.patient,
                context=analysis.context,
            ),
        ),
    )
    review = cast(
        QCReviewerOutput,
        await stage(
            "qc_reviewer",
            QCReviewerInput(
                report=report.markdown, findings=radiology.findings, diagnosis=pathology
            ),
        ),
    )
    return AnalysisResult(
        alignment=intent,
        radiologist=radiology,
        pathologist=pathology,
        report=report,
        review=review,
        stages=tuple(stages),
    )


async def _read_images(
    analysis: Analysis,
    stage: Callable[[AgentName, BaseModel], Awaitable[BaseModel]],
    order: Pipeline,
) -> tuple[RadiologistOutput, PathologistOutput]:
    context = f"{analysis.context.indication} {analysis.imaging.clinical_context}".strip()
    if order == "parallel":
        from_regions = PathologistInput(regions=analysis.imaging.regions, context=context)
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_start(stage, "radiologist", analysis.imaging))
                diagnosing = group.create_task(_start(stage, "pathologist", from_regions))
        except ExceptionGroup as failures:
            # The first stage that failed has cancelled the other; its own error is what happened.
            raise failures.exceptions[0] from failures
        return cast(RadiologistOutput, reading.result()), cast(
            PathologistOutput, diagnosing.result()
        )
    radiology = cast(RadiologistOutput, await stage("radiologist", analysis.imaging))
    from_findings = PathologistInput(findings=radiology.findings, context=context)
    return radiology, cast(PathologistOutput, await stage("pathologist", from_findings))


async def _start(
    stage: Callable[[AgentName, BaseModel], Awaitable[BaseModel]],
    agent: AgentName,
    inputs: BaseModel,
) -> BaseModel:
    return await stage(agent, inputs)
