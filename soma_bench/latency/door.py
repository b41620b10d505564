"""The way out to a target: what leaves this machine passes the guard, as in a sweep."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from soma_bench.errors import ConfigError
from soma_bench.providers.base import Provider
from soma_bench.providers.transports import CloudTransport, LocalTransport
from soma_bench.routing.privacy import Guard, stays
from soma_bench.types import Chunk, PrivacyLevel, Request, Target


@dataclass(frozen=True, slots=True)
class _Policy:
    """What the guard asks: images stay, and names are found by patterns alone."""

    deidentifies: bool
    images_may_leave: bool = False
    nlp_model: str | None = None


class Door:
    """Puts requests to one target.

    Args:
        target: where they go.
        provider: its provider; the caller closes it.
        level: how private the requests are.

    Raises:
        ConfigError: the target is elsewhere, and the requests must not leave this machine.
    """

    def __init__(self, target: Target, provider: Provider, level: PrivacyLevel) -> None:
        self.target = target
        self.provider = provider
        self.is_local = stays(target, provider)
        """Whether requests stay on machines of one's own."""
        self._level = level
        if not self.is_local and level == "local_only":
            raise ConfigError(
                f"latency: {target} leaves this machine, and the requests are local_only; leave it"
                " out, or give --privacy open where they hold no patient's data (made-up prompts"
                " hold none), or --privacy deidentified"
            )
        deidentifies = not self.is_local and level == "deidentified"
        self._guard = Guard(_Policy(deidentifies))

    def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """The answer to one request, piece by piece.

        Raises:
            PrivacyError: it may not leave; nothing was sent.
        """
        if self.is_local:
            return LocalTransport(self.provider).stream(request)
        cleared = self._guard.clear(request, self.target, self._level)
        return CloudTransport(self.provider).stream(cleared)
