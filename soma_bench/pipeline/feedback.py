"""A doctor's message on a finished report: Alignment reads it, and the agent it concerns acts on it.

    QUESTION   nothing changes; what the agent concerned has said is given back
    INFO       the message is kept with the case; Pathologist, ReportWriter and QCReviewer work anew
    REVISION   the agent concerned revises its answer, and all that read it work anew
    APPROVAL   the report is approved; nothing else changes
    UNCLEAR    nothing changes; the doctor is asked back

A report that was revised keeps what nobody wanted changed: its writer is given the draft. Critical
issues that the review finds afterwards send it back once, except where the doctor asked the
ReportWriter: what a doctor wants in a report is not undone by a review, which stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from soma_bench.agents.alignment import AlignmentInput, AlignmentOutput
from soma_bench.agents.pathologist import render_finding
from soma_bench.errors import ConfigError, SessionError
from soma_bench.files import first_problem
from soma_bench.pipeline.analysis import Analysis, AnalysisResult, Outputs
from soma_bench.pipeline.deadline import Weights
from soma_bench.pipeline.events import Event
from soma_bench.pipeline.executor import Ask, Run
from soma_bench.pipeline.graph import GRAPHS, Stage, addition_graph, revision_graph
from soma_bench.pipeline.machines import Machines
from soma_bench.pipeline.sessions import Session, Snapshot, State
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.context import Need
from soma_bench.telemetry import pipeline_span
from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What became of a doctor's message."""

    intent: AlignmentOutput
    """How Alignment understood it."""
    state: State
    """The session's state afterwards."""
    redone: tuple[AgentName, ...]
    """Who answered anew, in order; empty where the report did not change."""
    result: AnalysisResult
    """The report as it stands afterwards."""
    reply: str
    """What to tell the doctor: an answer, a question, or what was done."""


async def revise(
    session: Session,
    message: str,
    ask: Ask,
    *,
    intent: AlignmentOutput | None = None,
    deadline_s: float | None = None,
    weights: Weights | None = None,
    machines: Machines | None = None,
    need: Need = "interactive",
    on_event: Callable[[Event], None] = lambda _: None,
) -> Feedback:
    """Do what a doctor's message on a finished report asks for.

    ``intent`` is what the message is known to want already; Alignment is asked where it is None.
    Takes, besides it and session and message, what `soma_bench.pipeline.analyse` takes. A revision that
    fails or is cancelled leaves the report as it was, as a draft.

    Raises:
        ConfigError: the message is empty or too long, or the case has no room for it.
        SessionError: the session has no finished report, is completed, or changed meanwhile.
        AnswerError: an agent gave no usable answer.
        PrivacyError: a stage has no target that its data may go to.
    """
    seen = session.now
    if seen.state not in ("draft_ready", "approved") or seen.result is None:
        raise SessionError(
            f"session {session.id}: is {seen.state}; a message is taken where the report is"
            " draft_ready or approved"
        )
    try:
        question = AlignmentInput(message=message)
    except ValidationError as error:
        raise ConfigError(f"the doctor's message: {first_problem(error)}") from error
    run = Run(
        analysis=seen.analysis,
        ask=ask,
        machines=machines,
        weights=weights or {},
        need=need,
        on_event=on_event,
        ended=list(seen.result.stages),
        drafts=seen.result.drafts,
    )
    with pipeline_span("feedback"):
        async with run.within(deadline_s):
            if intent is None:
                reading = Stage(agent="alignment", build=lambda *_: question)
                await run.stage(reading, GRAPHS[session.order])
                intent = Outputs(run.results).alignment
        graph = _graph(session.order, intent, message)
        if not graph:
            state: State = seen.state
            if intent.intent == "APPROVAL" and state == "draft_ready":
                state = session.move("approved", since=seen).state
            reply = _reply(intent, seen.result)
            return Feedback(intent=intent, state=state, redone=(), result=seen.result, reply=reply)
        if intent.intent == "INFO":
            run.analysis = _with_note(seen.analysis, message)
        return await _redo(session, seen, run, graph, intent)


async def _redo(
    session: Session, seen: Snapshot, run: Run, graph: tuple[Stage, ...], intent: AlignmentOutput
) -> Feedback:
    begun = session.move("revising", since=seen)
    before = len(run.ended)
    try:
        async with run.until_deadline():
            await run.stages(graph)
        result = await run.reviewed(rewrite=intent.handler != "report_writer")
    except BaseException:  # cancellation too
        session.move("draft_ready", since=begun)
        raise
    session.move("draft_ready", since=begun, analysis=run.analysis, result=result)
    redone = tuple(stage.agent for stage in result.stages[before:])
    return Feedback(
        intent=intent,
        state="draft_ready",
        redone=redone,
        result=result,
        reply=f"Answered anew: {', '.join(redone)}. Please read the report again.",
    )


def _graph(order: Pipeline, intent: AlignmentOutput, message: str) -> tuple[Stage, ...]:
    """The stages that a message sets to work; none where the report does not change."""
    if intent.intent == "INFO":
        return addition_graph(order, message)
    if intent.intent == "REVISION" and intent.handler != "self":
        return revision_graph(order, intent.handler, message)
    return ()


def _with_note(analysis: Analysis, note: str) -> Analysis:
    content = {name: getattr(analysis, name) for name in type(analysis).model_fields}
    try:
        return Analysis(**{**content, "notes": (*analysis.notes, note)})
    except ValidationError as error:
        raise ConfigError(f"the case takes no further facts: {first_problem(error)}") from error


def _reply(intent: AlignmentOutput, result: AnalysisResult) -> str:
    """What to say where the report does not change; made from what the agents have said."""
    if intent.intent == "APPROVAL":
        return "The report is approved."
    if intent.intent != "QUESTION":
        return "What should be changed in the report? Please name the finding or the section."
    match intent.handler:
        case "radiologist":
            findings = map(render_finding, result.radiologist.findings)
            return "\n".join(findings) or "Nothing abnormal was found."
        case "pathologist":
            primary = result.pathologist.primary
            others = ", ".join(other.name for other in result.pathologist.differentials)
            return (
                f"{primary.name} ({primary.icd10}), confidence {primary.confidence} %:"
                f" {primary.reasoning}" + (f" Also possible: {others}." if others else "")
            )
        case "report_writer":
            sections = result.report.sections
            return sections.get("Impression") or result.report.markdown
        case _:
            review = result.review
            issues = [f"{issue.severity}: {issue.description}" for issue in review.issues]
            return "\n".join([f"The review: {review.verdict}, {review.score} of 100.", *issues])
