"""A sweep in a thread of its own, so that who started it can go on, look, pause and stop it."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from soma_bench.errors import ConfigError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.estimate import TrialKind
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.runner import Outcome, Progress, plan_sweep, run_plan
from soma_bench.sweeps.running import expected_seconds
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import Sweep
from soma_bench.sweeps.store import Store, open_if_made

_LAST_WAIT_S = 10.0
"""How long a process that ends waits for the thread after its calls have returned."""
_UNDER_WAY: dict[tuple[str, str], BackgroundSweep] = {}
"""By store and run, the sweep of this process that runs its trials now."""
_CLAIMING = threading.Lock()


class BackgroundSweep:
    """Runs what a sweep declares and the store does not hold yet, and scores it.

    The thread has its own event loop and its own connection to the store. A process that ends stops
    the sweep: what has ended is stored, and the next start resumes. It waits for a call into a model
    of its own, which cannot be broken off. One that is started while another of the process runs the
    same trials is refused; where that other has been stopped, it goes on when the other has ended.

    Args:
        sweep: what to run.
        folder: folder that the sweep's paths start from.
        store_location: path or URL of the store; an SQLite file is made where there is none.
        fresh: start anew as another run, leaving what was measured before.
        providers: makes the pool that providers come from; it is closed when the sweep ends.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        store_location: str,
        *,
        fresh: bool = False,
        providers: Callable[[], ProviderPool] = ProviderPool,
    ) -> None:
        self._sweep, self._folder, self._location = sweep, folder, store_location
        self._fresh, self._providers = fresh, providers
        self.control = Control()
        self.run_id: str | None = None
        """The run's id, once its trials are laid out in the store."""
        self.expected_s: Mapping[TrialKind, float] = {}
        """Seconds of a trial by agent and target, as estimated before the first one ran."""
        self._laid_out = threading.Event()
        self._ended_keys: SimpleQueue[str] = SimpleQueue()
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"sweep {sweep.name}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        # A daemon thread inside a model's native code must not outlive the interpreter.
        atexit.register(self._leave)

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    @property
    def error(self) -> BaseException | None:
        """What ended the sweep before its end; None where nothing did."""
        return self._error

    def wait_for_plan(self) -> bool:
        """Wait until the run is laid out in the store; False when the sweep ended before that."""
        self._laid_out.wait()
        return self.run_id is not None

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end, at most ``timeout_s``, however it ends."""
        self._thread.join(timeout_s)

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the end.

        Returns:
            What was done; None when it still runs after ``timeout_s``, or was stopped while it was
            planned.

        Raises:
            ConfigError: the sweep, a suite or the store is wrong.
            ProviderError: a model is missing or its key is wrong.
        """
        self.join(timeout_s)
        if self._error is not None:
            raise self._error
        return self._outcome

    def take_ended(self) -> list[str]:
        """Keys of the trials that have ended since this was asked last."""
        keys = []
        with suppress(Empty):
            while True:
                keys.append(self._ended_keys.get_nowait())
        return keys

    def _leave(self) -> None:
        self.control.stop()
        self._thread.join(_LAST_WAIT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._execute())
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the thread that asks
            self._error = error
        finally:
            self._release()
            self._laid_out.set()
            atexit.unregister(self._leave)

    async def _execute(self) -> None:
        async with self._providers() as providers:
            plan = await self._plan(providers)
            while (other := self._claim(plan.run_id)) is not None:
                if not other.control.stopped:
                    raise ConfigError(
                        f"run {plan.run_id} is under way in this process already;"
                        " stop it first, or watch it by SweepView.attach"
                    )
                await asyncio.to_thread(other.join)
                plan = await self._plan(providers)
            if self.control.stopped:
                return
            with Store(self._location, create=True) as store:
                self._outcome = await run_plan(
                    plan, store, providers, control=self.control, on_progress=self._note
                )
                score_run(store, plan.run_id)

    async def _plan(self, providers: ProviderPool) -> Plan:
        # The plan is made before the store is: bad input leaves nothing behind.
        existing = open_if_made(self._location)
        try:
            plan = await plan_sweep(
                self._sweep, self._folder, providers, existing, fresh=self._fresh
            )
            self.expected_s = expected_seconds(
                plan,
                finished=existing.finished_keys(plan.run_id) if existing else set(),
                mean_seconds=existing.mean_seconds() if existing else {},
            )
        finally:
            if existing:
                existing.close()
        return plan

    def _claim(self, run_id: str) -> BackgroundSweep | None:
        """Take the run for this sweep; the other one where another has it."""
        with _CLAIMING:
            holder = _UNDER_WAY.setdefault((self._location, run_id), self)
        return None if holder is self else holder

    def _release(self) -> None:
        with _CLAIMING:
            for place in [place for place, holder in _UNDER_WAY.items() if holder is self]:
                del _UNDER_WAY[place]

    def _note(self, progress: Progress) -> None:
        if progress.trial is None:
            self.run_id = progress.run_id
            self._laid_out.set()
        else:
            self._ended_keys.put(progress.trial.key)
