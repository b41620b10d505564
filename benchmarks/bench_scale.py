"""How the cost of a sweep grows with its trials: time, memory and disk, from the plan to a comparison.

Each size runs in a process of its own against one loopback server that answers at once: the sweep is
planned, run at concurrency 32, stored, scored and compared. Memory is the peak of that process, and
``flat`` what its second half added to it. Run:

    python benchmarks/bench_scale.py                                     # 100 to 10,000 trials
    python benchmarks/bench_scale.py --most 100000 --plot performance.png
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
from bench_sweep import declared, server
from pydantic import SecretStr

from soma_bench.comparison import compare_run
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import Progress, plan_sweep, run_plan
from soma_bench.sweeps.store import Store

CONCURRENCY = 32
SIZES = (100, 1000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Grown:
    """What a sweep of one size took."""

    trials: int
    per_s: float
    cpu_ms: float
    """CPU time of this process a trial."""
    peak_mb: float
    second_half_mb: float
    """By how much the resident memory of the second half passed that of the first."""
    store_kb: float
    """Disk a trial, its prompt and answer included."""
    compare_s: float
    """CPU seconds from the stored trials to figures with intervals, scoring included."""


def size_of(folder: str) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in Path(folder).iterdir())


async def grow(base_url: str, trials: int) -> Grown:
    """One sweep of that size."""
    seen: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with Store(str(path), create=True) as store:
            backend = Backend(base_url=base_url, api_key=SecretStr("none"))
            async with ProviderPool(lambda name: create_provider(name, backend)) as pool:
                plan = await plan_sweep(declared(trials, CONCURRENCY), Path(), pool, None)
                every = max(1, trials // 200)

                def on_progress(progress: Progress) -> None:
                    if progress.done % every == 0:
                        seen.append(psutil.Process().memory_info().rss)

                began, cpu = time.perf_counter(), time.process_time()
                outcome = await run_plan(plan, store, pool, on_progress=on_progress)
                cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
            assert (outcome.called, outcome.failed) == (trials, 0), outcome
            stored = sum(1 for _ in store.finished_positions(plan.run_id))
            assert stored == trials, "every trial is in the store, once"
            compared = time.process_time()
            compare_run(store, plan.run_id)
            compared = time.process_time() - compared
        size = size_of(folder)
    half = len(seen) // 2
    return Grown(
        trials=trials,
        per_s=trials / seconds,
        cpu_ms=1000 * cpu / trials,
        peak_mb=max(seen) / 1e6,
        second_half_mb=max(0, max(seen[half:]) - max(seen[:half])) / 1e6,
        store_kb=size / trials / 1e3,
        compare_s=compared,
    )


def measured(base_url: str, trials: int) -> Grown:
    """One size, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(trials), "--url", base_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Grown(**json.loads(done.stdout))


def draw(grown: list[Grown], path: str) -> None:
    """The growth as a picture: CPU a trial, memory, and the time of a comparison."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    trials = [one.trials for one in grown]
    for axis, values, label in (
        (axes[0], [one.cpu_ms for one in grown], "CPU a trial (ms)"),
        (axes[1], [one.peak_mb for one in grown], "peak memory (MB)"),
        (axes[2], [one.compare_s for one in grown], "score and compare (s of CPU)"),
    ):
        axis.plot(trials, values, marker="o", color="#0072b2")
        axis.set(xscale="log", xlabel="trials in the sweep", ylabel=label)
        if axis is axes[2]:
            axis.set(yscale="log")
        else:
            axis.set_ylim(0, 1.15 * max(values))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--plot")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(asyncio.run(grow(options.url, options.one)))))
        return
    heads = ("trials", "per s", "cpu ms", "peak MB", "flat MB", "KB stored", "compare s")
    print(" ".join(f"{head:>9}" for head in heads))
    grown = []
    with server(0) as base_url:
        for trials in (size for size in SIZES if size <= options.most):
            one = measured(base_url, trials)
            grown.append(one)
            print(
                f"{one.trials:>9,} {one.per_s:>9.0f} {one.cpu_ms:>9.2f} {one.peak_mb:>9.0f}"
                f" {one.second_half_mb:>9.1f} {one.store_kb:>9.1f} {one.compare_s:>9.2f}",
                flush=True,
            )
    if options.plot:
        draw(grown, options.plot)


if __name__ == "__main__":
    main()
