"""All providers asked at once what they have; one that hangs is given up and holds up nobody.

Each is asked in a daemon thread with an event loop of its own, so that even a name server that never
answers cannot keep the process from going on or from ending.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from soma_bench.errors import SomaError
from soma_bench.providers import Backend, Provider, create_provider
from soma_bench.types import ProviderName

LIMIT_S = 1.8
"""How long a provider may take to say what it has; importing its library does not count."""

_ADDRESSES: Mapping[ProviderName, str] = {
    "ollama": "http://127.0.0.1:11434",
    "claude": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}
"""Where the providers look that are told no address."""
_KEYS: Mapping[ProviderName, str] = {"claude": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
_MOST_SIZES = 64
"""Sizes are asked for model by model; a longer list is left without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReport:
    """One provider, as it is now."""

    provider: ProviderName
    usable: bool
    reason: str | None
    """Why it is not usable; None when it is."""
    address: str | None
    """Where its backend is; None for a provider that runs its models on this machine by itself."""
    engine: str | None = None
    """What runs its models, with the version, where it says so."""
    models: Mapping[str, int | None]
    """Size of the weights in bytes by the model's name; None where the backend does not say."""


def survey(
    backends: Mapping[ProviderName, Backend], *, limit_s: float = LIMIT_S
) -> tuple[ProviderReport, ...]:
    """What each provider has, in the order of ``backends``; takes little longer than ``limit_s``."""
    reports: dict[ProviderName, ProviderReport] = {}
    asked: dict[ProviderName, Provider] = {}
    for name, backend in backends.items():
        if name in _KEYS and backend.api_key is None and backend.base_url is None:
            reports[name] = _unusable(name, backend, f"there is no API key; set {_KEYS[name]}")
            continue
        try:
            asked[name] = create_provider(name, backend)
        except SomaError as error:
            reports[name] = _unusable(name, backend, str(error))
    # Counted only now: importing a provider's library takes its time, but never hangs.
    deadline = time.monotonic() + limit_s
    answers: queue.SimpleQueue[tuple[ProviderName, ProviderReport | Exception]] = (
        queue.SimpleQueue()
    )
    for name, provider in asked.items():
        arguments = (name, backends[name], provider, limit_s, answers)
        threading.Thread(target=_ask, args=arguments, daemon=True).start()
    while asked.keys() - reports.keys():
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, Exception):
            if not isinstance(answer, SomaError):
                raise answer
            answer = _unusable(name, backends[name], str(answer))
        reports[name] = answer
    late = f"no answer within {limit_s:g} s"
    return tuple(reports.get(name) or _unusable(name, backends[name], late) for name in backends)


def _unusable(name: ProviderName, backend: Backend, reason: str) -> ProviderReport:
    return ProviderReport(
        provider=name, usable=False, reason=reason, address=_address(name, backend), models={}
    )


def _address(name: ProviderName, backend: Backend) -> str | None:
    return backend.base_url or _ADDRESSES.get(name)


def _ask(
    name: ProviderName,
    backend: Backend,
    provider: Provider,
    limit_s: float,
    answers: queue.SimpleQueue[tuple[ProviderName, ProviderReport | Exception]],
) -> None:
    address = _address(name, backend)
    try:
        if address:
            _resolve(address)
        answers.put((name, asyncio.run(_look(name, address, provider, limit_s))))
    except TimeoutError:
        return  # the one who asks has given up by then
    except Exception as error:  # noqa: BLE001 - it is raised again where the answers are read
        answers.put((name, error))


def _resolve(address: str) -> None:
    """Wait here for the name server: the event loop's own look-up would outlive its time limit."""
    parts = urlsplit(address)
    if parts.scheme in urllib.request.getproxies():
        return  # the proxy looks the name up
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
    except OSError as error:
        raise SomaError(f"{parts.hostname} cannot be found: {error.strerror or error}") from error


async def _look(
    name: ProviderName, address: str | None, provider: Provider, limit_s: float
) -> ProviderReport:
    async with asyncio.timeout(limit_s):
        try:
            availability = await provider.available()
            models: dict[str, int | None] = dict.fromkeys(availability.models)
            engine = None
            if availability.models and provider.is_local:
                models |= await _sizes(name, provider, availability.models[:_MOST_SIZES])
                if name != "mlx":
                    engine = (await provider.identity(availability.models[0])).engine
            return ProviderReport(
                provider=name,
                usable=availability.reason is None,
                reason=availability.reason,
                address=address,
                engine=engine,
                models=models,
            )
        finally:
            await provider.close()


async def _sizes(
    name: ProviderName, provider: Provider, models: tuple[str, ...]
) -> dict[str, int | None]:
    if name == "mlx":
        # Its identity digests all weights, which takes minutes the first time.
        from soma_bench.providers import mlx_models

        return {model: mlx_models.find(model).size_bytes for model in models}
    identities = await asyncio.gather(*(provider.identity(model) for model in models))
    return {
        model: identity.weights_bytes for model, identity in zip(models, identities, strict=True)
    }
