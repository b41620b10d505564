"""How often the gate raises an alarm without a cause, and how often it sees a loss: a table.

Five agents with two figures each; the loss, where there is one, is in one agent's quality.

nice python benchmarks/sim_gate.py [--gates 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from soma_bench.gate import Margins, Measured, compare, judge
from soma_bench.types import AGENTS

Draw = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]


def graded(rng: np.random.Generator, n: int, drop: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores that share the cases' difficulty."""
    hard = rng.uniform(0.3, 0.7, n)
    return hard + rng.uniform(-0.15, 0.15, n), hard + rng.uniform(-0.15, 0.15, n) - drop


def only_worse(rng: np.random.Generator, n: int, drop: float) -> tuple[np.ndarray, np.ndarray]:
    """All right before; now some wrong, at random: as skewed as differences can be."""
    return np.ones(n), (rng.random(n) >= drop).astype(float)


def flips(rng: np.random.Generator, n: int, drop: float) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong; one answer in ten changes either way, and some more are lost."""
    before = (rng.random(n) < 0.7).astype(float)
    now = np.where(rng.random(n) < 0.1, 1 - before, before)
    # What was right is lost so often that the mean falls by the drop beyond the even changes.
    even = 0.1 * (1 - 2 * 0.7)
    share = max(0.0, drop + even) / (0.7 + even)
    return before, np.where(rng.random(n) < share, 0.0, now)


KINDS: dict[str, Draw] = {"graded": graded, "only worse": only_worse, "right or wrong": flips}


def gate_of(
    rng: np.random.Generator, draw: Draw, n: int, drops: list[float], margin: float
) -> tuple[bool, bool]:
    """Whether the gate raised an alarm at all, and whether on the first agent's quality."""
    changes = []
    for agent, drop in zip(AGENTS, drops, strict=True):
        before, now = draw(rng, n, drop)
        length = rng.lognormal(1, 0.6, n)
        sides = [
            Measured(
                agent=agent,
                target="ollama:m",
                quality={str(case): float(np.clip(v, 0, 1)) for case, v in enumerate(scores)},
                latency_s={
                    str(case): float(v) for case, v in enumerate(length * rng.lognormal(0, 0.2, n))
                },
            )
            for scores in (before, now)
        ]
        changes += compare(
            (agent, "ollama:m"), sides[1], sides[0], None, Margins(quality=margin, latency=0.0)
        )
    found = judge(changes)
    return not found.passed, found.changes[0].verdict == "worse"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=400)
    count = parser.parse_args().gates
    rng = np.random.default_rng(1)
    print(f"{count} gates each; margin 0.05")
    print(f"{'scores':16} {'cases':>5} {'alarms at the margin':>21} {'sees a loss of 0.25':>20}")
    for name, draw in KINDS.items():
        for n in (12, 24, 60):
            false = [gate_of(rng, draw, n, [0.05] * 5, 0.05)[0] for _ in range(count)]
            seen = [gate_of(rng, draw, n, [0.25, 0, 0, 0, 0], 0.05)[1] for _ in range(count)]
            print(f"{name:16} {n:5} {np.mean(false):21.3f} {np.mean(seen):20.3f}", flush=True)


if __name__ == "__main__":
    main()
