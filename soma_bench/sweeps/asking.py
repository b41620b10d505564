"""One whole answer out of a stream, and what is known about how it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from soma_bench.errors import ProviderError
from soma_bench.providers.base import Provider, TimesTokens
from soma_bench.providers.transports import LocalTransport
from soma_bench.sweeps.machine import MachineLoad
from soma_bench.types import Chunk, Completion, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Completion):
    """An answer given on another machine, with what was seen of that machine meanwhile."""

    load: MachineLoad
    memory_bytes: int | None
    """Measured memory of the model there; None where it cannot be measured."""


async def asked_here(provider: Provider, request: Request) -> Completion:
    """The whole answer of a model on one's own machine, with the time of its first token.

    Raises:
        PrivacyError: the provider's models run elsewhere.
        ProviderError: there is no whole answer.
    """
    transport = LocalTransport(provider)
    if isinstance(provider, TimesTokens):
        return await transport.complete(request)
    return await whole(provider.name, transport.stream(request))


async def whole(provider: str, stream: AsyncIterator[Chunk]) -> Completion:
    """The completion at the end of a stream. Trials are streamed: only that times the first token.

    Args:
        provider: the provider's name, for the error.
        stream: its answer.

    Raises:
        ProviderError: the stream failed, or ended without its completion.
    """
    completion: Completion | None = None
    async for chunk in stream:
        completion = chunk.completion or completion
    if completion is None:
        raise ProviderError(provider, "the stream ended without its completion", kind="ended_early")
    return completion
