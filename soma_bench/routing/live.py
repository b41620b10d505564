"""A router for production: it owns its providers and follows its profile's file.

The file is looked at with every call, which costs a few microseconds and needs neither a thread nor
a timer. A profile that is not valid is not taken: the one before stays, the reason is logged once
and stands in the health summary. Calls that run when a new one is taken end as they began.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel

from soma_bench.environment import Environment, read_environment
from soma_bench.errors import ConfigError
from soma_bench.providers.base import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.complexity import Complexity
from soma_bench.routing.context import CallContext
from soma_bench.routing.decision import Decision
from soma_bench.routing.health import Health
from soma_bench.routing.overrides import provider_factory, under
from soma_bench.routing.profile import Profile, load_profile
from soma_bench.routing.routed import Event, Routed
from soma_bench.routing.router import Router
from soma_bench.routing.signing import PublicKey
from soma_bench.routing.tally import HealthSummary, Tally
from soma_bench.types import AgentName, ProviderName

log = logging.getLogger(__name__)

Factory = Callable[[Profile, Environment], Callable[[ProviderName], Provider]]
"""Gives what makes a profile's providers."""

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A router of one version of the profile."""

    router: Router
    profile: Profile
    """As its file has it."""
    effective: Profile
    """As it holds under the environment."""


@dataclass(slots=True, kw_only=True)
class _Generation:
    """A router of one version of the profile, and how many of its calls run."""

    held: Held
    backends: object
    """What its providers were made by: two generations with equal ones share a pool."""
    pool: ProviderPool
    loaded_at: str
    running: int = 0


class LiveRouter:
    """Routes as `Router` does, by whatever its profile's file says now.

    Made by `Router.from_profile`. Use it as an asynchronous context manager, or `close` it; it is
    for one event loop.

    Args:
        path: the profile's file.
        verify: whose signature it must bear, at every load; None asks for none.
        watch: whether changes of the file are followed.
        environment: what comes before the profile; read anew with every load by default.
        factory: makes the providers of a profile.
        settings: passed on to every `Router`.

    Raises:
        ConfigError: the profile, the key or the environment is not valid.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        verify: PublicKey | Path | str | None = None,
        watch: bool = False,
        environment: Environment | None = None,
        factory: Factory = provider_factory,
        **settings: Any,
    ) -> None:
        self._path = Path(path)
        self._verify = verify
        self._watch = watch
        self._environment = environment
        self._factory = factory
        self._settings = settings
        self._tally = Tally()
        self._reload_error: str | None = None
        self._retired: list[_Generation] = []
        self._stamp = self._look()
        self._now = self._load(None)

    async def __aenter__(self) -> LiveRouter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def profile(self) -> Profile:
        """The profile that the next call is routed by, as its file has it."""
        return self._current().held.profile

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Held]:
        """The router of the profile as it is now, for calls that belong together.

        It stays usable to the end of the block, whatever becomes of the file meanwhile.
        """
        generation = self._current()
        generation.running += 1
        try:
            yield generation.held
        finally:
            await self._ended(generation)

    async def ask(
        self,
        agent: AgentName,
        inputs: BaseModel,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
    ) -> Routed:
        """As `Router.ask`."""
        async with self.hold() as held:
            return await held.router.ask(agent, inputs, context)

    async def stream(
        self,
        agent: AgentName,
        inputs: BaseModel,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
    ) -> AsyncGenerator[Event]:
        """As `Router.stream`."""
        async with (
            self.hold() as held,
            aclosing(held.router.stream(agent, inputs, context)) as events,
        ):
            async for event in events:
                yield event

    def decide(
        self,
        agent: AgentName,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
        *,
        inputs: BaseModel | None = None,
        level: Complexity = "moderate",
    ) -> Decision:
        """As `Router.decide`."""
        return self._current().held.router.decide(agent, context, inputs=inputs, level=level)

    async def health(self) -> tuple[Health, ...]:
        """As `Router.health`: the backends are asked."""
        async with self.hold() as held:
            return await held.router.health()

    def health_summary(self) -> HealthSummary:
        """As `Router.health_summary`, with where the profile came from and whether a change failed."""
        generation = self._current()
        return replace(
            generation.held.router.health_summary(),
            loaded_at=generation.loaded_at,
            valid_until=generation.held.profile.valid_until,
            reload_error=self._reload_error,
        )

    def open(self) -> None:
        """As `Router.open`."""
        self._current().held.router.open()

    async def close(self) -> None:
        """Close every provider; calls that still run fail."""
        pools = {id(g.pool): g.pool for g in (*self._retired, self._now)}
        self._retired.clear()
        for pool in pools.values():
            await pool.close()

    def _current(self) -> _Generation:
        """The generation of the file as it is now, or the one before where that is not valid."""
        if self._watch and (stamp := self._look()) != self._stamp:
            self._stamp = stamp
            try:
                following = self._load(self._now)
            except ConfigError as error:
                self._reload_error = str(error)
                log.warning("the profile before stays in use: %s", error)
            else:
                self._reload_error = None
                if following.held.profile != self._now.held.profile:
                    log.info("%s: took profile %s", self._path, following.held.profile.name)
                self._retired.append(self._now)
                self._now = following
        return self._now

    def _load(self, before: _Generation | None) -> _Generation:
        profile = load_profile(self._path, self._verify)
        environment = self._environment or read_environment()
        effective = under(profile, environment)
        backends = (effective.providers, effective.trusted_hosts, environment)
        # A model that is loaded in this process stays loaded where nothing of its backend changed.
        kept = before is not None and before.backends == backends
        pool = before.pool if before and kept else ProviderPool(self._factory(profile, environment))
        router = Router(profile, pool, environment=environment, tally=self._tally, **self._settings)
        return _Generation(
            held=Held(router=router, profile=profile, effective=effective),
            backends=backends,
            pool=pool,
            loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    async def _ended(self, generation: _Generation) -> None:
        """Count the end of a call, and close what nobody uses any more."""
        generation.running -= 1
        idle = [g for g in self._retired if not g.running]
        self._retired = [g for g in self._retired if g.running]
        used = {id(g.pool) for g in (*self._retired, self._now)}
        for pool in {id(g.pool): g.pool for g in idle if id(g.pool) not in used}.values():
            await pool.close()

    def _look(self) -> _Stamp | None:
        """What tells one version of the file from another; None where there is no file."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - with every call: four times as fast
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
