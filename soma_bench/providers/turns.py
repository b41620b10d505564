"""Calls to an engine that blocks and takes one at a time: a queue, a thread, and a way to give up.

A native engine cannot be interrupted while it reads a prompt. So the caller is told at once when a
limit has passed, while the engine's thread stays taken until the call in it has really ended, which
it does at its next token. The calls that wait behind it are held to their own limits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from soma_bench.providers.clock import Clock
from soma_bench.types import Chunk, Completion, Timings

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - no error: the caller asked for it
    """A call ended before its answer did, because nobody listens any more."""


class Call:
    """One request on its way through an engine: its times, its listener, its end.

    Args:
        listener: gets every piece of the answer, on the engine's thread.
    """

    def __init__(self, listener: Callable[[Chunk], None] | None = None) -> None:
        self._listener = listener
        self.cancelled = threading.Event()
        self._arrived = self._ready = time.perf_counter()
        self._queue_s = 0.0
        self._load_s = 0.0
        self._first_token_s: float | None = None
        self._first_answer_token_s: float | None = None

    def begin(self) -> None:
        """Take note that the engine has turned to this call.

        Raises:
            Stopped: the caller has given up meanwhile.
        """
        self._ready = time.perf_counter()
        self._queue_s = self._ready - self._arrived
        self.check()

    def loaded(self, load_s: float) -> None:
        """Take note that the model is loaded, and of the seconds that took (0 when it was)."""
        self._load_s = load_s
        self._ready = time.perf_counter()
        self.check()

    def check(self) -> None:
        """End the call here if nobody listens any more.

        Raises:
            Stopped: the caller has given up.
        """
        if self.cancelled.is_set():
            raise Stopped

    def hear(self, text: str, *, thinking: bool) -> bool:
        """Take a piece of text; True asks the engine to stop."""
        if self.cancelled.is_set():
            return True
        now = time.perf_counter() - self._ready
        if self._first_token_s is None:
            self._first_token_s = now
        if not thinking and self._first_answer_token_s is None:
            self._first_answer_token_s = now
        if self._listener:
            self._listener(Chunk(thinking=text) if thinking else Chunk(text=text))
        return False

    def timings(self, *, prefill_s: float, decode_s: float) -> Timings:
        """The call's timings, ending now: from when the engine was free and the model loaded."""
        return Timings(
            queue_s=self._queue_s,
            load_s=self._load_s,
            first_token_s=self._first_token_s,
            first_answer_token_s=self._first_answer_token_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            total_s=time.perf_counter() - self._ready,
        )


class Turns:
    """Runs blocking work on one thread, in the order in which it was asked for.

    Args:
        name: what the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: ThreadPoolExecutor | None = None

    async def complete(self, answer: Callable[[Call], Completion], clock: Clock) -> Completion:
        """The answer to one call.

        Raises:
            ProviderError: (``timeout``) it was not there within the total; or what ``answer`` raises.
        """
        call = Call()
        work = self._submit(lambda: answer(call))
        try:
            return await clock.wait_whole(asyncio.wrap_future(work))
        finally:
            call.cancelled.set()

    async def stream(
        self, answer: Callable[[Call], Completion], clock: Clock
    ) -> AsyncGenerator[Chunk]:
        """The answer to one call, piece by piece; closing the iterator ends the call.

        Raises:
            ProviderError: (``timeout``) a piece came too late; or what ``answer`` raises.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()

        def pass_on(chunk: Chunk | None) -> None:
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)

        def end(_: Future[Completion]) -> None:
            # Whoever gave up may have taken the loop along.
            if not call.cancelled.is_set():
                pass_on(None)

        call = Call(pass_on)
        work = self._submit(lambda: answer(call))
        work.add_done_callback(end)
        try:
            while (chunk := await clock.wait_next(chunks.get())) is not None:
                clock.token(thinking=bool(chunk.thinking))
                yield chunk
            completion = work.result()
        finally:
            call.cancelled.set()
            work.cancel()
        yield Chunk(completion=completion)

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, when its turn has come."""
        return await asyncio.wrap_future(self._submit(work))

    def close(self) -> None:
        """End the thread once its work is done; the next work would start a new one."""
        if self._thread:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return self._thread.submit(work)
