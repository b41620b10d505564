"""A circuit breaker: a target that keeps failing is left alone for a while, then tried with one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]
"""``closed``: calls go through; ``open``: none does; ``half_open``: the pause is over, and one call
is let through to find out."""


class Breaker:
    """Counts one target's consecutive failures.

    A call begins with `admit` and ends with exactly one of `succeeded`, `failed` and `released`.
    Only failures of the backend itself are reported as such: what is the caller's fault (a bad
    request, a bad key, a deadline that was too short) ends with `released`.

    Args:
        failures: consecutive failures that open it.
        pause_s: how long it stays open before one call is let through.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        pause_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """What would happen to a call now."""
        if self._opened_at is None:
            return "closed"
        return "open" if self._probing or self._left_s(self._opened_at) > 0 else "half_open"

    def resting(self) -> str | None:
        """Why no call may go through now, in words; None where one may."""
        if self._opened_at is None:
            return None
        left_s = self._left_s(self._opened_at)
        if left_s > 0:
            return f"failed {self._failures} times in a row; it is tried again in {left_s:.0f} s"
        if self._probing:
            return f"failed {self._failures} times in a row; a single call is trying it now"
        return None

    def admit(self) -> bool:
        """Take leave to make a call; False where none may go through."""
        if self._opened_at is None:
            return True
        if self._probing or self._left_s(self._opened_at) > 0:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The backend did its part."""
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def failed(self) -> None:
        """The backend failed; calls that were under way when it opened do not prolong the pause."""
        self._failures += 1
        if self._probing or (self._opened_at is None and self._failures >= self._most):
            self._opened_at = self._clock()
        self._probing = False

    def released(self) -> None:
        """The call says nothing about the backend: it was given up, or the fault was the caller's."""
        self._probing = False

    def _left_s(self, opened_at: float) -> float:
        return opened_at + self._pause_s - self._clock()
