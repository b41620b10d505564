"""Work on behalf of clients: it ends with its client, with its session, or with the service.

A job is a task of the clients' loop, which the work itself, in the workroom's, follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from soma_bench.service.failures import STOPPING, RequestError


class Job:
    """One piece of work, as a task that can be cancelled for a reason.

    Args:
        task: the work.
        session_id: whose work it is.
    """

    def __init__(self, task: asyncio.Task[Any], session_id: str) -> None:
        self.task = task
        self.session_id = session_id
        self.reason: str | None = None
        """Why it was cancelled; None where nobody cancelled it or its client left."""

    def cancel(self, reason: str | None = None) -> None:
        """Stop the work, and with it its models' calls."""
        if not self.task.done():
            self.reason = self.reason or reason
            self.task.cancel()


class Jobs:
    """All work that is going on; it belongs to the clients' loop."""

    def __init__(self) -> None:
        self._open: set[Job] = set()
        self._coming: set[asyncio.Timeout] = set()
        self.stopping = False
        """Whether no more work is taken."""

    def __len__(self) -> int:
        return len(self._open)

    def start(self, work: Coroutine[Any, Any, Any], session_id: str) -> Job:
        """Start work.

        Raises:
            RequestError: the service is stopping.
        """
        if self.stopping:
            work.close()
            raise RequestError(STOPPING, status=503)
        job = Job(asyncio.create_task(work), session_id)
        self._open.add(job)
        job.task.add_done_callback(lambda _: self._open.discard(job))
        return job

    @asynccontextmanager
    async def coming(self, limit_s: float) -> AsyncIterator[None]:
        """Holds what may lead to work, such as the reading of a request.

        Raises:
            TimeoutError: it took longer than ``limit_s``, or the service is stopping.
        """
        async with asyncio.timeout(limit_s) as limit:
            self._coming.add(limit)
            try:
                yield
            finally:
                self._coming.discard(limit)

    def busy(self, session_id: str) -> bool:
        """Whether a session has work going on."""
        return any(job.session_id == session_id for job in self._open)

    def cancel(self, session_id: str, reason: str) -> None:
        """Stop the work of a session."""
        for job in tuple(self._open):
            if job.session_id == session_id:
                job.cancel(reason)

    async def stop(self, grace_s: float) -> None:
        """Take no more work, let what is open go on for a while, then cancel it and wait for it."""
        self.stopping = True
        for limit in self._coming:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
        if tasks := [job.task for job in self._open]:
            await asyncio.wait(tasks, timeout=grace_s)
        for job in tuple(self._open):
            job.cancel(STOPPING)
        if tasks := [job.task for job in self._open]:
            await asyncio.wait(tasks)
