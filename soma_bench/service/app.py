"""The API: its routes, once under ``/api`` and once at the root, and how its errors look."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from soma_bench import __version__
from soma_bench.errors import SessionError, SomaError
from soma_bench.service import metrics, reports, talk
from soma_bench.service.access import CLIENT_LEFT, Door
from soma_bench.service.bodies import (
    ChatBody,
    ErrorAnswer,
    FeedbackAnswer,
    FeedbackBody,
    HealthAnswer,
    MessageAnswer,
    ReportAnswer,
    ReportBody,
    SessionAnswer,
    TargetHealth,
)
from soma_bench.service.core import Service
from soma_bench.service.failures import SESSION_CLOSED, RequestError, told
from soma_bench.service.intake import read_request
from soma_bench.service.reading import JsonRoute
from soma_bench.service.rush import waits_no_more
from soma_bench.service.sessions import Conversation
from soma_bench.service.streams import EventStream, Work

_Responses = dict[int | str, dict[str, Any]]
_T = TypeVar("_T")

_ERRORS: Mapping[int, str] = {
    400: "Something is missing or broken",
    401: "The bearer token is missing or wrong",
    404: "There is no such session",
    408: "The request did not come whole in time",
    409: "The report is being worked on",
    413: "The request is too long",
    415: "The request is not JSON",
    421: "The service is open to this machine only",
    422: "A field has a value that it cannot have",
    500: "A model failed, or none may be asked",
    503: "The service is stopping, or all sessions are busy",
}
_REPORT_EVENTS = ("session", "progress", "log", "complete", "error", "done")
_TALK_EVENTS = (
    *("session", "intent", "chunk", "status", "progress", "log", "revision_complete"),
    *("error", "done"),
)
_TEXT: _Responses = {
    200: {
        "description": "Figures in Prometheus's text form",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
_REQUIRED = {
    "medical_report_init": "final_image",
    "medical_report_stream": "final_image",
    "chat_stream": "message",
    "medical_report_rein": "userMessage",
}
"""What a request cannot do without, by the last part of its path."""
_SessionId = Annotated[str, Path(max_length=128)]


def create_api(service: Service) -> FastAPI:
    """The API of a service, with its OpenAPI description at ``/openapi.json``; without a door."""
    app = FastAPI(
        title="SOMA reports",
        version=__version__,
        description="A routing profile behind the API that SOMA's front end speaks.",
        # Their pages would be loaded from elsewhere.
        docs_url=None,
        redoc_url=None,
        # Its own would record paths, and messages of errors that may quote a body.
        telemetry=_NO_TELEMETRY,
    )
    app.include_router(_routes(service))
    app.include_router(_routes(service), prefix="/api")
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(WorkError, _work_failed)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def with_door(api: ASGIApp, service: Service) -> ASGIApp:
    """The API as clients may come to it."""
    settings = service.settings
    door = Door(api, settings=settings, jobs=service.jobs, metrics=service.metrics)
    if not settings.cors_origins:
        return door
    # Around the door, so that a page may read why it was refused.
    return CORSMiddleware(
        door,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type"],
        allow_credentials=True,
    )


def _routes(service: Service) -> APIRouter:
    router = APIRouter(route_class=JsonRoute)
    _add_reports(router, service)
    _add_talk(router, service)
    _add_sessions(router, service)
    _add_state(router, service)
    return router


def _stream(service: Service, work: Work, conversation: Conversation) -> EventStream:
    """What a conversation's work tells, as it tells it."""
    return EventStream(
        work,
        first={"type": "session", "sessionId": conversation.id},
        session_id=conversation.id,
        jobs=service.jobs,
        rush=service.rush,
        workroom=service.workroom,
        heartbeat_s=service.settings.heartbeat_s,
    )


def _add_reports(router: APIRouter, service: Service) -> None:
    """Reports on a picture."""

    @router.post("/medical_report_init", responses=_errors(400, 413, 415, 422, 500, 503))
    async def medical_report_init(body: ReportBody, request: Request) -> ReportAnswer:
        """A report in one answer."""
        conversation = reports.open_case(service, read_request(body))
        work = reports.analyse_whole(service, conversation)
        return await _while_connected(
            service, request, conversation, work, failed="Report generation failed"
        )

    @router.post(
        "/medical_report_stream",
        response_class=Response,
        responses={**_events(_REPORT_EVENTS), **_errors(400, 413, 415, 422, 503)},
    )
    async def medical_report_stream(body: ReportBody) -> EventStream:
        """A report, with its progress as server-sent events."""
        conversation = reports.open_case(service, read_request(body))
        return _stream(
            service, partial(reports.analyse_streaming, service, conversation), conversation
        )


def _add_talk(router: APIRouter, service: Service) -> None:
    """Messages on a report."""

    @router.post(
        "/chat_stream",
        response_class=Response,
        responses={**_events(_TALK_EVENTS), **_errors(400, 413, 415, 422, 503)},
    )
    async def chat_stream(body: ChatBody) -> EventStream:
        """An answer to a doctor's message, or what became of it, as server-sent events."""
        conversation = talk.conversation_of(service, body.sessionId)

        async def work(emit: Any) -> None:
            await talk.chat(service, conversation, body, emit)

        return _stream(service, work, conversation)

    @router.post("/medical_report_rein", responses=_errors(400, 409, 413, 415, 422, 500, 503))
    async def medical_report_rein(body: FeedbackBody, request: Request) -> FeedbackAnswer:
        """What became of a doctor's message on a report."""
        conversation = talk.conversation_of(service, body.sessionId)
        work = talk.feedback(service, conversation, body)
        return await _while_connected(
            service, request, conversation, work, failed="Failed to process feedback"
        )


