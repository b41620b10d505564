"""Putting a target under load and timing every request.

In a **closed loop** so many clients ask one request after the other: a slow target is asked less
often, and what is measured is the latency at that concurrency. In an **open loop** requests arrive at
a rate, whatever the target does (a Poisson process), and latencies count from the moment at which a
request was meant to start: a backlog is part of them (no coordinated omission). Which of the two it
is, is part of every report.

The load begins before the first measured request and goes on until the last of them has ended, so
that all of them meet the same load. Those that are under way then are broken off.

A harness that is busy itself reads late what has come in time. So in a closed loop starts are spaced
out for as long as the event loop is more than `LAG_S` late: the wait then lies between requests and
not in what is measured. What that leaves of the concurrency is reported. A model that answers in
seconds never notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np

from soma_bench.errors import ProviderError, ProviderFailure
from soma_bench.latency.samples import Sample
from soma_bench.types import Chunk, Completion

Ask = Callable[[int], AsyncGenerator[Chunk]]
"""Puts the request of that number to the target; the last chunk carries the completion."""

POINTLESS: frozenset[ProviderFailure] = frozenset({"model_missing", "bad_key"})
"""Failures that every further request would meet too."""
LAG_S = 0.002
"""How late the event loop may be; its timers are exact to a millisecond."""
_FIRST_SPACING_S = 0.002
_CLOSEST_SPACING_S = 0.0001
_WIDEST_SPACING_S = 0.1
"""A machine that is busy with other work makes the loop late too, and no spacing helps there."""
_FAILURES_IN_A_ROW = 10
"""After so many nothing else is to be expected of a level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a target is asked.

    Exactly one of ``concurrency`` and ``rate`` is set. The measured requests end with ``requests``
    or ``duration_s``, whichever comes first.
    """

    concurrency: int | None = None
    """Clients of a closed loop."""
    rate: float | None = None
    """Requests a second of an open loop."""
    requests: int | None = None
    duration_s: float | None = None
    """Seconds in which measured requests may start."""
    warm_up: int = 0
    """Requests that must have ended (open loop: arrived) before the first measured one starts."""
    seed: int = 0
    """Decides the arrivals of an open loop."""


@dataclass(slots=True)
class Run:
    """What one load gave; times in seconds from its beginning."""

    measured: list[Sample] = field(default_factory=list)
    """In the order of their starts."""
    others: list[Sample] = field(default_factory=list)
    """Requests before and after the measured ones that ended: part of the load, not of the figures."""
    began_s: float = 0.0
    """When the first measured request could start."""
    ended_s: float = 0.0
    """When the last measured request ended."""
    gave_up: bool = False
    """Whether it was stopped because one request after the other failed."""


async def run_load(
    ask: Ask, load: Load, *, on_sample: Callable[[Sample], None] = lambda _: None
) -> Run:
    """Run one load to its end.

    Args:
        ask: puts requests to the target.
        load: how it is asked.
        on_sample: told of every measured request when it has ended.

    Raises:
        ProviderError: a request failed before the first measured one, or in a way that all others
            would (a missing model, a refused key).
        ConfigError: the target cannot do what the request asks.
        PrivacyError: the request may not leave this machine.
    """
    if load.requests is None and load.duration_s is None:
        raise ValueError("a load ends by requests or duration_s; both are None")
    if (load.concurrency is None) == (load.rate is None):
        raise ValueError("a load has either a concurrency or a rate")
    driver = _Driver(ask, load, on_sample)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = driver.start(group)
            await driver.done.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        # Every task does the same; the first failure says what there is to say.
        raise errors.exceptions[0] from None
    driver.run.measured.sort(key=lambda sample: sample.number)
    return driver.run


class _Driver:
    """Keeps one load going and sorts its requests into measured ones and others."""

    def __init__(self, ask: Ask, load: Load, on_sample: Callable[[Sample], None]) -> None:
        self.run = Run()
        self.done = asyncio.Event()
        self._ask = ask
        self._load = load
        self._on_sample = on_sample
        self._zero = time.perf_counter()
        self._started = 0
        self._warmed = 0
        self._measuring = load.warm_up == 0
        self._under_way: set[int] = set()
        self._taken = 0
        """Measured requests that have started."""
        self._failed_in_a_row = 0
        self._pace = _Pace()

    def start(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """Begin; the tasks are to be cancelled when it is done."""
        if self._load.concurrency is not None:
            return {group.create_task(self._client()) for _ in range(self._load.concurrency)}
        tasks: set[asyncio.Task[None]] = set()
        tasks.add(group.create_task(self._arrivals(group, tasks)))
        return tasks

    async def _client(self) -> None:
        """One client of a closed loop: the next request starts where the last has ended."""
        while True:
            await self._pace.wait()
            await self._one(self._now())

    async def _arrivals(self, group: asyncio.TaskGroup, tasks: set[asyncio.Task[None]]) -> None:
        """The requests of an open loop, each at its own time."""
        assert self._load.rate is not None
        rng = np.random.default_rng(self._load.seed)
        due = 0.0
        while True:
            due += float(rng.exponential(1 / self._load.rate))
            await asyncio.sleep(max(0.0, due - self._now()))
            if not self._measuring and self._started >= self._load.warm_up:
                self._begin(due)
            task = group.create_task(self._one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _one(self, due: float) -> None:
        number = self._started
        self._started += 1
        measured = self._takes(due)
        if measured:
            self._taken += 1
            self._under_way.add(number)
        sample = await self._timed(number, due, forgiving=self._measuring)
        if measured:
            self._under_way.discard(number)
            self.run.measured.append(sample)
            self.run.ended_s = max(self.run.ended_s, sample.ended_s)
            self._on_sample(sample)
        else:
            self.run.others.append(sample)
            self._warmed += 1
            if (
                self._load.concurrency
                and not self._measuring
                and self._warmed >= self._load.warm_up
            ):
                self._begin(self._now())
        self._failed_in_a_row = self._failed_in_a_row + 1 if sample.failure else 0
        if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
            self.run.gave_up = True
            self.done.set()
        elif self._measuring and not self._under_way and not self._wants_more():
            self.done.set()

    def _begin(self, now: float) -> None:
        self._measuring = True
        self.run.began_s = now

    def _takes(self, due: float) -> bool:
        """Whether a request that starts at ``due`` is measured."""
        return self._measuring and self._wants_more(due)

    def _wants_more(self, at: float | None = None) -> bool:
        load = self._load
        if load.requests is not None and self._taken >= load.requests:
            return False
        elapsed = (self._now() if at is None else at) - self.run.began_s
        return load.duration_s is None or elapsed < load.duration_s or self._taken == 0

    async def _timed(self, number: int, due: float, *, forgiving: bool) -> Sample:
        """Ask one request.

        Args:
            number: which.
            due: when it was meant to start.
            forgiving: whether a failure is a sample; else it ends the load.
        """
        late_s = max(0.0, self._now() - due)
        first = first_answer = last = None
        completion: Completion | None = None
        failure: str | None = None
        try:
            async with aclosing(self._ask(number)) as chunks:
                async for chunk in chunks:
                    if chunk.completion is not None:
                        completion = chunk.completion
                    else:
                        last = self._now() - due
                        first = last if first is None else first
                        if chunk.text and first_answer is None:
                            first_answer = last
        except ProviderError as error:
            if not forgiving or error.kind in POINTLESS:
                raise
            failure = error.kind
        if completion is None and failure is None:
            # Every provider's stream ends with its completion; one that does not has lost its end.
            failure = "ended_early"
        shared = Sample(
            number=number,
            started_s=due,
            late_s=late_s,
            first_token_s=first,
            first_answer_token_s=first_answer,
            last_token_s=last,
            total_s=self._now() - due,
            failure=failure,
        )
        return shared if completion is None else _with_usage(shared, completion)

    def _now(self) -> float:
        return time.perf_counter() - self._zero


class _Pace:
    """Spaces the starts of a closed loop, wider while the event loop is late and closer while not."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._spacing_s = _FIRST_SPACING_S
        self._next_start = 0.0

    async def wait(self) -> None:
        """Wait for a start of one's own."""
        async with self._turn:
            due = max(time.perf_counter(), self._next_start)
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            if now - due > LAG_S:
                self._spacing_s = min(2 * self._spacing_s, _WIDEST_SPACING_S)
            else:
                self._spacing_s = max(0.9 * self._spacing_s, _CLOSEST_SPACING_S)
            self._next_start = now + self._spacing_s


def _with_usage(sample: Sample, completion: Completion) -> Sample:
    usage = completion.usage
    return replace(
        sample,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        thinking_tokens=usage.thinking_tokens,
        load_s=completion.timings.load_s,
        finish=completion.finish,
    )
