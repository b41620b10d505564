"""Whether targets could answer now: their backend is there, and has the model of exactly that name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from soma_bench.errors import SomaError
from soma_bench.providers.base import Availability
from soma_bench.providers.pool import ProviderPool
from soma_bench.types import ProviderName, Target

LIMIT_S = 2.0
"""How long a backend may take to say what it has."""


@dataclass(frozen=True, slots=True)
class Health:
    """One target, as it is now."""

    target: Target
    reason: str | None
    """Why it could not answer; None where it could."""


async def check(targets: Iterable[Target], providers: ProviderPool) -> tuple[Health, ...]:
    """The health of targets, in their order; every backend is asked once, all at the same time.

    No model is loaded and nothing of a case is sent.
    """
    wanted = tuple(dict.fromkeys(targets))
    names = tuple(dict.fromkeys(target.provider for target in wanted))
    found = await asyncio.gather(*(_availability(name, providers) for name in names))
    by_name = dict(zip(names, found, strict=True))
    return tuple(Health(target, _reason(target, by_name[target.provider])) for target in wanted)


async def _availability(name: ProviderName, providers: ProviderPool) -> Availability:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await providers.get(name).available()
    except TimeoutError:
        return Availability((), f"{name}: no answer within {LIMIT_S:g} s")
    except SomaError as error:
        return Availability((), str(error))


def _reason(target: Target, availability: Availability) -> str | None:
    if availability.reason is not None:
        return availability.reason
    if _exact(target) in availability.models:
        return None
    there = ", ".join(availability.models[:5]) or "none"
    return f"{target.provider}: there is no model {target.model!r}; there are: {there}"


def _exact(target: Target) -> str:
    """The name as the backend lists it; Ollama's bare names mean the tag ``latest``."""
    model = target.model
    if target.provider == "ollama" and ":" not in model.rpartition("/")[2]:
        return f"{model}:latest"
    return model
