"""``soma-bench worker``, and how ``soma-bench sweep`` is told of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from soma_bench.sweeps.fleet.address import ClusterUse, parse_cluster

_plain_tcp_option = click.option(
    "--plain-tcp",
    is_flag=True,
    help="Speak to other machines without TLS: whoever reaches the port can run code there.",
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--cluster`` and what belongs to it; the command gets a `ClusterUse` or None."""

    @click.option(
        "--cluster",
        "address",
        metavar="ADDRESS",
        help="Have a Dask cluster answer: tcp://HOST:PORT, tls://HOST:PORT, or local:N workers here.",
    )
    @click.option(
        "--trust",
        "trusted",
        metavar="HOST",
        multiple=True,
        help="With --cluster: a machine of your own, which private cases may go to. Repeatable.",
    )
    @_plain_tcp_option
    @wraps(command)
    def told(
        *args: Any, address: str | None, trusted: tuple[str, ...], plain_tcp: bool, **kwargs: Any
    ) -> Any:
        if address is None and (trusted or plain_tcp):
            raise click.UsageError("--trust and --plain-tcp say how to use --cluster; give it too")
        use = None
        if address is not None:
            use = ClusterUse(
                cluster=parse_cluster(address),
                trusted_hosts=frozenset(trusted),
                plain_tcp=plain_tcp,
            )
        return command(*args, cluster=use, **kwargs)

    return told


@click.command(epilog="Example: soma-bench worker tls://mac-1.local:8786 --name mac-2")
@click.argument("scheduler")
@click.option("--name", help="What the worker is called; this machine's name by default.")
@click.option("--host", help="Address of this machine to listen on.")
@_plain_tcp_option
def worker(scheduler: str, name: str | None, host: str | None, plain_tcp: bool) -> None:
    """Serve the Dask scheduler at SCHEDULER with this machine's models and keys.

    Runs until it is told to stop: a scheduler that ends is waited for, and a process that dies with
    a model in it is started again.
    """
    from soma_bench.sweeps.fleet.worker import serve_worker

    serving = serve_worker(scheduler, name=name, listen=host, plain_tcp=plain_tcp, say=click.echo)
    asyncio.run(serving)
