"""What a store costs as it grows: recording, reading, scoring once, and comparing.

    python benchmarks/bench_store.py [--trials 1000 10000 100000] [--url postgresql://...] [--json]

Five agents with sixty targets each; real cases and scorers, answers and figures by chance. Trials
are drawn and recorded in batches of 500 and read back row by row; the run is scored, and compared with and
without its details. Times are CPU seconds of this process, which other work on the machine hardly
changes, with the wall's beside them where a server works too; the last column is the time at N
over that at the first N, divided by how much larger N is: 1 where the cost grows as N does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filled_store import RUN_ID, fill

from soma_bench.comparison import compare_run
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.store import Store
from soma_bench.sweeps.store.tables import METADATA, VERSION


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def best(work: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """The least of several."""
    runs = [timed(work) for _ in range(times)]
    return min(cpu for cpu, _ in runs), min(wall for _, wall in runs)


def measure(location: str, trials: int) -> dict[str, tuple[float, float]]:
    """Seconds of each step on a store with so many trials."""
    with Store(location, create=True) as store:
        return {
            "record": timed(lambda: fill(store, trials)),
            "read rows": timed(lambda: sum(1 for _ in store.trials(RUN_ID))),
            "score": timed(lambda: score_run(store, RUN_ID)),
            "score again": best(lambda: score_run(store, RUN_ID)),
            "compare": best(lambda: compare_run(store, RUN_ID)),
            "without details": best(lambda: compare_run(store, RUN_ID, details=False)),
        }


def emptied(location: str) -> str:
    """A server's store without its tables."""
    with Store(location, create=True) as store, store._engine.begin() as connection:
        METADATA.drop_all(connection)
        VERSION.drop(connection)
    return location


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--url", help="an empty database of a PostgreSQL server; it is emptied")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for database in ("SQLite", *(["PostgreSQL"] if options.url else [])):
        first: dict[str, float] = {}
        for trials in options.trials:
            with tempfile.TemporaryDirectory() as folder:
                place = str(Path(folder) / "runs.db")
                where = place if database == "SQLite" else emptied(options.url)
                for step, (cpu, wall) in measure(where, trials).items():
                    growth = cpu / first.setdefault(step, cpu) / (trials / options.trials[0])
                    results.append(
                        {
                            "database": database,
                            "trials": trials,
                            "step": step,
                            "cpu_s": cpu,
                            "wall_s": wall,
                            "growth": growth,
                        }
                    )
                    if not options.json:
                        print(
                            f"{database:>10} {trials:>8,} {step:<16} {cpu:8.2f} s CPU {wall:8.2f} s"
                            f" {trials / wall:>10,.0f} trials/s {growth:6.2f}",
                            flush=True,
                        )
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
