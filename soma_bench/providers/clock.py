"""The clock of one call: when its tokens came, and when to give up waiting for the next.

What a call took is told from the moment at which its request leaves to the one at which each part of
the answer arrives, where the connection says so (`Clock.sent`, `Clock.heard`): making a request and
reading an answer are this process's own work, and where many calls end at once that work waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TypeVar

from soma_bench.errors import ProviderError, TimeLimit
from soma_bench.types import Limits, Timings

T = TypeVar("T")

_WORDS: dict[TimeLimit, str] = {
    "connect": "no connection",
    "first_token": "no first token",
    "between_tokens": "no further token",
    "total": "the answer was not complete",
}


CURRENT: ContextVar[Clock | None] = ContextVar("clock", default=None)
"""The clock of the call that is being made, for the connection that makes it."""


def timed_out(provider: str, limit: TimeLimit, seconds: float) -> ProviderError:
    """The error that says which limit was passed."""
    return ProviderError(
        provider,
        f"{_WORDS[limit]} within {seconds:g} s; is the backend overloaded, or is the limit too short?",
        kind="timeout",
        limit=limit,
    )


class Clock:
    """Times one call and holds it to its limits; starts when it is made.

    Args:
        provider: the provider's name, for errors.
        limits: when to give up.
        loading: whether the model has to be loaded first, which gets time of its own.
    """

    def __init__(self, provider: str, limits: Limits, *, loading: bool = False) -> None:
        self._provider = provider
        self._limits = limits
        self._extra_s = limits.load_s if loading else 0.0
        self.started = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        # The loop's clock and perf_counter need not agree on zero, so deadlines get their own start.
        self._loop_started = self._loop.time()
        self._total_at = self._loop_started + limits.total_s + self._extra_s
        self._next_at = self._loop_started + limits.first_token_s + self._extra_s
        self.first_token_s: float | None = None
        self.first_answer_token_s: float | None = None
        self._is_sent = False
        self._heard_at: float | None = None
        CURRENT.set(self)

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self.started

    def sent(self) -> None:
        """A request leaves now; the call begins with its first."""
        if not self._is_sent:
            self._is_sent = True
            self.started = time.perf_counter()

    def heard(self) -> None:
        """A part of an answer has arrived."""
        self._heard_at = time.perf_counter()

    def token(self, *, thinking: bool) -> None:
        """Take note that a token has come."""
        if self.first_token_s is None:
            self.first_token_s = self._came_s()
        if not thinking and self.first_answer_token_s is None:
            self.first_answer_token_s = self._came_s()
        self._next_at = self._loop.time() + self._limits.between_tokens_s

    async def wait_next(self, awaitable: Awaitable[T]) -> T:
        """Await the next piece of a stream.

        Raises:
            ProviderError: (``timeout``) the first token, the next one or the end came too late.
        """
        if self._total_at < self._next_at:
            return await self.wait_whole(awaitable)
        limit: TimeLimit = "first_token" if self.first_token_s is None else "between_tokens"
        seconds = (
            self._limits.first_token_s + self._extra_s
            if self.first_token_s is None
            else self._limits.between_tokens_s
        )
        return await self._wait(awaitable, self._next_at, limit, seconds)

    async def wait_whole(self, awaitable: Awaitable[T]) -> T:
        """Await something that ends with the whole answer.

        Raises:
            ProviderError: (``timeout``) it was not there within the total.
        """
        seconds = self._limits.total_s + self._extra_s
        return await self._wait(awaitable, self._total_at, "total", seconds)

    async def _wait(
        self, awaitable: Awaitable[T], deadline: float, limit: TimeLimit, seconds: float
    ) -> T:
        try:
            async with asyncio.timeout_at(deadline) as timeout:
                return await awaitable
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise timed_out(self._provider, limit, seconds) from error

    def timings(
        self,
        *,
        queue_s: float | None = None,
        load_s: float | None = None,
        prefill_s: float | None = None,
        decode_s: float | None = None,
    ) -> Timings:
        """The call's timings, ending now; loading is taken out of what the client's clock saw."""
        load = load_s or 0.0

        def without_load(value: float | None) -> float | None:
            return None if value is None else max(0.0, value - load)

        return Timings(
            queue_s=queue_s,
            load_s=load_s,
            first_token_s=without_load(self.first_token_s),
            first_answer_token_s=without_load(self.first_answer_token_s),
            prefill_s=prefill_s,
            decode_s=decode_s,
            total_s=max(0.0, self._came_s() - load),
        )

    def _came_s(self) -> float:
        """When what is being read arrived: seconds since the call began."""
        return self.elapsed() if self._heard_at is None else self._heard_at - self.started
