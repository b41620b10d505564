"""Providers: one module per kind of backend, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soma_bench.providers.base import Provider
from soma_bench.types import Limits, ProviderName

if TYPE_CHECKING:
    from pydantic import SecretStr

    from soma_bench.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """How to reach a provider's backend; None leaves a setting to the provider's default."""

    base_url: str | None = None
    api_key: SecretStr | None = None
    limits: Limits | None = None
    trusted_hosts: frozenset[str] = frozenset()
    """Hosts besides loopback whose Ollama counts as one's own machine."""


def _llamacpp(backend: Backend) -> Provider:
    from soma_bench.providers.llamacpp import LlamaCpp

    return LlamaCpp(limits=backend.limits)


def _mlx(backend: Backend) -> Provider:
    from soma_bench.providers.mlx import Mlx

    return Mlx(limits=backend.limits)


def _ollama(backend: Backend) -> Provider:
    from soma_bench.providers.ollama import Ollama

    return Ollama(
        base_url=backend.base_url, limits=backend.limits, trusted_hosts=backend.trusted_hosts
    )


def _claude(backend: Backend) -> Provider:
    from soma_bench.providers.claude import Claude

    return Claude(base_url=backend.base_url, api_key=backend.api_key, limits=backend.limits)


def _openai(backend: Backend) -> Provider:
    from soma_bench.providers.openai import OpenAI

    return OpenAI(base_url=backend.base_url, api_key=backend.api_key, limits=backend.limits)


_FACTORIES: Mapping[ProviderName, Callable[[Backend], Provider]] = {
    "ollama": _ollama,
    "mlx": _mlx,
    "llamacpp": _llamacpp,
    "claude": _claude,
    "openai": _openai,
}


def create_provider(name: ProviderName, backend: Backend | None = None) -> Provider:
    """A provider by name; the caller closes it.

    Args:
        name: which provider.
        backend: how to reach it; what the environment says by default.

    Raises:
        ConfigError: an environment variable is wrong, or a library that it needs is missing.
    """
    return _FACTORIES[name](backend or backend_from_environment(name))


def backend_from_environment(name: ProviderName, environment: Environment | None = None) -> Backend:
    """How the environment says to reach a provider's backend.

    Args:
        name: which provider.
        environment: the environment; read anew by default.

    Raises:
        ConfigError: a variable has a value that it cannot have.
    """
    if environment is None:
        from soma_bench.environment import read_environment

        environment = read_environment()
    if name == "ollama":
        return Backend(base_url=environment.ollama_base_url)
    if name == "claude":
        return Backend(base_url=environment.claude_base_url, api_key=environment.claude_key)
    if name == "openai":
        return Backend(base_url=environment.openai_base_url, api_key=environment.openai_key)
    return Backend()


__all__ = ["Backend", "Provider", "backend_from_environment", "create_provider"]
