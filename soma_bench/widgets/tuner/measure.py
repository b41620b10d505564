"""Running the trials that a run still lacks, in the background, until done or stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from soma_bench.errors import ConfigError, SomaError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.plan import Plan, make_plan
from soma_bench.sweeps.runner import Progress, plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import RunRecord, Store

SWEEP_FOLDERS = (Path("sweeps"), Path("../sweeps"), Path())
"""Where a run's sweep file may lie, seen from the root and from the notebooks' folder."""

_EVERY_S = 0.25
"""Progress is told at most so often; small models answer faster than anyone reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How far measuring is."""

    state: Literal["running", "done", "stopped", "failed"]
    done: int = 0
    failed: int = 0
    total: int = 0
    says: str = ""


class Measuring:
    """One execution of a run's missing trials.

    Args:
        run: which run.
        opened: gives its store, open as long as it is needed.
        folders: folders that the sweep's paths may start from; the first in which they lead to
            this very run is taken.
        pool: makes the providers.
        on_change: told how far it is, on a thread of its own.
    """

    def __init__(
        self,
        run: RunRecord,
        opened: Callable[[], AbstractContextManager[Store]],
        *,
        on_change: Callable[[Measured], None],
        folders: Sequence[Path] = SWEEP_FOLDERS,
        pool: Callable[[], ProviderPool] = ProviderPool,
    ) -> None:
        self._run, self._opened, self._folders, self._pool = run, opened, folders, pool
        self._on_change = on_change
        self._control = Control()
        self._told_at = 0.0
        self._latest = Measured(state="running", says="planning")
        self._thread = threading.Thread(target=self._work, name="tuner-measure", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._on_change(self._latest)
        self._thread.start()

    def stop(self) -> None:
        """End before the next trial; the one under way is finished and kept."""
        self._control.stop()

    def wait(self, timeout_s: float | None = None) -> Measured:
        """Wait for the end, and say how far it came."""
        self._thread.join(timeout_s)
        return self._latest

    def _work(self) -> None:
        try:
            ended = asyncio.run(self._measure())
        except SomaError as error:
            ended = self._as(state="failed", says=str(error))
        except Exception as error:
            self._tell(self._as(state="failed", says=f"{type(error).__name__}: {error}"))
            raise
        self._tell(ended)

    async def _measure(self) -> Measured:
        with self._opened() as store:
            async with self._pool() as providers:
                plan = await self._plan(store, providers)
                outcome = await run_plan(
                    plan, store, providers, control=self._control, on_progress=self._progress
                )
            score_run(store, plan.run_id)
        left = outcome.total - outcome.resumed - outcome.called
        if left:
            return self._as(state="stopped", says=f"stopped; {left} trials are left")
        says = f"{outcome.called} trials run now"
        if outcome.failed:
            return self._as(state="failed", says=f"{says}, {outcome.failed} of them failed")
        return self._as(state="done", says=says if outcome.called else "nothing was missing")

    async def _plan(self, store: Store, providers: ProviderPool) -> Plan:
        """The run's own plan; suites, models or prompts may have changed since it was made."""
        sweep = sweep_from(dict(self._run.sweep), f"run {self._run.id}")
        folders = [
            folder
            for folder in self._folders
            if all((folder / path).is_file() for path in sweep.suites.values())
        ]
        for folder in folders:
            plan = await plan_sweep(sweep, folder, providers, store)
            if plan.epoch != self._run.epoch:
                plan = make_plan(
                    sweep,
                    plan.suites,
                    plan.identities,
                    epoch=self._run.epoch,
                    seeing=plan.seeing,
                )
            if plan.run_id == self._run.id:
                return plan
        if folders:
            raise ConfigError(
                f"run {self._run.id}: its suites, prompts or models have changed since, so what is"
                f" missing cannot be measured as the rest was; run the sweep {sweep.name} anew"
            )
        raise ConfigError(
            f"run {self._run.id}: its suites are not where its sweep says"
            f" ({next(iter(sweep.suites.values()))}); give sweep_folder, the folder of its file"
        )

    def _progress(self, progress: Progress) -> None:
        where = f"{progress.trial.agent} on {progress.trial.target}" if progress.trial else ""
        self._latest = Measured(
            state="running",
            done=progress.done,
            failed=progress.failed,
            total=progress.total,
            says=f"{where}: {progress.error}" if progress.error else where,
        )
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S:
            self._told_at = now
            self._on_change(self._latest)

    def _as(self, *, state: Literal["done", "stopped", "failed"], says: str) -> Measured:
        latest = self._latest
        return Measured(
            state=state, done=latest.done, failed=latest.failed, total=latest.total, says=says
        )

    def _tell(self, measured: Measured) -> None:
        self._latest = measured
        self._on_change(measured)
