"""A loop of its own for the models' side, so that none of its work delays an answer's first byte.

Wording a request, reading an answer and de-identifying a text take the processor for milliseconds.
In the clients' loop 64 of them in a row would keep everyone waiting. Here they wait for each other,
and the clients' loop gets the interpreter's lock within a switch interval.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from soma_bench.service.rush import PatientSelector, Rush

_T = TypeVar("_T")

_SWITCH_S = 0.001
"""How long the models' side may hold the interpreter's lock while the clients' waits for it. An
answer takes the lock some times, and Python's usual 5 ms would add up."""
_BESIDE = 2
"""Threads beside the loops."""


class Workroom:
    """A running event loop in a thread; use it as a context manager.

    Args:
        rush: the requests that its work lets pass.
    """

    def __init__(self, rush: Rush) -> None:
        self.loop = asyncio.SelectorEventLoop(PatientSelector(rush))
        self._turns = asyncio.Lock()
        self._thread = threading.Thread(target=self._run, name="workroom")
        self._beside = ThreadPoolExecutor(_BESIDE, thread_name_prefix="beside")
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
        self._beside.shutdown()
        sys.setswitchinterval(self._switch_s)

    async def beside(self, call: Callable[[], _T]) -> _T:
        """The outcome of what takes long and does not wait for anything, such as reading a picture.

        It is done beside both loops, a few calls at a time: each thread more that computes is one
        more that the clients' loop waits for.
        """
        return await asyncio.get_running_loop().run_in_executor(self._beside, call)

    async def turn(self) -> None:
        """Wait for one's turn to word a question; in the workroom.

        One is worded in each of the loop's rounds, which keeps rounds short: only between them does
        the loop let others pass.
        """
        async with self._turns:
            await asyncio.sleep(0)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run work here and wait for it in the caller's loop; cancelling the wait cancels the work."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()
