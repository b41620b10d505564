"""What the sweep engine costs beside the vendor's SDK, and whether its latencies are true.

Both put the same requests to the same loopback server, a process of its own with a known delay, in
turns within one run. CPU time is this process's own, all of its threads counted. Run:

    python benchmarks/bench_sweep.py                  # ratios and latencies
    python benchmarks/bench_sweep.py --trials 100000  # memory over a long sweep at delay 0
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil
from openai import AsyncOpenAI
from pydantic import SecretStr

from soma_bench.comparison import compare_run
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.openai_chat import Call
from soma_bench.providers.openai_models import UNKNOWN
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.runner import Progress, plan_sweep, run_plan
from soma_bench.sweeps.spec import Sweep, sweep_from
from soma_bench.sweeps.store import Store

HERE = Path(__file__).parent
SUITE = HERE.parent / "data" / "suites" / "alignment.jsonl"
ROUNDS = 3


@dataclass(frozen=True)
class Taken:
    """What some trials took."""

    cpu_ms: float
    """CPU time a trial."""
    per_s: float
    """Trials a second."""
    p50_ms: float
    """Median latency, as the client reports it."""


@contextmanager
def server(delay_ms: int) -> Iterator[str]:
    """A server of that delay; its base address."""
    command = [sys.executable, str(HERE / "loopback_server.py"), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def declared(trials: int, concurrency: int) -> Sweep:
    """A sweep of about so many trials."""
    cases = 10
    thinking = max(1, trials // (cases * 1000))
    return sweep_from(
        {
            "name": "bench",
            "suites": {"alignment": str(SUITE)},
            "cases_per_agent": cases,
            "repeats": trials // (cases * thinking),
            "targets": [
                {
                    "provider": "openai",
                    "model": "loopback",
                    "thinking": [None],
                    **(
                        {"quantizations": [f"q{n}" for n in range(thinking)]}
                        if thinking > 1
                        else {}
                    ),
                }
            ],
            "privacy": "open",
            "limits": {"openai": {"concurrency": concurrency}},
        },
        "bench",
    )


async def sweep(
    base_url: str, trials: int, concurrency: int, watch: list[int], *, compared: bool = False
) -> Taken:
    """The same by the sweep engine, stored and all, and on demand scored and compared."""
    with tempfile.TemporaryDirectory() as folder, Store(f"{folder}/runs.db", create=True) as store:
        backend = Backend(base_url=base_url, api_key=SecretStr("none"))
        async with ProviderPool(lambda name: create_provider(name, backend)) as pool:
            plan = await plan_sweep(declared(trials, concurrency), Path(), pool, None)

            def on_progress(progress: Progress) -> None:
                if progress.done % 1000 == 0:
                    watch.append(psutil.Process().memory_info().rss)

            began, cpu = time.perf_counter(), time.process_time()
            outcome = await run_plan(plan, store, pool, on_progress=on_progress)
            if compared:
                compare_run(store, plan.run_id)
            cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
        assert outcome.called == len(plan.trials), outcome
        assert sum(1 for _ in store.finished_positions(plan.run_id)) == len(plan.trials)
        latencies = [row["total_s"] for row in store.trials(plan.run_id)] if trials <= 5000 else [0]
        n = len(plan.trials)
        return Taken(cpu / n * 1000, n / seconds, median(latencies) * 1000)


async def raw(base_url: str, plan: Plan, concurrency: int) -> Taken:
    """The SDK alone on the same requests: streamed, read to the end, and forgotten."""
    client = AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0)
    requests = iter(list(plan.trials))
    latencies: list[float] = []

    async def work() -> None:
        for trial in requests:
            body = Call(plan.request(trial), UNKNOWN).body
            began = time.perf_counter()
            stream = await client.chat.completions.create(
                **body, stream=True, stream_options={"include_usage": True}
            )
            text = ""
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
            latencies.append(time.perf_counter() - began)

    await client.models.list()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    await client.close()
    n = len(plan.trials)
    return Taken(cpu / n * 1000, n / seconds, median(latencies) * 1000)


def on_the_wire(base_url: str, requests: int = 40) -> float:
    """The server's median time in ms by a bare socket: what is true, the connection included."""
    address = urlsplit(base_url)
    body = b'{"stream":true}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    taken = []
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            began, heard = time.perf_counter(), b""
            connection.sendall(head % len(body) + body)
            while b"[DONE]" not in heard:
                heard += connection.recv(1 << 16)
            taken.append(time.perf_counter() - began)
    return median(taken) * 1000


async def compare(delay_ms: int, concurrency: int, trials: int) -> None:
    """Print one row: both, in turns, the least of some rounds."""
    with server(delay_ms) as base_url:
        backend = Backend(base_url=base_url, api_key=SecretStr("none"))
        async with ProviderPool(lambda name: create_provider(name, backend)) as pool:
            plan = await plan_sweep(declared(trials, concurrency), Path(), pool, None)
        true_ms = on_the_wire(base_url)
        # Libraries are loaded and connections opened before anything is measured.
        await sweep(base_url, 20, concurrency, [])
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(await raw(base_url, plan, concurrency))
            ours.append(await sweep(base_url, trials, concurrency, []))
    mine, sdk = (min(taken, key=lambda one: one.cpu_ms) for taken in (ours, theirs))
    print(
        f"{delay_ms:>8} {concurrency:>11} {mine.cpu_ms:>8.2f} {sdk.cpu_ms:>8.2f}"
        f" {mine.cpu_ms / sdk.cpu_ms:>6.2f} {mine.per_s:>9.0f} {sdk.per_s:>9.0f}"
        f" {true_ms:>8.2f} {mine.p50_ms:>8.2f} {sdk.p50_ms:>8.2f}"
    )


async def long(trials: int) -> None:
    """Print how memory grows over a long sweep."""
    seen: list[int] = []
    with server(0) as base_url:
        taken = await sweep(base_url, trials, 32, seen)
    half = seen[len(seen) // 2 :]
    print(f"{trials} trials: {taken.per_s:.0f} a second, {taken.cpu_ms:.2f} ms CPU a trial")
    print(
        f"resident memory: peak {max(seen) / 1e6:.0f} MB; second half from {half[0] / 1e6:.0f} to"
        f" {half[-1] / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int)
    options = parser.parse_args()
    if options.trials:
        asyncio.run(long(options.trials))
        return
    print(
        f"{'delay ms':>8} {'concurrency':>11} {'cpu ms':>8} {'sdk ms':>8} {'ratio':>6} {'per s':>9}"
        f" {'sdk/s':>9} {'true ms':>8} {'p50 ms':>8} {'sdk p50':>8}"
    )
    for delay_ms, concurrency, trials in (
        (0, 1, 500),
        (0, 4, 500),
        (0, 32, 500),
        (50, 1, 50),
        (50, 4, 200),
        (50, 32, 500),
    ):
        asyncio.run(compare(delay_ms, concurrency, trials))


if __name__ == "__main__":
    main()
