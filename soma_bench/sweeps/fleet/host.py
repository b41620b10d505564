"""What runs on a worker: asking the providers of its machine, with the keys of its environment.

Every function gives back what went wrong instead of raising it, because Dask logs the arguments of
what raises, and those hold prompts.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from soma_bench import __version__
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError, PrivacyError, ProviderError, SomaError
from soma_bench.providers import backend_from_environment
from soma_bench.providers.base import Capabilities
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.transports import CloudTransport
from soma_bench.routing.privacy import Guard, stays
from soma_bench.sweeps.asking import Watched, asked_here, whole
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.machine import Watch
from soma_bench.types import (
    LOCAL_PROVIDERS,
    PROVIDERS,
    ModelIdentity,
    PrivacyLevel,
    ProviderName,
    Request,
    Target,
)

P = ParamSpec("P")
T = TypeVar("T")

_providers = ProviderPool()
"""The worker's providers: a loaded model outlives the call that loaded it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What went wrong on a worker."""

    error: SomaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a worker has."""

    version: str
    """Of soma_bench."""
    accelerator: str
    """``metal`` on a Mac with Apple silicon, else ``cpu``."""
    models: dict[ProviderName, tuple[str, ...]]
    """Models of local providers, by exact name."""
    keys: tuple[ProviderName, ...]
    """Providers that it has a key for; the keys stay where they are."""
    environment: dict[str, Any]
    """Its hardware and library versions."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One model as a worker has it."""

    identity: ModelIdentity
    is_local: bool
    """Whether it runs on that machine or one that counts as its own."""


@dataclass(frozen=True, slots=True)
class _OnlyOpen:
    """A policy for the guard's last look: nothing is made fit to go on a worker."""

    images_may_leave: bool = False
    nlp_model: str | None = None
    deidentifies: bool = False


def _told(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T | Failed]]:
    @wraps(work)
    async def telling(*args: P.args, **kwargs: P.kwargs) -> T | Failed:
        try:
            return await work(*args, **kwargs)
        except SomaError as error:
            return Failed(error)
        except Exception as error:  # noqa: BLE001 - raised again where the call came from
            return Failed(SomaError(f"{type(error).__name__}: {error}"))

    return telling


@_told
async def labels() -> Labels:
    """What this worker has."""
    models: dict[ProviderName, tuple[str, ...]] = {}
    for name in PROVIDERS:
        if name in LOCAL_PROVIDERS:
            try:
                models[name] = (await _providers.get(name).available()).models
            except SomaError:
                continue  # its library or its server is not on this machine
    environment = read_environment()
    clouds = [name for name in PROVIDERS if name not in LOCAL_PROVIDERS]
    keys = [name for name in clouds if backend_from_environment(name, environment).api_key]
    is_apple = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return Labels(
        version=__version__,
        accelerator="metal" if is_apple else "cpu",
        models={name: found for name, found in models.items() if found},
        keys=tuple(keys),
        environment=describe_environment(),
    )


@_told
async def offer(name: ProviderName, model: str) -> Offer | None:
    """The model as this worker has it; None where it does not. It is not loaded."""
    if name not in LOCAL_PROVIDERS and backend_from_environment(name).api_key is None:
        return None
    try:
        provider = _providers.get(name)
        identity = await provider.identity(model)
    except (ConfigError, ProviderError):
        return None
    return Offer(identity, stays(Target(name, model), provider))


@_told
async def capabilities(name: ProviderName, model: str) -> Capabilities:
    """What a model can do."""
    return await _providers.get(name).capabilities(model)


@_told
async def answer(name: ProviderName, request: Request, level: PrivacyLevel) -> Watched:
    """Answer a request.

    Args:
        name: which provider.
        request: what is asked.
        level: how private it is. To a cloud a worker lets out what is open alone: what has to be
            de-identified goes out where the case is known.
    """
    provider = _providers.get(name)
    target = Target(name, request.model, request.thinking)
    watch = Watch(name)
    if stays(target, provider):
        completion = await asked_here(provider, request)
    elif level != "open":
        raise PrivacyError(
            f"{target}: nothing was sent: a worker's calls to a cloud are for open cases, and this"
            f" one is {level}"
        )
    else:
        cleared = Guard(_OnlyOpen()).clear(request, target, level)
        completion = await whole(name, CloudTransport(provider).stream(cleared))
    parts = {part: getattr(completion, part) for part in completion.__dataclass_fields__}
    return Watched(
        **parts, load=watch.stop(), memory_bytes=await provider.memory_bytes(request.model)
    )


@_told
async def unload(name: ProviderName, keep: frozenset[str]) -> None:
    """Free the provider's models but those in ``keep``."""
    await _providers.get(name).unload(keep)


async def dask_teardown(_: object) -> None:
    """Free everything when the worker ends; Dask calls this where the module is preloaded."""
    await _providers.close()
