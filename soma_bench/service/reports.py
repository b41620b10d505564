"""A whole analysis for a client, and what its report says to it."""

from __future__ import annotations

import time
from functools import partial

from soma_bench.agents.report_writer import ReportWriterOutput
from soma_bench.pipeline import AnalysisResult, Session
from soma_bench.pipeline.events import Event
from soma_bench.service.bodies import ReportAnswer, ReportMetadata
from soma_bench.service.core import Service
from soma_bench.service.failures import RequestError
from soma_bench.service.intake import Intake, order_of
from soma_bench.service.pictures import read_picture
from soma_bench.service.progress import COMPLETE, Progress
from soma_bench.service.sessions import Conversation
from soma_bench.service.streams import Emit

MESSAGE = "Medical report generated successfully"
_UNSEEN = (
    "> **Limitation:** no model looked at the image, and no region was measured. This report says"
    " nothing about the image. Route the Radiologist to a model that sees, or send measured masks."
)


def open_case(service: Service, intake: Intake) -> Conversation:
    """A session for a case.

    Raises:
        RequestError: there is no room for it.
    """
    return service.sessions.add(Conversation(Session(intake.analysis), intake.file))


async def _look(service: Service, conversation: Conversation) -> None:
    """Read the picture of a case, where that keeps no answer waiting.

    Raises:
        RequestError: it is broken or too large.
    """
    file = conversation.file
    assert file is not None, "a case was opened"
    try:
        conversation.see(await service.workroom.beside(partial(read_picture, file)))
    except RequestError:
        conversation.see_nothing()
        raise


async def analyse(service: Service, conversation: Conversation, emit: Emit) -> AnalysisResult:
    """Run a session's first analysis and tell the client of its progress.

    Raises:
        AnswerError: there is no report.
        PrivacyError: a stage has no target that its data may go to.
        SessionError: it was analysed already.
    """
    session = conversation.session
    assert session is not None, "a case was opened"
    progress = Progress(emit)

    def on_event(event: Event) -> None:
        service.metrics.stage(event)
        progress(event)

    async with service.course() as course:
        session.order = order_of(session.now.analysis, course.profile.pipeline)
        result = await session.analyse(
            course.ask(conversation.picture),
            deadline_s=course.deadline_s,
            weights=course.weights,
            machines=course.machines,
            on_event=on_event,
        )
    if _unseen(session.now.analysis.imaging.regions, result):
        progress.log(
            "radiologist", "No model looked at the image, and no mask is measured", "warning"
        )
    progress.step(COMPLETE)
    return result


async def analyse_streaming(service: Service, conversation: Conversation, emit: Emit) -> None:
    """The same for a stream, which ends with the report; the picture is read before.

    Raises:
        RequestError: the picture is broken or too large.
        AnswerError: there is no report.
        PrivacyError: a stage has no target that its data may go to.
    """
    await _look(service, conversation)
    result = await analyse(service, conversation, emit)
    emit(
        {
            "type": "complete",
            "report": shown_report(conversation),
            "qcScore": result.review.score,
        }
    )


async def analyse_whole(service: Service, conversation: Conversation) -> ReportAnswer:
    """The same in one answer.

    Raises:
        RequestError: the picture is broken or too large.
        AnswerError: there is no report.
        PrivacyError: a stage has no target that its data may go to.
    """
    await _look(service, conversation)
    started = time.perf_counter()
    result = await analyse(service, conversation, lambda _: None)
    return ReportAnswer(
        message=MESSAGE,
        report=shown_report(conversation),
        sessionId=conversation.id,
        metadata=ReportMetadata(
            generationTime=round((time.perf_counter() - started) * 1000),
            qcScore=result.review.score,
            qcPassed=result.review.verdict == "pass" and not result.review.critical,
        ),
    )


def shown_report(conversation: Conversation) -> str:
    """The latest report as the client gets it: with a limitation where nobody saw the picture."""
    session, result = conversation.session, conversation.result
    assert session is not None
    assert result is not None, "there is a report"
    text = result.report.markdown
    if _unseen(session.now.analysis.imaging.regions, result):
        return f"{_UNSEEN}\n\n{text}"
    return text


def changes(before: ReportWriterOutput, after: ReportWriterOutput) -> list[str]:
    """What a revision changed, section by section."""
    found = []
    for heading in dict.fromkeys((*before.sections, *after.sections)):
        old, new = before.sections.get(heading), after.sections.get(heading)
        if old != new:
            what = "added" if old is None else "removed" if new is None else "changed"
            found.append(f"{heading}: {what}")
    if not found and before.markdown != after.markdown:
        found.append("Text outside of the sections: changed")
    return found


def _unseen(regions: tuple[object, ...], result: AnalysisResult) -> bool:
    """Whether the report stands on nothing: no region, and a Radiologist that was shown no picture."""
    return not regions and not result.latest["radiologist"].routed.saw_images
