"""How often 95 % intervals of a mean hold the truth: a table over kinds of scores and numbers of cases.

nice python benchmarks/sim_intervals.py [--trials 1000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from soma_bench.scoring.statistics import mean_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]


def with_failures(rng: np.random.Generator, n: int) -> np.ndarray:
    """Scores about 0.8, and one answer in ten that fails and scores 0."""
    return np.where(rng.random(n) < 0.1, 0.0, rng.uniform(0.6, 1.0, n))


def patients(rng: np.random.Generator, n: int) -> np.ndarray:
    """Five cases a patient (n is the number of patients), alike within: intra-class 0.5."""
    shared = np.repeat(rng.uniform(0, 0.5, n), 5)
    return shared + rng.uniform(0, 0.5, 5 * n)


KINDS: dict[str, tuple[Draw, float]] = {
    "uniform": (lambda rng, n: rng.uniform(size=n), 0.5),
    "near the ceiling, beta(8, 1)": (lambda rng, n: rng.beta(8, 1, n), 8 / 9),
    "right or wrong, 0.7": (lambda rng, n: (rng.random(n) < 0.7).astype(float), 0.7),
    "right or wrong, 0.95": (lambda rng, n: (rng.random(n) < 0.95).astype(float), 0.95),
    "quarters: 0, 0.5, 0.75 or 1": (
        lambda rng, n: rng.choice([0, 0.5, 0.75, 1.0], size=n, p=[0.1, 0.2, 0.3, 0.4]),
        0.725,
    ),
    "one failure in ten": (with_failures, 0.72),
    "five cases a patient": (patients, 0.5),
}
CASES = (2, 3, 4, 6, 8, 12, 20, 60)


def coverage(kind: str, n: int, trials: int) -> tuple[float, float]:
    """Share of the intervals that hold the true mean, and their mean width."""
    draw, truth = KINDS[kind]
    rng = np.random.default_rng([n, list(KINDS).index(kind)])
    held, width = 0, 0.0
    for _ in range(trials):
        values = draw(rng, n)
        clusters = [position // (len(values) // n) for position in range(len(values))]
        interval = mean_interval([[value] for value in values.tolist()], clusters=clusters)
        held += interval.low <= truth <= interval.high
        width += interval.high - interval.low
    return held / trials, width / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args()
    print(f"{'scores':30}" + "".join(f"{f'n = {n}':>16}" for n in CASES))
    for kind in KINDS:
        cells = (coverage(kind, n, given.trials) for n in CASES)
        row = "".join(f"{f'{held:.1%} ({width:.2f})':>16}" for held, width in cells)
        print(f"{kind:30}{row}", flush=True)


if __name__ == "__main__":
    main()
