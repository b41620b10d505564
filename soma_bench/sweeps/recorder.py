"""Keeping trials as they end: as many in one transaction as have come in meanwhile.

A trial has ended when its row is committed, and whoever ran it waits for that. The writer commits at
once when it is idle; what comes in while it commits goes together into the next transaction. So a
process that is killed loses the calls that were under way and nothing that was told to have ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Self

from soma_bench.sweeps.store import Store, TrialRecord

_MOST_AT_ONCE = 500
"""Trials in one transaction at most."""

_Waiting = tuple[TrialRecord, "asyncio.Future[None]"]


class Recorder:
    """Writes to a store from a thread of its own; use it as a context manager inside a loop.

    It needs no bound of its own: everybody who hands in a trial waits until it is kept.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    async def keep(self, trial: TrialRecord) -> None:
        """Keep a trial; it is committed when this returns.

        Raises:
            ConfigError: the store cannot be written to.
        """
        kept: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((trial, kept))
        await kept

    def _write(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            is_last = False
            while len(batch) < _MOST_AT_ONCE and not is_last:
                try:
                    more = self._waiting.get_nowait()
                except Empty:
                    break
                if more is None:
                    is_last = True
                else:
                    batch.append(more)
            self._commit(batch)
            if is_last:
                return

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        failure: Exception | None = None
        try:
            self._store.record_many(trial for trial, _ in batch)
        except Exception as error:  # noqa: BLE001 - raised again where the trials were handed in
            failure = error
        self._loop.call_soon_threadsafe(_tell, [kept for _, kept in batch], failure)


def _tell(waiting: Sequence[asyncio.Future[None]], failure: Exception | None) -> None:
    for kept in waiting:
        if kept.done():
            continue  # whoever waited was cancelled; the row is kept all the same
        if failure is None:
            kept.set_result(None)
        else:
            kept.set_exception(failure)
