"""Where a cluster is, and who may listen on the way there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.providers.places import is_loopback, is_own

_FORMS = "tcp://HOST:PORT, tls://HOST:PORT, local or local:N"
_MOST_LOCAL = 64


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler's address, or so many workers to start on this machine."""

    address: str | None
    """``tcp://host:port`` or ``tls://host:port``; None for workers started here."""
    workers: int = 1
    """Workers to start here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterUse:
    """A cluster, and what the user says about it."""

    cluster: Cluster
    trusted_hosts: frozenset[str] = frozenset()
    """Hosts besides loopback that are machines of one's own, by their exact names or addresses."""
    plain_tcp: bool = False
    """Whether other machines may be spoken to without TLS."""


def parse_cluster(text: str) -> Cluster:
    """Read what ``--cluster`` takes.

    Raises:
        ConfigError: it is no address.

    >>> parse_cluster("local:3")
    Cluster(address=None, workers=3)
    """
    if local := re.fullmatch(r"local(?::([0-9]{1,4}))?", text):
        workers = int(local[1] or 1)
        if not 1 <= workers <= _MOST_LOCAL:
            raise ConfigError(f"--cluster {text}: from 1 to {_MOST_LOCAL} workers can be started")
        return Cluster(None, workers)
    return Cluster(parse_address(text))


def parse_address(text: str) -> str:
    """A scheduler's address, checked.

    Raises:
        ConfigError: it is none.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{text!r} is no cluster: {error}; give {_FORMS}") from error
    plain = not (parts.username or parts.path or parts.query or parts.fragment)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not port or not plain:
        raise ConfigError(f"{text!r} is no cluster; give {_FORMS}")
    return text


def refuse_open_wire(address: str, *, plain_tcp: bool) -> None:
    """Stop before code and requests go over a network where others could read or send them.

    Dask runs whatever it is sent: who can reach a port without TLS owns the machine behind it.

    Args:
        address: of a scheduler or a worker.
        plain_tcp: whether the user has said that the network is theirs alone.

    Raises:
        ConfigError: it is another machine's, without TLS.
    """
    if not (is_loopback(address) or address.startswith("tls://") or plain_tcp):
        raise ConfigError(
            f"{address} is another machine without TLS, and whoever reaches such a port can run code"
            " there; use tls:// (docs/fleet.md), or say --plain-tcp where the network is yours alone"
        )


def refuse_strangers(addresses: Iterable[str], trusted_hosts: frozenset[str]) -> None:
    """Stop before a patient's data goes to a machine that nobody named.

    Args:
        addresses: of the scheduler and all workers.
        trusted_hosts: hosts besides loopback that are one's own, by their exact names.

    Raises:
        PrivacyError: one of them is neither.
    """
    for address in addresses:
        if not is_own(address, trusted_hosts):
            host = urlsplit(address).hostname
            raise PrivacyError(
                f"nothing was sent: the cases must stay on machines of your own, and {address} is not"
                f" named as one; say --trust {host} if it is, or privacy: open in the sweep"
            )
