"""Measuring targets one after the other: cold, then warm at each load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from soma_bench.latency.door import Door
from soma_bench.latency.harness import harness_errors
from soma_bench.latency.load import Load, run_load
from soma_bench.latency.loopback import Schedule
from soma_bench.latency.objectives import Objectives
from soma_bench.latency.report import Level, Report, TargetReport, summarise
from soma_bench.latency.samples import Sample
from soma_bench.latency.work import Work
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.machine import Watch
from soma_bench.types import ModelIdentity

OnProgress = Callable[[str, int, int | None], None]
"""Told of which target and load, how many measured requests have ended, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One target with its work and the loads that it is put under."""

    door: Door
    work: Work
    loads: tuple[Load, ...]
    cold_starts: int
    """Requests that the model is unloaded for first; local targets alone have any."""


async def measure(
    jobs: Sequence[Job],
    *,
    objectives: Objectives,
    schedule: Schedule | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Report:
    """Measure every job, and the harness itself at the concurrencies of their loads.

    Args:
        jobs: what to measure, in this order.
        objectives: what a request must hold to count as good; may be empty.
        schedule: timing of the server that the harness is measured against.
        on_progress: told after each measured request.

    Raises:
        ConfigError: a target cannot do what is asked of it.
        ProviderError: a target failed before anything was measured.
        PrivacyError: a request may not leave this machine.
    """
    # Asked first: a model that is not there is said at once.
    identities = [await job.door.provider.identity(job.door.target.model) for job in jobs]
    counts = sorted({load.concurrency or 1 for job in jobs for load in job.loads})
    harness = await harness_errors(counts, schedule)
    targets = [
        await _measure_job(job, identity, objectives, on_progress)
        for job, identity in zip(jobs, identities, strict=True)
    ]
    return Report(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=describe_environment(),
        harness=harness,
        targets=tuple(targets),
    )


async def _measure_job(
    job: Job, identity: ModelIdentity, objectives: Objectives, on_progress: OnProgress
) -> TargetReport:
    door, work = job.door, job.work
    cold = [await _cold_start(job, number) for number in range(job.cold_starts)]
    levels = [await _level(job, load, objectives, on_progress) for load in job.loads]
    await door.provider.unload()
    return TargetReport(
        target=str(door.target),
        work=work.name,
        agent=work.agent,
        identity=identity,
        cold=tuple(cold),
        levels=tuple(levels),
    )


async def _cold_start(job: Job, number: int) -> Sample:
    """One request to a model that has just been unloaded."""
    await job.door.provider.unload()
    once = Load(concurrency=1, requests=1)
    run = await run_load(lambda _: job.door.stream(job.work.request(number)), once)
    return run.measured[0]


async def _level(job: Job, load: Load, objectives: Objectives, on_progress: OnProgress) -> Level:
    where = f"{job.door.target} {describe_load(load)}"
    ended = 0

    def count(_: Sample) -> None:
        nonlocal ended
        ended += 1
        on_progress(where, ended, load.requests)

    on_progress(where, 0, load.requests)
    watch = Watch(job.door.target.provider)
    # A level's prompts are its own: none is in a cache of the cold starts or of another level.
    offset = job.cold_starts + 1_000_000 * job.loads.index(load)
    run = await run_load(
        lambda number: job.door.stream(job.work.request(offset + number)), load, on_sample=count
    )
    return summarise(run, load, watch.stop(), objectives)


def describe_load(load: Load) -> str:
    """A load in a few words."""
    if load.rate is not None:
        return f"{load.rate:g} requests/s"
    return f"concurrency {load.concurrency}"
