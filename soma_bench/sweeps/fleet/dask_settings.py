"""Dask's settings for workers that hold models."""

from __future__ import annotations

CONNECT_S = 4.0
"""How long a scheduler or a worker may take to say that it is there."""
HOST = "soma_bench.sweeps.fleet.host"
"""The module that workers preload, by name: only a worker's own process has to import it."""
SETTINGS = {
    # A worker inside native code answers no heartbeat, and is not dead for that.
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.allowed-failures": 1,
    "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    "logging": {"distributed": "warning"},
}


def told_by(error: BaseException) -> str:
    """What an error of Dask's says; some say nothing but their name."""
    return str(error).strip() or type(error).__name__
