"""Requests that have come whole and wait for the first byte of their answers: they go first.

Many clients that come at one moment are each told at once that their request was taken. The models'
side, which takes the same processor, lets them pass: it begins no work and goes on with none while
somebody waits, for at most a moment at a time.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import Any

from starlette.types import Scope

_WAITING = "waiting"
"""Where a request's state has its `_Waiting`."""
_MOMENT_S = 0.2
"""One that is not answered within it holds nobody up any longer."""
_LULL_S = 0.01
"""Who comes within it after another belongs to the same rush."""
_PATIENCE_S = 0.02
"""How long the models' side lets requests pass before each step of its own."""


class Rush:
    """Counts the requests that wait; it belongs to the clients' loop, and others may ask it.

    Args:
        moment_s: how long a request counts, and how long work waits for those that do.
    """

    def __init__(self, moment_s: float = _MOMENT_S) -> None:
        self._moment_s = moment_s
        self._waiting = 0
        self._calm = threading.Event()
        self._calm.set()
        self._last = 0.0
        """When the last one came, by the clients' loop."""

    def came(self, state: dict[str, Any]) -> None:
        """A request with this state has come whole; it waits until `waits_no_more` for it."""
        self._waiting += 1
        self._last = asyncio.get_running_loop().time()
        self._calm.clear()
        state[_WAITING] = _Waiting(self, self._moment_s)

    def went(self) -> None:
        """It waits no more."""
        self._waiting -= 1
        if self._waiting == 0:
            self._calm.set()

    async def passed(self) -> None:
        """Wait in the clients' loop until nobody waits and nobody more comes, but only a moment."""
        now = asyncio.get_running_loop().time
        for _ in range(round(self._moment_s / _LULL_S)):
            if not self._waiting and now() >= self._last + _LULL_S:
                return
            await asyncio.sleep(_LULL_S)

    def let_pass(self) -> None:
        """Block another thread while somebody waits, but only for a moment."""
        if not self._calm.is_set():
            self._calm.wait(_PATIENCE_S)


def waits_no_more(scope: Scope) -> None:
    """A request's answer has begun, or its work is on its way; nobody waits for it."""
    if (waiting := scope.get("state", {}).get(_WAITING)) is not None:
        waiting.end()


class _Waiting:
    """One request that waits.

    Args:
        rush: where it is counted.
        moment_s: for how long at most.
    """

    def __init__(self, rush: Rush, moment_s: float) -> None:
        self._rush = rush
        self._timer = asyncio.get_running_loop().call_later(moment_s, self.end)
        self._ended = False

    def end(self) -> None:
        """Count it no more."""
        if not self._ended:
            self._ended = True
            self._timer.cancel()
            self._rush.went()


class PatientSelector(selectors.DefaultSelector):
    """What an event loop waits with, which lets requests pass before each of its rounds.

    Args:
        rush: which requests.
    """

    def __init__(self, rush: Rush) -> None:
        super().__init__()
        self._rush = rush

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """As every selector."""
        self._rush.let_pass()
        return super().select(timeout)
