"""What the service's requests share: the router, its machines, the sessions and the work going on.

An analysis or a message is a course of its own: it ends on the profile that it began with, also when
the profile's file is replaced meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from soma_bench.environment import Environment
from soma_bench.pipeline import Machines
from soma_bench.pipeline.deadline import Weights, stage_weights
from soma_bench.pipeline.executor import Ask
from soma_bench.pipeline.machines import first_machines
from soma_bench.routing.context import CallContext
from soma_bench.routing.health import Health
from soma_bench.routing.live import Factory, LiveRouter
from soma_bench.routing.overrides import provider_factory
from soma_bench.routing.profile import Profile
from soma_bench.routing.routed import Event as RouterEvent
from soma_bench.routing.routed import Routed
from soma_bench.routing.router import Router
from soma_bench.routing.tally import HealthSummary
from soma_bench.service import pictures
from soma_bench.service.jobs import Jobs
from soma_bench.service.metrics import Metrics
from soma_bench.service.rush import Rush
from soma_bench.service.sessions import Conversations
from soma_bench.service.settings import ServiceSettings
from soma_bench.service.workroom import Workroom
from soma_bench.types import AgentName, Image

_SWEEP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Course:
    """One version of the profile at work, for one analysis or one message."""

    profile: Profile
    """As it holds under the environment."""
    router: Router
    machines: Machines
    weights: Weights
    deadline_s: float | None
    metrics: Metrics
    workroom: Workroom

    def ask(self, picture: Image | None) -> Ask:
        """The router for a case, whose picture the Radiologist may be shown."""

        async def ask(agent: AgentName, inputs: BaseModel, context: CallContext) -> Routed:
            await self.workroom.turn()
            return await self.router.ask(agent, inputs, _with(picture, agent, context))

        return ask

    async def talk(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> AsyncGenerator[RouterEvent]:
        """An agent's words as its model writes them; closing the iterator stops the model."""
        await self.workroom.turn()
        async with (
            self.machines.place(agent, inputs, context),
            aclosing(self.router.stream(agent, inputs, context)) as events,
        ):
            async for event in events:
                yield event


@dataclass(frozen=True, kw_only=True)
class Service:
    """A profile's file at work."""

    settings: ServiceSettings
    router: LiveRouter
    machines: Machines
    """What all courses wait for."""
    rush: Rush
    """Requests that are to be told first that they were taken."""
    workroom: Workroom
    """Where the router and its machines are used."""
    jobs: Jobs
    sessions: Conversations
    metrics: Metrics

    @asynccontextmanager
    async def course(self) -> AsyncIterator[Course]:
        """The profile as its file has it now, to the end of the block; in the workroom."""
        async with self.router.hold() as held:
            yield Course(
                profile=held.effective,
                router=held.router,
                machines=self.machines.routed(first_machines(held.router, held.effective)),
                weights=stage_weights(held.effective),
                deadline_s=self.settings.deadline_s,
                metrics=self.metrics,
                workroom=self.workroom,
            )

    async def health(self) -> tuple[HealthSummary, tuple[Health, ...]]:
        """Which profile is at work, and whether its targets could answer; in the workroom."""
        targets = await self.router.health()
        return self.router.health_summary(), targets


@asynccontextmanager
async def open_service(
    path: Path,
    settings: ServiceSettings,
    *,
    environment: Environment | None = None,
    factory: Factory = provider_factory,
) -> AsyncIterator[Service]:
    """A service in the running loop, with all that its first request would wait for.

    Args:
        path: the profile's file, which is followed.
        settings: limits and doors.
        environment: what comes before the profile; read anew with every version by default.
        factory: makes the providers of a version of the profile.

    Raises:
        ConfigError: the profile, the environment or the table of prices is wrong.
        PrivacyError: the environment asks for what an agent's privacy level forbids.
    """
    router = LiveRouter(path, watch=True, environment=environment, factory=factory)
    jobs = Jobs()
    rush = Rush()
    with Workroom(rush) as workroom:
        sweeper: asyncio.Task[None] | None = None
        try:
            # Starts the first thread as well, and what starlette starts threads with.
            await run_in_threadpool(pictures.prepare)
            await workroom.run(_open(router))
            service = Service(
                settings=settings,
                router=router,
                machines=Machines(lambda *_: None, capacity=settings.local_parallel),
                rush=rush,
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
            await workroom.run(router.close())


async def _open(router: LiveRouter) -> None:
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
