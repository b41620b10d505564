"""A doctor's message on a report: answered by the agent that it concerns, or acted on.

    question, info   the agent addressed, else the one that Alignment names, answers as it writes
    revision         the agent addressed, else the one that Alignment names, revises its answer, and
                     all that read it work anew; the report comes whole at the end

The ReportWriter addressed without a mode revises: whoever talks to it wants another report.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Literal, cast

from soma_bench.agents.alignment import AlignmentInput, AlignmentOutput, Intent
from soma_bench.agents.conversation import ConversationInput, Exchange
from soma_bench.errors import ConfigError
from soma_bench.pipeline import AnalysisResult, Feedback, revise
from soma_bench.pipeline.events import Event
from soma_bench.routing.context import CallContext, strictest
from soma_bench.routing.routed import Restarted, Routed
from soma_bench.service.bodies import ChatBody, FeedbackAnswer, FeedbackBody
from soma_bench.service.core import Course, Service
from soma_bench.service.progress import TITLES, Progress
from soma_bench.service.reports import changes, shown_report
from soma_bench.service.sessions import Conversation
from soma_bench.service.streams import Emit
from soma_bench.types import AgentName, PrivacyLevel

NO_REPORT = 'Please generate a report first by clicking "Analyse" before asking questions.'
_UNCLEAR = "What should be changed or answered? Please name the finding or the section."
_RESTARTED = "\n\n(The answer broke off and begins anew.)\n\n"
_ANSWERERS: tuple[AgentName, ...] = ("radiologist", "pathologist", "report_writer", "qc_reviewer")
_ANSWER_CHARACTERS = 4000


def conversation_of(service: Service, session_id: str | None) -> Conversation:
    """The client's session; a new one where it has none, or one that has expired.

    Raises:
        RequestError: there is no room for it.
    """
    found = service.sessions.find(session_id)
    return found if found is not None else service.sessions.add(Conversation())


async def chat(service: Service, conversation: Conversation, body: ChatBody, emit: Emit) -> None:
    """Answer a message or act on it, and tell the client as it happens.

    Raises:
        AnswerError: an agent gave no usable answer.
        PrivacyError: an agent has no target that the data may go to.
        SessionError: the report is being written or revised just now.
    """
    target = None if body.targetAgent in (None, "auto") else cast(AgentName, body.targetAgent)
    mode = body.mode or "auto"
    if target is not None:
        emit(
            {
                "type": "intent",
                "intent": "DIRECT_AGENT",
                "confidence": 1.0,
                "targetAgent": target,
                "agent": TITLES[target],
            }
        )
    elif mode != "auto":
        emit({"type": "intent", "intent": mode.upper(), "confidence": 1.0})
    result = conversation.result
    if result is None:
        if target is None and mode == "auto":
            emit({"type": "intent", "intent": "UNCLEAR", "confidence": 0.0})
        emit({"type": "chunk", "text": NO_REPORT})
        return
    async with service.course() as course:
        if target is not None:
            revises = mode == "revision" or (mode == "auto" and target == "report_writer")
            intent = _given("REVISION" if revises else "QUESTION", target)
        elif mode != "auto":
            intent = _given(cast(Intent, mode.upper()), "report_writer")
        else:
            intent = await _read(course, conversation, body.message)
            confidence = intent.confidence / 100
            emit({"type": "intent", "intent": intent.intent, "confidence": confidence})
        match intent.intent:
            case "QUESTION" | "INFO":
                await _answer(course, conversation, result, intent, body.message, emit)
            case "REVISION":
                await _revise(course, conversation, result, intent, body.message, emit)
            case _:
                quiet = Progress(lambda _: None)
                done = await _act(course, conversation, body.message, intent, quiet)
                said = done.reply if intent.intent == "APPROVAL" else _UNCLEAR
                emit({"type": "chunk", "text": said})


async def feedback(
    service: Service, conversation: Conversation, body: FeedbackBody
) -> FeedbackAnswer:
    """Do what a message asks for, and say in one answer what became of it.

    Raises:
        AnswerError: an agent gave no usable answer.
        PrivacyError: an agent has no target that the data may go to.
        SessionError: the report is being written or revised just now.
    """
    before = conversation.result
    if before is None:
        return FeedbackAnswer(
            reply=NO_REPORT, updatedReport=None, changes=[], sessionId=conversation.id
        )
    async with service.course() as course:
        done = await _act(course, conversation, body.userMessage, None, Progress(lambda _: None))
    return FeedbackAnswer(
        reply=done.reply,
        updatedReport=shown_report(conversation) if done.redone else None,
        changes=changes(before.report, done.result.report) if done.redone else [],
        sessionId=conversation.id,
    )


def _given(intent: Intent, handler: AgentName) -> AlignmentOutput:
    """What a message wants where the client says so."""
    return AlignmentOutput(
        intent=intent,
        handler=cast(
            Literal["radiologist", "pathologist", "report_writer", "qc_reviewer"], handler
        ),
        asked="",
        confidence=100,
    )


async def _read(course: Course, conversation: Conversation, message: str) -> AlignmentOutput:
    """What a message wants, by Alignment."""
    inputs = AlignmentInput(message=message)
    context = _context(conversation)
    async with course.machines.place("alignment", inputs, context):
        started = time.perf_counter()
        routed = await course.ask(None)("alignment", inputs, context)
        course.metrics.routed(routed, time.perf_counter() - started)
    intent = cast(AlignmentOutput, routed.output)
    if intent.intent == "REVISION" and intent.handler == "self":
        # Someone has to act on it; what concerns no other agent concerns the text.
        return intent.model_copy(update={"handler": "report_writer"})
    return intent


async def _answer(
    course: Course,
    conversation: Conversation,
    result: AnalysisResult,
    intent: AlignmentOutput,
    message: str,
    emit: Emit,
) -> None:
    agent: AgentName = "report_writer"
    if intent.handler in _ANSWERERS:
        agent = cast(AgentName, intent.handler)
    inputs = ConversationInput(
        message=message,
        report=result.report.markdown,
        findings=result.radiologist.findings,
        diagnosis=result.pathologist,
        earlier=tuple(conversation.said),
    )
    context = _context(conversation, *(stage.privacy for stage in result.stages))
    said = False
    started = time.perf_counter()
    async with aclosing(course.talk(agent, inputs, context)) as events:
        async for event in events:
            match event:
                case str(text):
                    emit({"type": "chunk", "text": text})
                    said = True
                case Restarted(target=target):
                    emit({"type": "status", "message": f"Asking {target} instead"})
                    if said:
                        emit({"type": "chunk", "text": _RESTARTED})
                case Routed() as routed:
                    course.metrics.routed(routed, time.perf_counter() - started)
                    answer = routed.output.text[:_ANSWER_CHARACTERS]
                    conversation.said.append(Exchange(question=message, answer=answer))


async def _revise(
    course: Course,
    conversation: Conversation,
    result: AnalysisResult,
    intent: AlignmentOutput,
    message: str,
    emit: Emit,
) -> None:
    emit({"type": "status", "message": f"{TITLES[cast(AgentName, intent.handler)]} is revising"})
    progress = Progress(emit, partial=True)
    done = await _act(course, conversation, message, intent, progress)
    changed = changes(result.report, done.result.report)
    what = f"Changed: {', '.join(changed)}." if changed else "The report stayed as it was."
    emit({"type": "chunk", "text": f"{done.reply} {what}"})
    emit(
        {
            "type": "revision_complete",
            "updatedReport": shown_report(conversation),
            "changes": changed,
        }
    )


async def _act(
    course: Course,
    conversation: Conversation,
    message: str,
    intent: AlignmentOutput | None,
    progress: Progress,
) -> Feedback:
    session = conversation.session
    if session is None:
        raise ConfigError("there is no case to act on")

    def on_event(event: Event) -> None:
        course.metrics.stage(event)
        progress(event)

    return await revise(
        session,
        message,
        course.ask(conversation.picture),
        intent=intent,
        deadline_s=course.deadline_s,
        weights=course.weights,
        machines=course.machines,
        on_event=on_event,
    )


def _context(conversation: Conversation, *levels: PrivacyLevel | None) -> CallContext:
    """The circumstances of a call about a case: its identifiers and its data's level."""
    session = conversation.session
    assert session is not None
    analysis = session.now.analysis
    return CallContext(
        privacy=strictest([analysis.privacy, *levels]),
        identifiers=analysis.identifiers,
    )
