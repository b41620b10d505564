"""The way to one account or host: how many calls at a time, how soon after each other, for how much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable

from soma_bench.errors import ProviderError, ProviderFailure
from soma_bench.sweeps.adaptive import Adaptive, Concurrency, Fixed
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.limits import Budget, Need, Pace
from soma_bench.sweeps.spec import ProviderLimits
from soma_bench.types import Completion

LONGEST_WAIT_S = 60.0
"""A backend that asks for more patience than this gets its next try with the next execution."""
_NO_ROOM: frozenset[ProviderFailure] = frozenset({"rate_limited", "overloaded"})
_NEVER_CHARGED: frozenset[ProviderFailure] = _NO_ROOM | {
    "not_running",
    "model_missing",
    "bad_request",
    "bad_key",
    "context_too_long",
}
_FIRST_WAIT_S = 0.5
_BUSY = 0.8
"""The share of its time that the event loop may work while calls begin beside others."""


class Lane:
    """Lets trials in one by one, and their calls out as the limits allow.

    Args:
        limits: what the sweep says of the provider.
        is_local: whether it runs on machines of one's own, where calls go one at a time unless the
            sweep says otherwise: beside another call a latency is not the model's own.
        budget: of the whole run.
        control: pauses and stops the run.
    """

    def __init__(
        self, limits: ProviderLimits, *, is_local: bool, budget: Budget, control: Control
    ) -> None:
        self._concurrency: Concurrency
        if isinstance(limits.concurrency, int):
            self._concurrency = Fixed(limits.concurrency)
        elif is_local and limits.concurrency is None:
            self._concurrency = Fixed(1)
        else:
            self._concurrency = Adaptive(limits.max_concurrency)
        self._requests = Pace(limits.requests_per_minute)
        self.tokens = Pace(limits.tokens_per_minute)
        self.budget = budget
        self._control = control
        self._trials = 0
        self._left = asyncio.Event()
        self._worked_s = time.thread_time()
        self._began_s = 0.0
        self._held_until_s = 0.0
        self.calls = 0
        """Calls that are under way."""

    async def enter(self, kind: Hashable) -> bool:
        """Wait until another trial of this kind may begin; False when none is to."""
        while await self._control.proceed() and not self.budget.is_exhausted:
            if self._trials < self._concurrency.limit(kind):
                self._trials += 1
                return True
            self._left.clear()
            await self._left.wait()
        return False

    def leave(self) -> None:
        """A trial has ended and is stored, or was given up."""
        self._trials -= 1
        self._left.set()

    async def turn(self, need: Need) -> Turn | None:
        """Wait until a call may be made; None when it is not to be."""
        if not await self.budget.reserve(need.usd):
            return None
        loop = asyncio.get_running_loop()
        now = loop.time()
        at = max(self._requests.take(1, now), self.tokens.take(need.tokens, now))
        while (left := max(at, self._held_until_s) - loop.time()) > 0:
            if not await self._control.sleep(left):
                break
        if not await self._control.proceed():
            self.budget.settle(need.usd, 0.0)
            self.tokens.give_back(need.tokens)
            return None
        await self._unhurried()
        return Turn(self, need)

    async def _unhurried(self) -> None:
        """Wait where this process can hardly follow, for an answer that waits to be read looks slow.

        A call that waits to begin costs nothing but time, and only a backend that answers within
        milliseconds lets any wait.
        """
        while self.calls:
            worked_s = time.thread_time() - self._worked_s
            left_s = self._began_s + worked_s / _BUSY - time.perf_counter()
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
        self._worked_s, self._began_s = time.thread_time(), time.perf_counter()

    def answered(self, kind: Hashable, completion: Completion, began_s: float) -> None:
        """Learn from an answer how many calls are well."""
        self._concurrency.answered(kind, completion, began_s)

    def refused(self, error: ProviderError, began_s: float, tries: int) -> None:
        """Hold the lane as long as the backend asks; a backend without room gets fewer calls."""
        now = asyncio.get_running_loop().time()
        wait_s = error.wait_s or 0.0
        if error.kind in _NO_ROOM:
            self._concurrency.refused(began_s, now)
            wait_s = wait_s or _FIRST_WAIT_S * 2**tries
        if wait_s <= LONGEST_WAIT_S:
            self._held_until_s = max(self._held_until_s, now + wait_s)


class Turn:
    """One call of a trial, from its beginning to its end.

    Args:
        lane: where it is made.
        need: what was set aside for it.
    """

    def __init__(self, lane: Lane, need: Need) -> None:
        self._lane = lane
        self._need = need
        self._began_s = asyncio.get_running_loop().time()
        lane.calls += 1
        self._beside = lane.calls

    def answered(self, kind: Hashable, completion: Completion, usd: float | None) -> int:
        """It was answered, for a fee; how many calls were under way, this one included."""
        beside = self._end(completion, self._need.usd if usd is None else usd)
        self._lane.answered(kind, completion, self._began_s)
        return beside

    def failed(self, error: ProviderError, tries: int) -> None:
        """It failed; what a vendor may have charged for it counts as spent."""
        self._end(None, 0.0 if error.kind in _NEVER_CHARGED else self._need.usd)
        self._lane.refused(error, self._began_s, tries)

    def abandoned(self) -> None:
        """It was given up under way, and may have been charged for."""
        self._end(None, self._need.usd)

    def _end(self, completion: Completion | None, usd: float) -> int:
        beside = max(self._beside, self._lane.calls)
        self._lane.calls -= 1
        self._lane.budget.settle(self._need.usd, usd)
        usage = completion.usage if completion else None
        if usage and usage.prompt_tokens is not None and usage.output_tokens is not None:
            self._lane.tokens.give_back(
                self._need.tokens - usage.prompt_tokens - usage.output_tokens
            )
        return beside
