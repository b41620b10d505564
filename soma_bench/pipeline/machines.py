"""The machines that stages share, so that two do not work on one accelerator at the same time.

Two answers decoded side by side on one accelerator take about as long as one after the other, and
their times then say nothing. So stages whose targets run on the same machine wait for one another;
with the usual capacity of 1, stages side by side save time only where one of them is remote. The
wait is queue time: it is no part of a stage's latency, and a latency threshold does not run in it.

A stage waits for the machine of its first target. A cloud target has none; a stage that begins in
the cloud and falls back to this machine does not wait, which would keep its answer back further.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from pydantic import BaseModel

from soma_bench.providers.places import is_loopback
from soma_bench.routing.context import CallContext
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AgentName, Target

THIS_MACHINE = "this machine"

MachineOf = Callable[[AgentName, BaseModel, CallContext], str | None]
"""Names the machine of one's own that a stage begins on; None where it is someone else's."""


class Machines:
    """Lets as many stages onto each machine as it has capacity for; one object serves all analyses.

    It belongs to one event loop.

    Args:
        machine_of: where a stage begins, e.g. `first_machines`.
        capacity: stages that work on one machine at the same time.

    Raises:
        ValueError: the capacity is below 1.
    """

    def __init__(self, machine_of: MachineOf, *, capacity: int = 1) -> None:
        if capacity < 1:
            raise ValueError(f"a machine's capacity is at least 1, not {capacity}")
        self._machine_of = machine_of
        self._capacity = capacity
        self._slots: dict[str, asyncio.Semaphore] = {}

    def routed(self, machine_of: MachineOf) -> Machines:
        """The same machines for stages of another router: both wait for one another's."""
        same = Machines(machine_of, capacity=self._capacity)
        same._slots = self._slots
        return same

    @asynccontextmanager
    async def place(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> AsyncIterator[float]:
        """Hold a place for a stage; gives the seconds that it was waited for."""
        machine = self._machine_of(agent, inputs, context)
        if machine is None:
            yield 0.0
            return
        slot = self._slots.setdefault(machine, asyncio.Semaphore(self._capacity))
        asked = time.perf_counter()
        free = not slot.locked()
        async with slot:
            yield 0.0 if free else time.perf_counter() - asked


def first_machines(router: Router, profile: Profile) -> MachineOf:
    """Where the first target of each stage runs, as the router decides for its case.

    Args:
        router: the router that is asked.
        profile: its profile, as `soma_bench.routing.overrides.under` gives it for its environment.
    """

    def machine(agent: AgentName, inputs: BaseModel, context: CallContext) -> str | None:
        targets = router.decide(agent, context, inputs=inputs).targets
        return machine_of(profile, targets[0].target) if targets else None

    return machine


def machine_of(profile: Profile, target: Target) -> str | None:
    """The machine of one's own that a target runs on: this one, or the host of a trusted Ollama."""
    if not profile.is_local(target):
        return None
    url = profile.providers.ollama.base_url
    if target.provider != "ollama" or is_loopback(url):
        return THIS_MACHINE
    return urlsplit(url).hostname
