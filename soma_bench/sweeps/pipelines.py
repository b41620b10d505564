"""Whole analyses, scored stage by stage: what errors of one stage do to the next.

Every case runs from the doctor's message to the review, in each order asked for. Where a stage reads
what others have said, it is also asked once on the true findings and diagnosis: the difference of
its two scores is what was lost before it. A stage that gave no usable answer scores 0, and so do all
that could not run for want of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from soma_bench.agents.pathologist import PathologistInput
from soma_bench.agents.report_writer import ReportWriterInput
from soma_bench.cases.pipeline import PipelineCase
from soma_bench.errors import AnswerError
from soma_bench.pipeline import analyse
from soma_bench.pipeline.events import Event, StageEnded
from soma_bench.pipeline.executor import Ask
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.context import CallContext
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.scoring.statistics import MeanInterval, Paired, mean_interval, paired_comparison
from soma_bench.types import AgentName

Upstream = Literal["sequential", "parallel", "true"]
"""What a stage read: what the stages before it said in that order, or the truth."""

SCORED: tuple[AgentName, ...] = ("alignment", "radiologist", "pathologist", "report_writer")
"""Stages that have a truth of their own. A review is right about one report, and what a model wrote
has no verdict to hold it against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScore:
    """One stage of one analysis."""

    case: str
    cluster: str
    agent: AgentName
    upstream: Upstream
    score: float
    failure: str | None
    """Why there is no answer: its own failure, or that of a stage before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisTime:
    """How long one analysis took."""

    case: str
    order: Pipeline
    seconds: float
    """From the message to the review, or to the failure."""
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineMeasure:
    """What was measured of a pipeline."""

    scores: tuple[StageScore, ...]
    times: tuple[AnalysisTime, ...]

    def quality(self) -> dict[tuple[AgentName, Upstream], MeanInterval]:
        """Mean score with its interval, by stage and by what it read."""
        return {
            key: mean_interval(
                [[one.score] for one in group], clusters=[one.cluster for one in group]
            )
            for key, group in self._groups().items()
        }

    def compare(self, agent: AgentName, ours: Upstream, theirs: Upstream) -> Paired | None:
        """The same stage on other upstream, case by case; None where one was not measured.

        ``("report_writer", "sequential", "true")`` is what the errors before the report cost it;
        ``("pathologist", "parallel", "sequential")`` is what it costs not to wait for the findings.
        """
        groups = self._groups()
        mine = {one.case: one for one in groups.get((agent, ours), ())}
        other = {one.case: one for one in groups.get((agent, theirs), ())}
        shared = [case for case in mine if case in other]
        if not shared:
            return None
        return paired_comparison(
            [mine[case].score for case in shared],
            [other[case].score for case in shared],
            clusters=[mine[case].cluster for case in shared],
        )

    def _groups(self) -> dict[tuple[AgentName, Upstream], list[StageScore]]:
        groups: dict[tuple[AgentName, Upstream], list[StageScore]] = {}
        for one in self.scores:
            groups.setdefault((one.agent, one.upstream), []).append(one)
        return groups


async def measure_pipeline(
    cases: Sequence[PipelineCase],
    ask: Ask,
    *,
    orders: Sequence[Pipeline] = ("sequential",),
    true_upstream: bool = True,
    on_case: Callable[[PipelineCase], None] = lambda _: None,
) -> PipelineMeasure:
    """Run analyses and score their stages.

    Args:
        cases: the analyses, with their truth.
        ask: puts a question to an agent, e.g. `soma_bench.routing.router.Router.ask`.
        orders: in which orders to run each of them.
        true_upstream: whether to ask Pathologist and ReportWriter on the truth as well.
        on_case: told of every case as it ends.

    Raises:
        PrivacyError: the routing sends an agent where its privacy level forbids.
    """
    scores: list[StageScore] = []
    times: list[AnalysisTime] = []
    for case in cases:
        for order in orders:
            outputs, failure, seconds = await _run(case, ask, order)
            scores += _scores(case, order, outputs, failure, SCORED)
            times.append(
                AnalysisTime(case=case.id, order=order, seconds=seconds, finished=failure is None)
            )
        if true_upstream:
            for agent, inputs in _true_inputs(case).items():
                outputs, failure = await _ask_once(ask, agent, inputs)
                scores += _scores(case, "true", outputs, failure, (agent,))
        on_case(case)
    return PipelineMeasure(scores=tuple(scores), times=tuple(times))


async def _run(
    case: PipelineCase, ask: Ask, order: Pipeline
) -> tuple[dict[AgentName, Any], str | None, float]:
    """What each stage said that came to say something, why the analysis ended, and its time."""
    outputs: dict[AgentName, Any] = {}

    def keep(event: Event) -> None:
        # A report that was written anew takes the place of its first draft.
        if isinstance(event, StageEnded):
            outputs[event.result.agent] = event.result.output

    started = time.perf_counter()
    failure = None
    try:
        await analyse(case.input, ask, order=order, on_event=keep)
    except AnswerError as error:
        failure = str(error)
    return outputs, failure, time.perf_counter() - started


async def _ask_once(
    ask: Ask, agent: AgentName, inputs: BaseModel
) -> tuple[dict[AgentName, Any], str | None]:
    try:
        routed = await ask(agent, inputs, CallContext())
    except AnswerError as error:
        return {}, str(error)
    return {agent: routed.output}, None


def _true_inputs(case: PipelineCase) -> dict[AgentName, BaseModel]:
    """What the stages after the first would read if all before them were right."""
    analysis, truth = case.input, case.reference
    context = f"{analysis.context.indication} {analysis.imaging.clinical_context}".strip()
    return {
        "pathologist": PathologistInput(findings=truth.findings, context=context),
        "report_writer": ReportWriterInput(
            findings=truth.findings,
            diagnosis=truth.diagnosis,
            patient=analysis.patient,
            context=analysis.context,
        ),
    }


def _scores(
    case: PipelineCase,
    upstream: Upstream,
    outputs: Mapping[AgentName, Any],
    failure: str | None,
    agents: Sequence[AgentName],
) -> list[StageScore]:
    found = []
    for agent in agents:
        reference = getattr(case.reference, agent)
        if reference is None:
            continue
        answered = agent in outputs
        score = SCORER_BY_AGENT[agent].score(outputs[agent], reference).primary if answered else 0.0
        found.append(
            StageScore(
                case=case.id,
                cluster=case.cluster or case.id,
                agent=agent,
                upstream=upstream,
                score=score,
                failure=None if answered else failure,
            )
        )
    return found
