"""Who does what: each worker runs one model at a time, and all take trials from one plan."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from soma_bench.errors import ConfigError
from soma_bench.providers import Provider, create_provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.fleet.link import Fleet, Worker, WorkerLostError
from soma_bench.sweeps.fleet.remote import FleetProvider, RemoteProvider
from soma_bench.sweeps.plan import ModelKey
from soma_bench.sweeps.runner import MakeEngine
from soma_bench.types import LOCAL_PROVIDERS, ProviderName

_LOOK_EVERY_S = 1.0
_PATIENCE_S = 20.0
"""How long a model that no worker has any more may be missing: a nanny starts a worker anew."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Models that are being run, and by whom; None is this process."""

    worker: Worker | None
    models: frozenset[ModelKey]


class Crew:
    """Has a fleet run a plan.

    A free worker takes the model on which fewest work, of those that it has. So a worker loads each
    model once, and workers with the same models begin with different ones. An account in a cloud is
    one lane: one worker that has its key makes all calls to it. This process makes them itself where
    no worker has the key, and where they have to be de-identified, for the guard is here.

    Args:
        fleet: the fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._here = ProviderPool()
        self._jobs: dict[asyncio.Task[None], _Job] = {}

    def planner(self, name: ProviderName) -> Provider:
        """A provider that knows what the fleet has."""
        return FleetProvider(self._fleet, name) if self._is_far(name) else create_provider(name)

    async def drive(self, make: MakeEngine) -> None:
        """Run engines on workers until nothing is left or the run is to end.

        Raises:
            ConfigError: nobody is left who has a model, or see `Fleet.look`.
            SomaError: what an engine raises.
        """
        board = make(self._here)
        since_s: float | None = None
        try:
            while True:
                left = [] if board.is_over else board.models_left()
                if left:
                    await self._fleet.look()
                    self._employ(left, make)
                if self._jobs:
                    since_s = None
                    await self._wait()
                    continue
                if not left:
                    return
                since_s = since_s or time.monotonic()
                if time.monotonic() - since_s > _PATIENCE_S:
                    raise ConfigError(
                        f"no worker has {':'.join(left[0])} any more; what has ended is stored:"
                        " start a worker that has it, and give the same command again"
                    )
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            for task in self._jobs:
                task.cancel()
            await asyncio.gather(*self._jobs, return_exceptions=True)
            await self._here.close()

    def _is_far(self, name: ProviderName) -> bool:
        """Whether the provider's calls go out from workers."""
        if name in LOCAL_PROVIDERS:
            return True
        workers = self._fleet.workers
        has_key = any(name == offered for worker in workers for offered, _ in worker.offers)
        return has_key and self._fleet.privacy == "open"

    def _employ(self, left: Sequence[ModelKey], make: MakeEngine) -> None:
        """Give every free worker something to do."""
        here = frozenset(model for model in left if not self._is_far(model[0]))
        if here and not any(job.worker is None for job in self._jobs.values()):
            self._begin(_Job(None, here), self._here, make)
        busy = {job.worker.address for job in self._jobs.values() if job.worker}
        for worker in self._fleet.workers:
            if worker.address in busy:
                continue
            models = self._choose(worker, [model for model in left if model not in here])
            if models:
                self._begin(_Job(worker, models), self._pool(worker), make)

    def _choose(self, worker: Worker, left: Sequence[ModelKey]) -> frozenset[ModelKey]:
        """What a free worker does next: one local model, or else all of one account's."""
        at_work = Counter(model for job in self._jobs.values() for model in job.models)
        offered = [model for model in left if model in worker.offers]
        local = [model for model in offered if model[0] in LOCAL_PROVIDERS]
        if local:
            return frozenset({min(local, key=lambda model: at_work[model])})
        called = {name for name, _ in at_work}
        accounts = [name for name, _ in offered if name not in called]
        return frozenset(model for model in offered if model[0] == next(iter(accounts), None))

    def _pool(self, worker: Worker) -> ProviderPool:
        return ProviderPool(lambda name: RemoteProvider(self._fleet, worker, name))

    def _begin(self, job: _Job, providers: ProviderPool, make: MakeEngine) -> None:
        engine = make(providers, job.models)
        self._jobs[asyncio.create_task(engine.run())] = job

    async def _wait(self) -> None:
        """Wait until somebody is free, but no longer than until it is time to look around."""
        done, _ = await asyncio.wait(
            self._jobs, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            job = self._jobs.pop(task)
            try:
                task.result()
            except WorkerLostError:
                if job.worker:
                    self._fleet.forget(job.worker)
