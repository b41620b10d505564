"""A loop of its own for the models' side, so that none of its work delays an answer's first byte.

Wording a request, reading an answer and de-identifying a text take the processor for milliseconds.
In the clients' loop 64 of them in a row would keep everyone waiting. Here they wait for each other,
and the clients' loop gets the interpreter's lock within a switch interval.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")

_SWITCH_S = 0.001
"""How long the models' side may hold the interpreter's lock while the clients' waits for it. An
answer takes the lock some times, and Python's usual 5 ms would add up."""


class Workroom:
    """A running event loop in a thread; use it as a context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="workroom")
        self._switch_s = sys.getswitchinterval()

    def __enter__(self) -> Self:
        sys.setswitchinterval(_SWITCH_S)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        sys.setswitchinterval(self._switch_s)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run work here and wait for it in the caller's loop; cancelling the wait cancels the work."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()
