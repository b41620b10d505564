"""Server-sent events: one ``data:`` line of JSON an event, comments as heartbeat, ``done`` last."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from soma_bench.errors import SomaError
from soma_bench.service.failures import told, write_down
from soma_bench.service.jobs import Jobs
from soma_bench.service.rush import Rush
from soma_bench.service.workroom import Workroom
from soma_bench.telemetry import error_type

Event = dict[str, Any]
"""What a client gets, as JSON; ``type`` says what it is."""
Emit = Callable[[Event], None]
Work = Callable[[Emit], Awaitable[None]]
"""Work that tells of itself by events."""

_HEARTBEAT = b": heartbeat\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Streams the events of some work; a client that leaves ends the work.

    Args:
        work: what is done; its errors become ``error`` events.
        first: an event that is sent before the work begins.
        session_id: whose work it is.
        jobs: where the work is kept.
        rush: requests that go before it.
        workroom: where it is done.
        heartbeat_s: how often a comment shows that the connection lives.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        work: Work,
        *,
        first: Event,
        session_id: str,
        jobs: Jobs,
        rush: Rush,
        workroom: Workroom,
        heartbeat_s: float,
    ) -> None:
        self._work = work
        self._rush = rush
        self._workroom = workroom
        self._first = first
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        # Begun here and not with the first byte: a service that is stopping says so by its status.
        self._gate = asyncio.Event()
        self._left = False
        self._job = jobs.start(self._run(), session_id)
        super().__init__(self._bytes(), headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer; when it ends, also because the client has left, the work does."""
        watch = asyncio.create_task(self._watch(receive))
        status, headers = self.status_code, self.raw_headers
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for piece in self._bytes():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not self._left:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            self._job.cancel()

    async def _watch(self, receive: Receive) -> None:
        """Stop the work when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._job.cancel()

    async def _run(self) -> None:
        emit = self._events.put_nowait
        try:
            # The first event is on its way before the work takes the processor, and so are those
            # of others who came at the same moment.
            await self._gate.wait()
            await self._rush.passed()
            await self._workroom.run(self._do())
        except asyncio.CancelledError:
            if self._job.reason is None:
                raise
            emit({"type": "error", "error": self._job.reason})
        except SomaError as error:
            _log.info("a stream ended with an error: %s", error_type(error))
            emit({"type": "error", "error": told(error)})
        except Exception as error:  # noqa: BLE001 - whatever fails, the client is told
            write_down(error)
            emit({"type": "error", "error": told(error)})
        finally:
            emit({"type": "done"})
            self._events.put_nowait(None)

    async def _do(self) -> None:
        """The work, in the workroom; its events come to the clients' loop in their order."""

        def emit(event: Event) -> None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

        await self._work(emit)

    async def _bytes(self) -> AsyncIterator[bytes]:
        beat = self._loop.time() + self._heartbeat_s
        yield _line(self._first)
        self._gate.set()
        while True:
            try:
                async with asyncio.timeout_at(beat):
                    event = await self._events.get()
            except TimeoutError:
                beat += self._heartbeat_s
                yield _HEARTBEAT
                continue
            # What has come meanwhile goes along: a burst of tokens is one write.
            events = [event]
            while not self._events.empty():
                events.append(self._events.get_nowait())
            yield b"".join(_line(event) for event in events if event is not None)
            if events[-1] is None:
                return


def _line(event: Event) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode()
