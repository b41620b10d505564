"""Pausing and stopping a sweep that is under way, from any thread."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK_EVERY_S = 0.05
"""How often a paused run looks whether it may go on; a trial takes longer than this."""


class Control:
    """Held by who watches a run; the run asks it before each trial.

    A trial that has begun is finished and kept: pausing and stopping lose nothing, and a stopped
    run resumes like a killed one.
    """

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self._stopped = threading.Event()

    @property
    def paused(self) -> bool:
        """Whether the run waits before its next trial."""
        return not self._going.is_set() and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether the run ends before its next trial."""
        return self._stopped.is_set()

    def pause(self) -> None:
        """Let no further trial begin until `resume` or `stop`."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._going.set()

    def stop(self) -> None:
        """Let no further trial begin at all."""
        self._stopped.set()

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Pause by SIGUSR1 and go on by SIGUSR2 while this lasts; for the main thread of a process."""
        loop = asyncio.get_running_loop()
        heeded = ((signal.SIGUSR1, self.pause), (signal.SIGUSR2, self.resume))
        for number, act in heeded:
            loop.add_signal_handler(number, act)
        try:
            yield
        finally:
            for number, _ in heeded:
                loop.remove_signal_handler(number)

    async def sleep(self, seconds: float) -> bool:
        """Wait, but no longer than until the run is stopped; False when it is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self.stopped and (left := end - loop.time()) > 0:  # noqa: ASYNC110 - set by other threads
            await asyncio.sleep(min(left, _LOOK_EVERY_S))
        return not self.stopped

    async def proceed(self) -> bool:
        """Wait while paused; False when the run is to end."""
        while not self._going.is_set() and not self.stopped:  # noqa: ASYNC110 - set by other threads
            await asyncio.sleep(_LOOK_EVERY_S)
        return not self.stopped
