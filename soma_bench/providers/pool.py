"""The providers that a sweep or a pipeline has opened, each made once and all closed together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from soma_bench.providers import create_provider
from soma_bench.providers.base import Provider
from soma_bench.types import ProviderName


class ProviderPool:
    """Makes a provider when it is first asked for; use it as an asynchronous context manager."""

    def __init__(self, factory: Callable[[ProviderName], Provider] = create_provider) -> None:
        self._factory = factory
        self._open: dict[ProviderName, Provider] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ProviderPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get(self, name: ProviderName) -> Provider:
        """The provider of that name.

        Raises:
            ConfigError: it cannot be made.
        """
        if name not in self._open:
            provider = self._open[name] = self._factory(name)
            self._stack.push_async_callback(provider.close)
        return self._open[name]

    async def close(self) -> None:
        """Close every provider that was made."""
        await self._stack.aclose()
