"""What the service's requests share: the router, its machines, the sessions and the work going on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from soma_bench.environment import Environment, read_environment
from soma_bench.pipeline import Machines
from soma_bench.pipeline.deadline import Weights, stage_weights
from soma_bench.pipeline.executor import Ask
from soma_bench.pipeline.machines import first_machines
from soma_bench.providers import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.context import CallContext
from soma_bench.routing.overrides import provider_factory, under
from soma_bench.routing.profile import Profile, profile_digest
from soma_bench.routing.routed import Event as RouterEvent
from soma_bench.routing.routed import Routed
from soma_bench.routing.router import Router
from soma_bench.service import pictures
from soma_bench.service.jobs import Jobs
from soma_bench.service.metrics import Metrics
from soma_bench.service.sessions import Conversations
from soma_bench.service.settings import ServiceSettings
from soma_bench.service.workroom import Workroom
from soma_bench.types import AgentName, Image, ProviderName

_SWEEP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One profile at work."""

    settings: ServiceSettings
    profile: Profile
    """As it holds under the environment."""
    digest: str
    """Of the profile as its file has it."""
    router: Router
    machines: Machines
    weights: Weights
    workroom: Workroom
    """Where the router and its machines are used."""
    jobs: Jobs
    sessions: Conversations
    metrics: Metrics

    def ask(self, picture: Image | None) -> Ask:
        """The router for a case, whose picture the Radiologist may be shown."""

        async def ask(agent: AgentName, inputs: BaseModel, context: CallContext) -> Routed:
            return await self.router.ask(agent, inputs, _with(picture, agent, context))

        return ask

    async def talk(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> AsyncGenerator[RouterEvent]:
        """An agent's words as its model writes them; closing the iterator stops the model."""
        async with (
            self.machines.place(agent, inputs, context),
            aclosing(self.router.stream(agent, inputs, context)) as events,
        ):
            async for event in events:
                yield event


@asynccontextmanager
async def open_service(
    profile: Profile,
    settings: ServiceSettings,
    *,
    environment: Environment | None = None,
    providers: Callable[[ProviderName], Provider] | None = None,
) -> AsyncIterator[Service]:
    """A service in the running loop, with all that its first request would wait for.

    Args:
        profile: where each agent runs.
        settings: limits and doors.
        environment: what comes before the profile; read anew by default.
        providers: makes providers; the profile's own by default.

    Raises:
        ConfigError: the environment or the table of prices is wrong.
        PrivacyError: the environment asks for what an agent's privacy level forbids.
    """
    environment = environment or read_environment()
    effective = under(profile, environment)
    jobs = Jobs()
    pool = ProviderPool(providers or provider_factory(profile, environment))
    router = Router(profile, pool, environment=environment)
    with Workroom() as workroom:
        sweeper: asyncio.Task[None] | None = None
        try:
            # Starts the first thread as well, and what starlette starts threads with.
            await run_in_threadpool(pictures.prepare)
            await workroom.run(_open(router))
            service = Service(
                settings=settings,
                profile=effective,
                digest=profile_digest(profile),
                router=router,
                machines=Machines(
                    first_machines(router, effective), capacity=settings.local_parallel
                ),
                weights=stage_weights(effective),
                workroom=workroom,
                jobs=jobs,
                sessions=Conversations(
                    ttl_s=settings.session_ttl_s,
                    most=settings.max_sessions,
                    most_bytes=settings.max_picture_bytes,
                    busy=jobs.busy,
                ),
                metrics=Metrics(),
            )
            sweeper = asyncio.create_task(_sweep(service.sessions))
            yield service
        finally:
            if sweeper is not None:
                sweeper.cancel()
            await jobs.stop(0.0)
            await workroom.run(pool.__aexit__())


async def _open(router: Router) -> None:
    """Make what the first calls would wait for where it will be used: clients belong to a loop."""
    router.open()


async def _sweep(sessions: Conversations) -> None:
    """Forget expired sessions also when nobody asks."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        sessions.forget_expired()


def _with(picture: Image | None, agent: AgentName, context: CallContext) -> CallContext:
    if picture is None or agent != "radiologist":
        return context
    return replace(context, images=(picture,))
