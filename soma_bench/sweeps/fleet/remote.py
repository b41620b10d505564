"""Providers whose backend is a worker's."""

from __future__ import annotations

from collections.abc import AsyncIterator

from soma_bench.errors import ProviderError
from soma_bench.providers.base import Availability, Capabilities
from soma_bench.sweeps.fleet import host
from soma_bench.sweeps.fleet.link import Fleet, Worker, WorkerLostError
from soma_bench.types import Chunk, Completion, ModelIdentity, ProviderName, Request


class RemoteProvider:
    """A provider of one worker.

    Whatever goes to a cloud has been cleared before it comes here, as with any provider; the worker
    holds it against the sweep's privacy once more.

    Args:
        fleet: the way to the worker.
        worker: the worker.
        name: which of its providers.
    """

    def __init__(self, fleet: Fleet, worker: Worker, name: ProviderName) -> None:
        self.name: ProviderName = name
        self._fleet = fleet
        self._worker = worker
        own = [offer.is_local for model, offer in worker.offers.items() if model[0] == name]
        self.is_local = bool(own) and all(own)

    async def complete(self, request: Request) -> Completion:
        """Answer one request; its times are the worker's.

        Raises:
            WorkerLostError: the worker is gone, or the backend on it: others may still answer.
            ProviderError: the backend failed.
        """
        at, level = self._worker.address, self._fleet.privacy
        try:
            return await self._fleet.call(at, host.answer, self.name, request, level)
        except ProviderError as error:
            if error.kind != "not_running":
                raise
            # As a failure it would be kept, and this worker would soon have failed all trials.
            raise WorkerLostError(f"worker {self._worker.name}: {error}") from error

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The same as one chunk: the worker streams, and times each token."""
        yield Chunk(completion=await self.complete(request))

    async def available(self) -> Availability:
        """The sweep's models that the worker has."""
        return Availability(
            tuple(m for provider, m in self._worker.offers if provider == self.name)
        )

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do there."""
        return await self._fleet.call(self._worker.address, host.capabilities, self.name, model)

    async def identity(self, model: str) -> ModelIdentity:
        """What a model is there."""
        return self._worker.offers[self.name, model].identity

    async def memory_bytes(self, model: str) -> int | None:  # noqa: ARG002
        """None: it comes with each answer."""
        return None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free the worker's models but those in ``keep``."""
        await self._fleet.call(self._worker.address, host.unload, self.name, keep)

    async def close(self) -> None:
        """Nothing: a worker keeps its providers."""


class FleetProvider:
    """A provider of a whole fleet, for planning: it knows what any worker has.

    Args:
        fleet: the fleet.
        name: which provider.
    """

    def __init__(self, fleet: Fleet, name: ProviderName) -> None:
        self.name: ProviderName = name
        self._fleet = fleet
        self._asked: dict[str, RemoteProvider] = {}
        offers = [
            offer
            for worker in fleet.workers
            for model, offer in worker.offers.items()
            if model[0] == name
        ]
        self.is_local = bool(offers) and all(offer.is_local for offer in offers)

    async def complete(self, request: Request) -> Completion:
        """Answer one request on the first worker that has the model."""
        return await self._at(request.model).complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request on the first worker that has the model."""
        async for chunk in self._at(request.model).stream(request):
            yield chunk

    async def available(self) -> Availability:
        """The sweep's models that any worker has."""
        found = {m for worker in self._fleet.workers for p, m in worker.offers if p == self.name}
        return Availability(tuple(sorted(found)))

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do."""
        return await self._at(model).capabilities(model)

    async def identity(self, model: str) -> ModelIdentity:
        """What a model is; it is the same on all workers that have it."""
        return await self._at(model).identity(model)

    async def memory_bytes(self, model: str) -> int | None:  # noqa: ARG002
        """None: nothing is loaded for planning."""
        return None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free what was loaded to be asked about."""
        for provider in self._asked.values():
            await provider.unload(keep)
        self._asked.clear()

    async def close(self) -> None:
        """Nothing: workers keep their providers."""

    def _at(self, model: str) -> RemoteProvider:
        for worker in self._fleet.workers:
            if (self.name, model) in worker.offers:
                return self._asked.setdefault(
                    worker.address, RemoteProvider(self._fleet, worker, self.name)
                )
        workers = ", ".join(worker.name for worker in self._fleet.workers) or "there are none"
        raise ProviderError(
            self.name,
            f"no worker has {model} or a key for it (workers: {workers}); pull it or set its key"
            " where a worker runs, and start that worker anew",
            kind="model_missing",
        )
