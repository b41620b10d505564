"""How long the package takes to import and the command line to help, beside bare Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 11


def median_seconds(*arguments: str) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    bare = median_seconds("-c", "pass")
    print(f"{'bare python':32} {bare * 1000:7.0f} ms")
    for name, arguments in {
        "import soma_bench": ["-c", "import soma_bench"],
        "soma-bench --help": ["-m", "soma_bench", "--help"],
    }.items():
        taken = median_seconds(*arguments)
        print(f"{name:32} {taken * 1000:7.0f} ms   {taken / bare:5.2f} x bare python")


if __name__ == "__main__":
    main()