def _add_sessions(router: APIRouter, service: Service) -> None:
    """Sessions, by their ids."""

    @router.get("/session/{session_id}", responses=_errors(404, 422))
    async def session(session_id: _SessionId) -> SessionAnswer:
        """Where a session stands."""
        found = service.sessions.find(session_id)
        if found is None:
            raise RequestError("Session not found", status=404)
        return SessionAnswer(
            sessionId=found.id, state=found.state, hasReport=found.result is not None
        )

    @router.delete("/session/{session_id}", responses=_errors(404, 422))
    async def close_session(session_id: _SessionId) -> MessageAnswer:
        """Stop a session's work and forget its patient's data."""
        if not service.sessions.remove(session_id):
            raise RequestError("Session not found", status=404)
        service.jobs.cancel(session_id, SESSION_CLOSED)
        return MessageAnswer(message="Session closed")


def _add_state(router: APIRouter, service: Service) -> None:
    """The state of the service itself."""

    @router.get("/health", responses=_errors())
    async def health() -> HealthAnswer:
        """Whether a report could be made now: every target is asked whether it is there."""
        summary, found = await service.workroom.run(service.health())
        targets = [TargetHealth(target=str(one.target), reason=one.reason) for one in found]
        return HealthAnswer(
            status="degraded" if any(one.reason for one in targets) else "ok",
            activeSessions=len(service.sessions),
            openRequests=len(service.jobs),
            profile=summary.profile,
            digest=summary.digest,
            loadedAt=summary.loaded_at,
            reloadError=summary.reload_error,
            targets=targets,
            timestamp=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    @router.get("/metrics", response_class=Response, responses={**_TEXT, **_errors()})
    async def figures() -> Response:
        """Figures for Prometheus."""
        service.metrics.sessions.set(len(service.sessions))
        service.metrics.open.set(len(service.jobs))
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


async def _while_connected(
    service: Service,
    request: Request,
    conversation: Conversation,
    work: Coroutine[Any, Any, _T],
    *,
    failed: str,
) -> _T:
    """The outcome of some work, which ends when the client leaves.

    Raises:
        RequestError: what was asked is no case, the session was closed, or the service is stopping.
        WorkError: a model failed, or none may be asked.
        ClientDisconnect: nobody waits for the outcome any more.
    """
    job = service.jobs.start(service.workroom.run(work), conversation.id)
    waits_no_more(request.scope)
    gone = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((job.task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not job.task.done():
            raise ClientDisconnect
        outcome: _T = await job.task
    except asyncio.CancelledError:
        if job.reason is None:
            raise
        raise RequestError(job.reason, status=503) from None
    except RequestError:
        raise
    except SessionError as error:
        raise RequestError(str(error), status=409) from error
    except SomaError as error:
        raise WorkError(failed, told(error)) from error
    else:
        return outcome
    finally:
        job.cancel()
        gone.cancel()


class WorkError(SomaError):
    """A model failed, or none may be asked.

    Args:
        message: what failed.
        details: why.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


async def _left(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _events(kinds: tuple[str, ...]) -> _Responses:
    """A stream whose events are JSON of these types, as OpenAPI sees server-sent events."""
    event = {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": list(kinds)}},
        "required": ["type"],
    }
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
    schema = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        200: {
            "description": "Server-sent events, `session` first and `done` last",
            "content": {"text/event-stream": {"schema": schema}},
        }
    }


def _errors(*statuses: int) -> _Responses:
    """The errors that a route may answer with, besides those of the door."""
    return {
        status: {"model": ErrorAnswer, "description": _ERRORS[status]}
        for status in sorted({*statuses, 401, 408, 421})
    }


def _error(status: int, error: str, **more: str) -> JSONResponse:
    return JSONResponse({"error": error, **more}, status_code=status)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    return _error(error.status, str(error))


async def _work_failed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WorkError)
    return _error(500, str(error), details=error.details)


async def _nobody(_: Request, error: Exception) -> Response:  # noqa: ARG001 - their signature
    return Response(status_code=CLIENT_LEFT)


async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    return _error(500, told(error))  # the door writes it down


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = _error(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    place = tuple(found["loc"])
    required = _REQUIRED.get(request.url.path.rpartition("/")[2])
    missing = found["type"] == "missing" or not found.get("input", True)
    if required is not None and missing and place in (("body",), ("body", required)):
        return _error(400, f"No {required} provided")
    if found["type"] == "json_invalid":
        return _error(400, "The request is not JSON; was it cut off?")
    field = ".".join(map(str, place[1:])) or "the request"
    message = found["msg"].removeprefix("Value error, ")
    return _error(422, f"{field}: {message[:1].lower()}{message[1:]}"[:400])
