"""Runs a graph of stages: whatever can run runs, within the deadline and the machines there are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from pydantic import BaseModel, ValidationError

from soma_bench.errors import AnswerError, PrivacyError, ProviderError
from soma_bench.files import first_problem
from soma_bench.pipeline.analysis import (
    Analysis,
    AnalysisResult,
    Draft,
    Outputs,
    Results,
    StageResult,
)
from soma_bench.pipeline.deadline import Weights, budget_s
from soma_bench.pipeline.events import (
    Event,
    RewriteFailed,
    RewriteStarted,
    StageEnded,
    StageFailed,
    StageFellBack,
    StageStarted,
)
from soma_bench.pipeline.graph import GRAPHS, Stage, rewrite_graph
from soma_bench.pipeline.machines import Machines
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.context import CallContext, Need, strictest
from soma_bench.routing.routed import Routed
from soma_bench.telemetry import error_type, pipeline_span, stage_span
from soma_bench.types import AgentName

_GRACE_S = 0.1
"""A stage that passes the deadline may still say itself what it tried; then it is cut off."""

_log = logging.getLogger(__name__)


class Ask(Protocol):
    """Puts an agent's question to wherever it is routed, e.g. `soma_bench.routing.router.Router.ask`."""

    def __call__(
        self, agent: AgentName, inputs: BaseModel, context: CallContext, /
    ) -> Awaitable[Routed]:
        """The agent's typed answer about ``inputs``."""


async def analyse(
    analysis: Analysis,
    ask: Ask,
    *,
    order: Pipeline = "sequential",
    deadline_s: float | None = None,
    weights: Weights | None = None,
    machines: Machines | None = None,
    need: Need = "interactive",
    on_event: Callable[[Event], None] = lambda _: None,
) -> AnalysisResult:
    """Run the five agents; a report whose review finds a critical issue is written anew once.

    Cancelling the task cancels every stage that runs, and with it the calls of its models.

    Args:
        analysis: what to analyse.
        ask: puts a question to an agent, e.g. `soma_bench.routing.router.Router.ask`.
        order: whether Radiologist and Pathologist run one after the other or side by side.
        deadline_s: seconds for the whole analysis; None for no deadline.
        weights: how the deadline is shared out, see `soma_bench.pipeline.deadline.stage_weights`;
            evenly by default.
        machines: who shares an accelerator with whom; by default nobody does.
        need: whether someone waits for the report.
        on_event: told of the progress as it happens.

    Raises:
        AnswerError: a stage got no usable answer, or the deadline has passed; there is no report.
        PrivacyError: a stage has no target that its data may go to.
    """
    run = Run(
        analysis=analysis,
        ask=ask,
        machines=machines,
        weights=weights or {},
        need=need,
        on_event=on_event,
    )
    with pipeline_span("analysis"):
        async with run.within(deadline_s):
            await run.stages(GRAPHS[order])
        return await run.reviewed()


