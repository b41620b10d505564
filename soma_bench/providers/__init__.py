"""Providers: one module per kind of backend, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from soma_bench.errors import ConfigError
from soma_bench.providers.base import Provider
from soma_bench.types import PROVIDERS, ProviderName


def _llamacpp() -> Provider:
    from soma_bench.providers.llamacpp import LlamaCpp

    return LlamaCpp()


_FACTORIES: Mapping[ProviderName, Callable[[], Provider]] = {"llamacpp": _llamacpp}


def create_provider(name: ProviderName) -> Provider:
    """A provider by name, set up from the environment; the caller closes it.

    Raises:
        ConfigError: this version cannot speak to that kind of backend.
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        usable = ", ".join(provider for provider in PROVIDERS if provider in _FACTORIES)
        raise ConfigError(f"provider {name!r} cannot be called by this version; it calls: {usable}")
    return factory()


__all__ = ["Provider", "create_provider"]
