"""The door of the service: who may ask, what and how much may be sent, and what is written down.

It stands around everything else and reads a request's body whole, up to the limit, before anybody
looks at it. Of a request it logs method, route, status and time: no body, no header, no query.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soma_bench.providers.places import is_loopback
from soma_bench.service.failures import STOPPING, RequestError, told, write_down
from soma_bench.service.jobs import Jobs
from soma_bench.service.metrics import Metrics
from soma_bench.service.rush import waits_no_more
from soma_bench.service.settings import ServiceSettings

CLIENT_LEFT = 499
"""Status of a request whose client left before its answer, as some proxies count it."""
CAME_WHOLE = "came_whole"
"""Where a server notes in a request's state when its last byte came, by `time.perf_counter`."""
_DRAINED = 4
"""A body that is too long is read on up to so many times the limit, for a client that has sent it
whole reads the answer, and one that is cut off in the middle sees a broken connection."""
_log = logging.getLogger(__name__)


class Door:
    """Checks, counts and logs every request.

    Args:
        app: what is behind it.
        settings: limits and who may come in.
        jobs: what requests lead to; when it stops, no request is read to its end.
        metrics: where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: ServiceSettings,
        jobs: Jobs,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._settings = settings
        self._jobs = jobs
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        try:
            await self._serve(visit, receive)
        except asyncio.CancelledError:
            # The server does so when it stops and a client does not read its answer: no failure.
            _log.warning("an answer was broken off: its client had stopped reading")
        except Exception as error:  # noqa: BLE001 - the server would log it with its message
            write_down(error)
            if not visit.begun:
                await JSONResponse({"error": told(error)}, status_code=500)(
                    scope, receive, visit.send
                )
        finally:
            visit.close(self._metrics)

    async def _serve(self, visit: _Visit, receive: Receive) -> None:
        try:
            self._check(Headers(scope=visit.scope), visit.scope["method"])
            async with self._jobs.coming(self._settings.body_timeout_s):
                again = _again(await self._read(receive), receive)
        except TimeoutError:
            late = RequestError("The request did not come whole in time", status=408)
            refusal = RequestError(STOPPING, status=503) if self._jobs.stopping else late
        except RequestError as refused:
            refusal = refused
        except _Left:
            return
        else:
            visit.read()
            await self._app(visit.scope, again, visit.send)
            return
        headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
        headers["connection"] = "close"
        answer = JSONResponse({"error": str(refusal)}, status_code=refusal.status, headers=headers)
        await answer(visit.scope, receive, visit.send)

    def _check(self, headers: Headers, method: str) -> None:
        """Refuse who may not come in, before anything is read.

        Raises:
            RequestError: by name of the host, by token, or by the kind of what is sent.
        """
        settings = self._settings
        if settings.on_loopback and not _names_loopback(headers.get("host", "")):
            raise RequestError(
                "The service is open to this machine only; ask it as localhost", status=421
            )
        token = settings.token
        if token is not None and not _is_preflight(headers, method):
            given = headers.get("authorization", "")
            wanted = f"Bearer {token.get_secret_value()}"
            if not hmac.compare_digest(given.encode(), wanted.encode()):
                raise RequestError(
                    "A bearer token is needed: send it as Authorization: Bearer ...", status=401
                )
        kind = headers.get("content-type")
        # Other kinds are what a page of any origin may send without being allowed to.
        if method == "POST" and kind is not None and not _is_json(kind):
            raise RequestError("Send JSON, as Content-Type: application/json", status=415)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > _DRAINED * settings.max_body_bytes:
            raise self._too_long()

    async def _read(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            RequestError: it is longer than it may be.
            _Left: the client left before its end.
        """
        most = self._settings.max_body_bytes
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Left
            piece = message.get("body", b"")
            size += len(piece)
            if size <= most:
                pieces.append(piece)
            else:
                pieces.clear()
            if size > _DRAINED * most or not message.get("more_body", False):
                break
        if size > most:
            raise self._too_long()
        return b"".join(pieces)

    def _too_long(self) -> RequestError:
        most = self._settings.max_body_bytes
        return RequestError(
            f"The request is longer than {most / 2**20:g} MiB; send a smaller image", status=413
        )


class _Left(Exception):  # noqa: N818 - no error: a client may leave
    """The client closed the connection."""


class _Visit:
    """One request and what was seen of its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self._began = self._read = time.perf_counter()
        self._first_s: float | None = None
        self._status = CLIENT_LEFT
        self._whole = False
        self.begun = False
        """Whether an answer has begun."""

    def read(self) -> None:
        """The request has been read, and has come whole no later."""
        self._read = self.scope.get("state", {}).get(CAME_WHOLE) or time.perf_counter()

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._status, self.begun = message["status"], True
        await self._send(message)
        if message["type"] == "http.response.body":
            if self._first_s is None:
                self._first_s = time.perf_counter() - self._read
                waits_no_more(self.scope)
            self._whole = not message.get("more_body", False)

    def close(self, metrics: Metrics) -> None:
        """Count it and write it down."""
        waits_no_more(self.scope)
        seconds = time.perf_counter() - self._began
        status = self._status if self._whole else CLIENT_LEFT
        method = self.scope["method"]
        method = method if method in ("GET", "POST", "DELETE", "OPTIONS") else "other"
        route = getattr(self.scope.get("route"), "path", "other")
        metrics.answered(method, route, status, seconds=seconds, first_s=self._first_s)
        _log.info("%s %s %d in %.3f s", method, route, status, seconds)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, once, and then what comes after it."""
    # Whoever answers for minutes need not keep it: a picture of some megabytes for each client.
    left = [body]

    async def next_message() -> Message:
        if not left:
            return await receive()
        return {"type": "http.request", "body": left.pop(), "more_body": False}

    return next_message


def _names_loopback(host: str) -> bool:
    try:
        # A name without a port or with any port; malformed ones are not this machine's.
        return is_loopback(f"http://{host}") and urlsplit(f"http://{host}").username is None
    except ValueError:
        return False


def _is_json(kind: str) -> bool:
    media_type = kind.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _is_preflight(headers: Headers, method: str) -> bool:
    """Whether a browser asks what it may ask, which it does without any token."""
    return method == "OPTIONS" and "access-control-request-method" in headers