@dataclass(kw_only=True)
class Run:
    """One case on its way through a graph of stages."""

    analysis: Analysis
    ask: Ask
    machines: Machines | None
    weights: Weights
    need: Need
    on_event: Callable[[Event], None]
    ended: list[StageResult] = field(default_factory=list)
    """The stages that have ended, those of earlier runs of the case first."""
    drafts: tuple[Draft, ...] = ()
    """Drafts of earlier runs of the case."""
    _deadline: float | None = field(default=None, init=False)
    _running: dict[AgentName, int] = field(default_factory=dict, init=False)

    @property
    def results(self) -> Results:
        """Each agent's latest answer."""
        return {stage.agent: stage for stage in self.ended}

    @asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Hold what happens inside, and the rewriting after it, to a deadline that begins now.

        Raises:
            AnswerError: it has passed.
        """
        if seconds is not None:
            self._deadline = asyncio.get_running_loop().time() + seconds
        async with self.until_deadline():
            yield

    @asynccontextmanager
    async def until_deadline(self) -> AsyncIterator[None]:
        """Hold what happens inside to the deadline that `within` has begun.

        Raises:
            AnswerError: it has passed.
        """
        at = None if self._deadline is None else self._deadline + _GRACE_S
        try:
            async with asyncio.timeout_at(at) as timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            late = ", ".join(sorted(self._running)) or "its stages"
            raise AnswerError(
                f"the pipeline's deadline passed before {late} had an answer; allow more time, or"
                " route the slow stages to faster targets"
            ) from error

    async def stages(self, stages: Sequence[Stage]) -> None:
        """Run ``stages``, each as soon as those that it waits for have ended.

        Raises:
            AnswerError: a stage got no usable answer; the others are cancelled.
            PrivacyError: a stage has no target that its data may go to.
        """
        done = {stage.agent: asyncio.Event() for stage in stages}

        async def start(stage: Stage) -> None:
            for agent in stage.waits_for(stages):
                await done[agent].wait()
            await self.stage(stage, stages)
            done[stage.agent].set()

        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for stage in stages:
                    group.create_task(start(stage), name=stage.agent)
        except ExceptionGroup as failures:
            # The first stage that failed has cancelled the others; its own error is what happened.
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure

    async def reviewed(self, *, rewrite: bool = True) -> AnalysisResult:
        """The result, after one rewriting where the review found a critical issue.

        A rewriting that fails leaves the draft as it is, with its critical issues and the reason.

        Args:
            rewrite: whether critical issues send the report back at all.
        """
        self._keep_draft()
        critical = self.drafts[-1].review.critical
        why: str | None = None
        unused: tuple[StageResult, ...] = ()
        if critical and rewrite:
            self.on_event(RewriteStarted(critical=len(critical)))
            reviewed = len(self.ended)
            try:
                async with self.until_deadline():
                    await self.stages(rewrite_graph())
                self._keep_draft()
            except (AnswerError, PrivacyError, ProviderError) as error:
                why = str(error)
                unused = tuple(self.ended[reviewed:])
                del self.ended[reviewed:]
                _log.info("rewriting a report failed: %s", error_type(error))
                self.on_event(RewriteFailed(why=why))
        return AnalysisResult(
            drafts=self.drafts, stages=tuple(self.ended), unused=unused, rewrite_error=why
        )

    def _keep_draft(self) -> None:
        outputs = Outputs(self.results)
        self.drafts = (*self.drafts, Draft(report=outputs.report, review=outputs.review))

    async def stage(self, stage: Stage, stages: Sequence[Stage]) -> None:
        """Run one stage, whose answer is then the agent's latest.

        Args:
            stage: what to run; the answers that it reads are there.
            stages: what it is part of, which the deadline is shared out over.

        Raises:
            AnswerError: it got no usable answer, or what it reads is no input for it.
            PrivacyError: it has no target that its data may go to.
        """
        agent = stage.agent
        privacy = strictest(
            [self.analysis.privacy, *(self.results[read].privacy for read in stage.reads)]
        )
        try:
            inputs = stage.build(self.analysis, Outputs(self.results))
        except ValidationError as error:
            raise AnswerError(
                f"{agent}: what it should read cannot be its input: {first_problem(error)}"
            ) from error
        number = 1 + sum(ended.agent == agent for ended in self.ended)
        self._running[agent] = number
        context = CallContext(
            privacy=privacy,
            identifiers=self.analysis.identifiers,
            need=self.need,
            prior_studies=int(self.analysis.context.comparison is not None),
        )
        async with self._place(agent, inputs, context) as queued_s:
            # The clock of the stage starts here: waiting for the machine is not its own time.
            context = replace(context, deadline=self._stage_deadline(agent, stages))
            self.on_event(StageStarted(agent=agent, round=number, queued_s=queued_s))
            started = time.perf_counter()
            with stage_span(agent) as span:
                span.set("soma_bench.queue_s", queued_s)
                span.set("soma_bench.round", number)
                try:
                    routed = await self.ask(agent, inputs, context)
                except Exception as error:
                    kind = error_type(error)
                    _log.info("stage %s failed: %s", agent, kind)
                    self.on_event(StageFailed(agent=agent, round=number, kind=kind))
                    raise
                span.set("soma_bench.target", str(routed.target))
                span.set("soma_bench.fallback", routed.fallback_used)
            seconds = time.perf_counter() - started
        del self._running[agent]
        self._end(StageResult(routed=routed, round=number, queued_s=queued_s, seconds=seconds))

    def _place(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> AbstractAsyncContextManager[float]:
        if self.machines is None:
            return nullcontext(0.0)
        return self.machines.place(agent, inputs, context)

    def _stage_deadline(self, agent: AgentName, stages: Sequence[Stage]) -> float | None:
        if self._deadline is None:
            return None
        now = asyncio.get_running_loop().time()
        return now + budget_s(self._deadline - now, agent, stages, self.weights)

    def _end(self, result: StageResult) -> None:
        self.ended.append(result)
        _log.info(
            "stage %s (round %d) ended on %s in %.2f s after %.2f s in the queue",
            result.agent,
            result.round,
            result.target,
            result.seconds,
            result.queued_s,
        )
        if result.fallback_used:
            self.on_event(
                StageFellBack(
                    agent=result.agent, target=result.target, passed_over=result.passed_over
                )
            )
        self.on_event(StageEnded(result=result))
