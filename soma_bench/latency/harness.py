"""The harness's own error: what it reports of a server whose timing is known.

The same load generator, guard and provider as for any target ask the loopback server at the same
concurrency, and each request's figures are compared with what the server says of that request. The
difference is the harness's: building the request, the connection, the reading of the stream, and
whatever its own event loop was busy with.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from soma_bench.errors import SomaError
from soma_bench.latency.door import Door
from soma_bench.latency.load import Load, run_load
from soma_bench.latency.loopback import MODEL, Schedule, Truth, read_truth
from soma_bench.latency.samples import Sample
from soma_bench.providers import Backend, create_provider
from soma_bench.scoring.statistics import percentile
from soma_bench.types import Chunk, Message, Request, Target

TRUSTED_ERROR = 0.05
"""Share of the true median up to which a median may be off."""
_ROUNDS = 2
_FEWEST_REQUESTS = 8
_START_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureError:
    """One measure at one concurrency; times in seconds."""

    measure: str
    scheduled_s: float
    true_p50_s: float
    """As the server says."""
    reported_p50_s: float
    error_p50_s: float
    """Median over the requests of reported less true."""
    error_p95_s: float

    @property
    def relative(self) -> float:
        """Error of the reported median, as a share of the true one."""
        return self.reported_p50_s / self.true_p50_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessError:
    """The harness's error at one concurrency."""

    concurrency: int
    requests: int
    measures: tuple[MeasureError, ...]
    cpu_s_per_request: float
    """CPU time of this process for a request."""

    @property
    def trusted(self) -> bool:
        """Whether the median of whole requests is within `TRUSTED_ERROR` of the truth."""
        return all(
            abs(error.relative) <= TRUSTED_ERROR
            for error in self.measures
            if error.measure == "total"
        )


async def harness_errors(
    concurrencies: Sequence[int], schedule: Schedule | None = None
) -> tuple[HarnessError, ...]:
    """Measure the harness's own error at each concurrency.

    Args:
        concurrencies: clients of a closed loop.
        schedule: the server's timing.

    Raises:
        SomaError: the loopback server did not start.
    """
    schedule = schedule or Schedule()
    async with loopback_server(schedule) as url:
        provider = create_provider("openai", Backend(base_url=url))
        try:
            door = Door(Target("openai", MODEL), provider, "open")
            return tuple([await _error(door, count, schedule) for count in concurrencies])
        finally:
            await provider.close()


async def _error(door: Door, concurrency: int, schedule: Schedule) -> HarnessError:
    request = Request(model=MODEL, messages=(Message("user", "Go"),), max_tokens=schedule.tokens)
    texts: dict[int, list[str]] = {}

    async def ask(number: int) -> AsyncGenerator[Chunk]:
        heard = texts[number] = []
        async with aclosing(door.stream(request)) as chunks:
            async for chunk in chunks:
                heard.append(chunk.text)
                yield chunk

    load = Load(
        concurrency=concurrency,
        requests=max(_FEWEST_REQUESTS, _ROUNDS * concurrency),
        warm_up=concurrency,
    )
    cpu = time.process_time()
    run = await run_load(ask, load)
    cpu = time.process_time() - cpu
    pairs = [
        (sample, read_truth("".join(texts[sample.number])))
        for sample in run.measured
        if sample.failure is None
    ]
    if not pairs:
        raise SomaError("latency: the loopback server answered no request; is loopback blocked?")
    return HarnessError(
        concurrency=concurrency,
        requests=len(pairs),
        measures=_measures(pairs, schedule),
        cpu_s_per_request=cpu / (len(run.measured) + len(run.others)),
    )


def _measures(
    pairs: Sequence[tuple[Sample, Truth]], schedule: Schedule
) -> tuple[MeasureError, ...]:
    def compare(name: str, scheduled_s: float, both: list[tuple[float, float]]) -> MeasureError:
        differences = [reported - true for reported, true in both]
        return MeasureError(
            measure=name,
            scheduled_s=scheduled_s,
            true_p50_s=percentile([true for _, true in both], 50),
            reported_p50_s=percentile([reported for reported, _ in both], 50),
            error_p50_s=percentile(differences, 50),
            error_p95_s=percentile(differences, 95),
        )

    return (
        compare(
            "ttft",
            schedule.first_token_s,
            [(s.first_token_s or 0.0, truth.first_token_s) for s, truth in pairs],
        ),
        compare(
            "itl",
            schedule.gap_s,
            [(s.inter_token_s or 0.0, truth.inter_token_s) for s, truth in pairs],
        ),
        compare("total", schedule.total_s, [(s.total_s, truth.total_s) for s, truth in pairs]),
    )


@asynccontextmanager
async def loopback_server(schedule: Schedule) -> AsyncIterator[str]:
    """The loopback server in a process of its own; gives its address."""
    arguments = [repr(schedule.first_token_s), repr(schedule.gap_s), str(schedule.tokens)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "soma_bench.latency.loopback",
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdin
    try:
        async with asyncio.timeout(_START_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise SomaError("latency: the loopback server ended at once; see its words above")
        yield url
    except TimeoutError as error:
        raise SomaError(
            f"latency: the loopback server did not start within {_START_S:g} s"
        ) from error
    finally:
        process.stdin.close()
        await process.wait()
