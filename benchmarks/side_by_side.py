"""CPU time of two ways to do the same, taken in turns against a server in a process of its own.

The server has no latency and is not in this process, so that the time counted is the client's alone.
The two take turns in short rounds: whatever else the machine does then meets both.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Beside:
    """CPU seconds of one piece of work each way: medians over the rounds."""

    bare_s: float
    ours_s: float
    ratio: float
    """Ours by the bare one, of each round."""
    more_s: float
    """Ours less the bare one, of each round."""


async def compare(bare: Work, ours: Work, times: int, parts: int = 1) -> Beside:
    """Compare two kinds of work.

    Args:
        bare: the work without this project.
        ours: the same work with it.
        times: pieces of work in a round.
        parts: how many parts a piece of work has; the times are those of one part.
    """
    await _cpu_s(bare, times)
    await _cpu_s(ours, times)
    pairs = []
    for turn in range(ROUNDS):
        # Who goes first changes, so that neither always meets a warm cache.
        if turn % 2:
            ours_s = await _cpu_s(ours, times)
            pairs.append((await _cpu_s(bare, times), ours_s))
        else:
            bare_s = await _cpu_s(bare, times)
            pairs.append((bare_s, await _cpu_s(ours, times)))
    return Beside(
        bare_s=median(theirs for theirs, _ in pairs) / parts,
        ours_s=median(mine for _, mine in pairs) / parts,
        ratio=median(mine / theirs for theirs, mine in pairs),
        more_s=median(mine - theirs for theirs, mine in pairs) / parts,
    )


async def _cpu_s(work: Work, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - started) / times


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """The address of a test server, which Python runs with these arguments and which prints it."""
    server = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    assert server.stdin
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(10)
