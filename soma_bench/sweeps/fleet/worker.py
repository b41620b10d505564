"""A worker of a fleet: a nanny that starts the process with the models, and starts it again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from soma_bench.errors import ConfigError
from soma_bench.providers.places import is_loopback
from soma_bench.sweeps.fleet import host
from soma_bench.sweeps.fleet.address import parse_address, refuse_open_wire
from soma_bench.sweeps.fleet.link import CONNECT_S, SETTINGS


async def serve_worker(
    scheduler: str,
    *,
    name: str | None = None,
    listen: str | None = None,
    plain_tcp: bool = False,
    on_ready: Callable[[str, str], None] = lambda _name, _address: None,
) -> None:
    """Serve a scheduler until it ends or this process is told to.

    Args:
        scheduler: its address.
        name: what the worker is called; the machine's name by default.
        listen: address of this machine to listen on; loopback for a scheduler on this machine, else
            the one that leads to the scheduler.
        plain_tcp: whether another machine may be spoken to without TLS.
        on_ready: told the worker's name and address once it serves.

    Raises:
        ConfigError: it is no address, nobody answers there, or the way there is open to others.
    """
    parse_address(scheduler)
    refuse_open_wire(scheduler, plain_tcp=plain_tcp)
    try:
        import dask
        from distributed import Nanny, rpc
        from distributed.security import Security
    except ImportError as error:
        raise ConfigError("a worker needs Dask; run: pip install 'soma-bench[fleet]'") from error
    if listen is None and is_loopback(scheduler):
        listen = "127.0.0.1"
    with dask.config.set(SETTINGS):
        security = Security()
        try:
            async with rpc(
                scheduler, connection_args=security.get_connection_args("client")
            ) as remote:
                await asyncio.wait_for(remote.identity(n_workers=0), CONNECT_S)
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"no Dask scheduler can be spoken to at {scheduler}"
                f" ({str(error).strip() or type(error).__name__}); start one, or look at the address"
                " and at Dask's TLS settings"
            ) from error
        called = name or socket.gethostname()
        async with Nanny(
            scheduler,
            name=called,
            host=listen,
            nthreads=1,
            memory_limit=0,
            preload=[host.__name__],
            security=security,
            protocol=scheduler.partition(":")[0],
        ) as nanny:
            on_ready(called, nanny.worker_address or scheduler)
            await nanny.finished()
