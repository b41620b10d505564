"""What the latency harness and a bare loop over the SDK report of a server of known timing.

Both ask the same loopback server, in turns, in one run. The bare loop is what one writes first: so
many tasks that stream one answer after the other with the ``openai`` library. Targets: the harness's
median within 5 % of the truth at 1, 4 and 32 clients. Where the machine cannot keep up, the harness
lowers the concurrency, which is the last column, and the bare loop lets its own queue into the
figures.

    python benchmarks/bench_latency.py [FIRST_TOKEN_MS GAP_MS TOKENS]
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median

from openai import AsyncOpenAI

from soma_bench.latency.door import Door
from soma_bench.latency.harness import TRUSTED_ERROR, loopback_server
from soma_bench.latency.load import Load, run_load
from soma_bench.latency.loopback import MODEL, Schedule, read_truth
from soma_bench.latency.report import summarise
from soma_bench.providers import Backend, create_provider
from soma_bench.sweeps.machine import Watch
from soma_bench.types import Message, Request, Target

CLIENTS = (1, 4, 32)
ROUNDS = 4


async def bare(url: str, clients: int, requests: int) -> tuple[float, float]:
    """Medians that the bare loop reports and that the server says, in seconds."""
    sdk = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    reported: list[float] = []
    true: list[float] = []

    async def client() -> None:
        while len(reported) < requests:
            began = time.perf_counter()
            text = ""
            stream = await sdk.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Go"}], stream=True
            )
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            reported.append(time.perf_counter() - began)
            true.append(read_truth(text).total_s)

    await asyncio.gather(*(client() for _ in range(clients)))
    await sdk.close()
    # The first round opens connections, as the harness's warm-up does.
    return median(reported[clients:]), median(true[clients:])


async def ours(url: str, clients: int, requests: int) -> tuple[float, float]:
    """The median that the harness reports, in seconds, and the requests it had under way."""
    provider = create_provider("openai", Backend(base_url=url))
    door = Door(Target("openai", MODEL), provider, "open")
    request = Request(model=MODEL, messages=(Message("user", "Go"),), max_tokens=64)
    load = Load(concurrency=clients, requests=requests, warm_up=clients)
    watch = Watch("openai")
    run = await run_load(lambda _: door.stream(request), load)
    await provider.close()
    level = summarise(run, load, watch.stop(), {})
    return median(sample.total_s for sample in run.measured), level.throughput.effective_concurrency


async def compare(schedule: Schedule) -> bool:
    """Measure and print; whether the target is met."""
    met = True
    async with loopback_server(schedule) as url:
        await bare(url, 1, 4)
        await ours(url, 1, 4)
        for clients in CLIENTS:
            requests = max(12, ROUNDS * clients)
            bare_s, true_s = await bare(url, clients, requests)
            ours_s, under_way = await ours(url, clients, requests)
            error = ours_s / schedule.total_s - 1
            print(
                f"{clients:3d} clients: scheduled {schedule.total_s * 1e3:.0f} ms, bare SDK reports"
                f" {bare_s * 1e3:.0f} ms (sent at {true_s * 1e3:.0f}), the harness"
                f" {ours_s * 1e3:.0f} ms ({error:+.1%}, target {TRUSTED_ERROR:.0%}) with"
                f" {under_way:.1f} under way"
            )
            met = met and abs(error) <= TRUSTED_ERROR
    return met


def main() -> None:
    schedule = Schedule()
    if len(sys.argv) == 4:
        first_ms, gap_ms, tokens = sys.argv[1:]
        schedule = Schedule(
            first_token_s=float(first_ms) / 1e3, gap_s=float(gap_ms) / 1e3, tokens=int(tokens)
        )
    sys.exit(0 if asyncio.run(compare(schedule)) else 1)


if __name__ == "__main__":
    main()
