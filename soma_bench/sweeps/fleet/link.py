"""The connection to a cluster: who is there, and calls that are pinned to one worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from soma_bench import __version__
from soma_bench.errors import ConfigError, SomaError
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.fleet import host
from soma_bench.sweeps.fleet.address import (
    ClusterUse,
    refuse_open_wire,
    refuse_strangers,
)
from soma_bench.sweeps.fleet.dask_settings import CONNECT_S, HOST, SETTINGS, told_by
from soma_bench.sweeps.fleet.host import Failed, Labels, Offer
from soma_bench.sweeps.plan import ModelKey
from soma_bench.types import PrivacyLevel

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")


class WorkerLostError(SomaError):
    """A worker, or its backend, went away in the middle of a call; the trial is still to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker that may be given trials."""

    name: str
    address: str
    labels: Labels
    offers: dict[ModelKey, Offer]
    """Those of the sweep's models that it has."""


class Fleet:
    """A connected cluster; made by `connect`.

    Args:
        client: a connected Dask client.
        models: what the sweep needs.
        privacy: how private the sweep's cases are.
        use: what the user says about the cluster.
    """

    def __init__(
        self,
        client: Client,
        models: Iterable[ModelKey],
        privacy: PrivacyLevel,
        use: ClusterUse,
    ) -> None:
        self._client = client
        self._models = tuple(models)
        self.privacy = privacy
        self._use = use
        self._known: dict[str, Worker] = {}

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers as `look` last saw them, by name."""
        return tuple(sorted(self._known.values(), key=lambda worker: worker.name))

    def environment(self) -> dict[str, Any]:
        """Hardware and libraries that figures are measured with: of one worker, and of each."""
        each = {worker.name: worker.labels.environment for worker in self.workers}
        return {**next(iter(each.values()), describe_environment()), "workers": each}

    async def look(self) -> tuple[Worker, ...]:
        """See who is there now; who is new is asked what it has.

        Raises:
            ConfigError: the scheduler is gone, a worker has another version or another build of a
                model, or speaks without TLS.
            PrivacyError: a machine is not named as one's own, and the cases must not leave them.
        """
        try:
            told = await self._client.scheduler.identity(n_workers=-1)
        except (OSError, TimeoutError) as error:
            raise ConfigError(
                "the cluster's scheduler is gone; what has ended is stored: start the scheduler and"
                " its workers, and give the same command again"
            ) from error
        there = {address: str(worker["name"]) for address, worker in told["workers"].items()}
        for address in (told["address"], *there):
            refuse_open_wire(address, plain_tcp=self._use.plain_tcp)
        if self.privacy != "open":
            refuse_strangers((told["address"], *there), self._use.trusted_hosts)
        self._known = {at: worker for at, worker in self._known.items() if at in there}
        new = [address for address in there if address not in self._known]
        met = await asyncio.gather(*(self._meet(there[at], at) for at in new))
        self._known.update((worker.address, worker) for worker in met if worker)
        refuse_differences(self.workers)
        return self.workers

    def forget(self, worker: Worker) -> None:
        """Ask a worker anew what it has when it is seen again: it was lost, or its backend was."""
        self._known.pop(worker.address, None)

    async def call(
        self, address: str, work: Callable[..., Awaitable[T | Failed]], *args: object
    ) -> T:
        """Run a function of `host` on one worker.

        Raises:
            WorkerLostError: the worker or the way to it is gone.
            SomaError: what the function found wrong.
        """
        try:
            result = (await self._client.run(work, *args, workers=[address]))[address]
        except (OSError, TimeoutError, KeyError) as error:
            raise WorkerLostError(f"worker {address} is gone") from error
        if isinstance(result, Failed):
            raise result.error
        found: T = result
        return found

    async def _meet(self, name: str, address: str) -> Worker | None:
        """Ask a worker what it has; None where it is gone again."""
        try:
            labels: Labels = await self.call(address, host.labels)
            refuse_other_version(name, address, labels)
            found: list[Offer | None] = await asyncio.gather(
                *(self.call(address, host.offer, *model) for model in self._models)
            )
        except WorkerLostError:
            return None
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"worker {name} ({address}) has no soma_bench like this one ({__version__}): {error};"
                " install the same version on both"
            ) from error
        offers = {model: o for model, o in zip(self._models, found, strict=True) if o is not None}
        return Worker(name=name, address=address, labels=labels, offers=offers)


def refuse_other_version(name: str, address: str, labels: Labels) -> None:
    """Stop where a worker's soma_bench is not this one: it may word or read things differently.

    Raises:
        ConfigError: it is another version.
    """
    if labels.version != __version__:
        raise ConfigError(
            f"worker {name} ({address}) runs soma_bench {labels.version}, and this is {__version__};"
            " install the same version on both"
        )


def refuse_differences(workers: Iterable[Worker]) -> None:
    """Stop where one name means two things: the trials of a target must be of one model.

    Raises:
        ConfigError: two workers have other weights, templates or engines under the same name.
    """
    first: dict[ModelKey, Worker] = {}
    for worker in workers:
        for model, offer in worker.offers.items():
            other = first.setdefault(model, worker)
            if other.offers[model].identity != offer.identity:
                raise ConfigError(
                    f"{':'.join(model)} is not the same on workers {other.name} and {worker.name}:"
                    f" {_told_apart(other.offers[model])} and {_told_apart(offer)};"
                    " bring both to the same model and engine"
                )


def _told_apart(offer: Offer) -> str:
    weights = (offer.identity.weights_digest or "unknown weights").removeprefix("sha256:")[:12]
    return f"{weights} under {offer.identity.engine}"


@asynccontextmanager
async def connect(
    use: ClusterUse, models: Iterable[ModelKey], privacy: PrivacyLevel
) -> AsyncIterator[Fleet]:
    """Connect to a cluster, or start one here, for as long as the context lasts.

    Args:
        use: where it is, and what the user says about it.
        models: what the sweep needs.
        privacy: how private the sweep's cases are.

    Raises:
        ConfigError: nobody answers there, or see `Fleet.look`.
        PrivacyError: see `Fleet.look`.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError("--cluster needs Dask; run: pip install 'soma-bench[fleet]'") from error
    # Dask tells of each lost connection at length; what matters of it is told once, by the run.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cluster = use.cluster
    where: Any
    with dask.config.set(SETTINGS):
        if cluster.address is None:
            started = LocalCluster(
                n_workers=cluster.workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                security=True,
                asynchronous=True,
                preload=[HOST],
            )
            where = started
        else:
            refuse_open_wire(cluster.address, plain_tcp=use.plain_tcp)
            started = None
            where = cluster.address
        try:
            if started is not None:
                await started
            client = await _client(Client, where)
            try:
                fleet = Fleet(client, models, privacy, use)
                await fleet.look()
                yield fleet
            finally:
                await client.close(timeout=CONNECT_S)
        finally:
            if started is not None:
                await started.close()


async def _client(make: Callable[..., Any], where: Any) -> Any:
    client = make(where, asynchronous=True, timeout=CONNECT_S, set_as_default=False)
    try:
        await client
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        await client.close(timeout=0)
        raise ConfigError(
            f"no Dask scheduler can be spoken to at {where}"
            f" ({told_by(error)}); start one, or look at the address"
            " and at Dask's TLS settings"
        ) from error
    return client
