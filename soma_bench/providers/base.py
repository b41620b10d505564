"""What every provider offers, whatever its backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from soma_bench.types import Chunk, Completion, ModelIdentity, ProviderName, Request


@dataclass(frozen=True, slots=True)
class Availability:
    """Which models a provider can run now, by exact name."""

    models: tuple[str, ...]
    """Exact names of the models that are present."""
    reason: str | None = None
    """Why the provider cannot be used at all; None when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model can do."""

    vision: bool
    thinking_levels: tuple[str, ...]
    """Accepted values besides a token budget, e.g. ``("off",)``."""
    thinking_budget: bool
    """Whether a number of thinking tokens is accepted."""
    schema: bool
    """Whether answers can be held to a JSON Schema by the backend."""
    context_tokens: int | None
    """Longest context that the model was made for."""
    weights_bytes: int | None


class Provider(Protocol):
    """Speaks to one kind of backend.

    A completion is whole or it is a `ProviderError`. What a backend cannot honour (a thinking
    level, an image, a context) is a `ConfigError` before the call, never ignored. Providers do
    not retry: the router or the sweep does.
    """

    name: ProviderName
    is_local: bool

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request piece by piece; the last chunk carries the `Completion`."""

    async def available(self) -> Availability:
        """Which models are present, by exact name."""

    async def capabilities(self, model: str) -> Capabilities:
        """What ``model`` can do."""

    async def identity(self, model: str) -> ModelIdentity:
        """What ``model`` is, for a trial's key and record; must not load it."""

    async def memory_bytes(self, model: str) -> int | None:
        """Measured memory of the loaded model; None if it is not loaded or cannot be measured."""

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free every loaded model but those in ``keep``."""

    async def close(self) -> None:
        """Free everything; the provider is not used afterwards."""
