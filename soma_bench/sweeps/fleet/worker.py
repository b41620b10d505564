"""A worker of a fleet: a nanny that starts the process with the models, and starts it again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from soma_bench.errors import ConfigError
from soma_bench.providers.places import is_loopback
from soma_bench.sweeps.fleet.address import parse_address, refuse_open_wire
from soma_bench.sweeps.fleet.dask_settings import CONNECT_S, HOST, SETTINGS, told_by

_TRY_EVERY_S = 1.0


async def serve_worker(
    scheduler: str,
    *,
    name: str | None = None,
    listen: str | None = None,
    plain_tcp: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a scheduler until this process is told to stop; one that ends is waited for.

    Args:
        scheduler: its address.
        name: what the worker is called; the machine's name by default.
        listen: address of this machine to listen on; loopback for a scheduler on this machine, else
            the one that leads to the scheduler.
        plain_tcp: whether another machine may be spoken to without TLS.
        say: told in a line when the worker serves, and when its scheduler is gone.

    Raises:
        ConfigError: it is no address, nobody answers there, or the way there is open to others.
    """
    parse_address(scheduler)
    refuse_open_wire(scheduler, plain_tcp=plain_tcp)
    called = name or socket.gethostname()
    if listen is None and is_loopback(scheduler):
        listen = "127.0.0.1"
    try:
        import dask

        dask.config.set(SETTINGS)
        from distributed import Nanny
    except ImportError as error:
        raise ConfigError("a worker needs Dask; run: pip install 'soma-bench[fleet]'") from error
    await _greet(scheduler)
    while True:
        async with Nanny(
            scheduler,
            name=called,
            host=listen,
            nthreads=1,
            memory_limit=0,
            preload=[HOST],
            protocol=scheduler.partition(":")[0],
        ) as nanny:
            say(f"worker {called} serves {scheduler}")
            await nanny.finished()
        say(f"worker {called} waits: the scheduler at {scheduler} is gone")
        await _wait_for(scheduler)


async def _greet(scheduler: str) -> None:
    """See whether a scheduler is there.

    Raises:
        ConfigError: none can be spoken to.
    """
    from distributed import rpc
    from distributed.security import Security

    try:
        arguments = Security().get_connection_args("client")
        async with rpc(scheduler, connection_args=arguments) as remote:
            await asyncio.wait_for(remote.identity(n_workers=0), CONNECT_S)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"no Dask scheduler can be spoken to at {scheduler} ({told_by(error)}); start one, or"
            " look at the address and at Dask's TLS settings"
        ) from error


async def _wait_for(scheduler: str) -> None:
    while True:
        await asyncio.sleep(_TRY_EVERY_S)
        try:
            await _greet(scheduler)
        except ConfigError:
            continue  # it is still gone
        return
