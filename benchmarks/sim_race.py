"""How often a race loses the best candidate, and how many calls it saves: a table over scenarios.

    nice python benchmarks/sim_race.py [--trials 1000] [--jobs 2]

Every scenario has 24 candidates and 60 cases. "lost" is the share of races whose confidence set does
not hold the candidate with the highest true mean (where all are equal, one that was named before),
with its exact 95 % interval; "saved" is the share of the 1440 calls that were not made; "set" is the
mean size of the confidence set at the end. The last two columns stop at an expected regret of 0.01.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one process a core, and no more threads

import numpy as np

from soma_bench.scoring.statistics import mean_interval
from soma_bench.sweeps.racing import Floats, RaceRules, race

CANDIDATES, CASES = 24, 60
MODELS = np.array([0.0, -0.08, -0.2, -0.3])
QUANTIZATIONS = np.array([0.0, -0.02, -0.06])
BUDGETS = np.array([0.0, -0.03])
WIDE = 0.75 + (
    MODELS[:, None, None] + QUANTIZATIONS[None, :, None] + BUDGETS[None, None, :]
).reshape(-1)
CLEAR = np.r_[0.85, np.linspace(0.70, 0.55, CANDIDATES - 1)]


def graded(rng: np.random.Generator, means: Floats, noise: float = 0.15) -> Floats:
    """Scores with hard and easy cases, and noise of each answer's own; paired SD is 1.4 noise."""
    hardness = rng.normal(0, 0.15, CASES)
    return np.clip(means[:, None] + hardness + rng.normal(0, noise, (len(means), CASES)), 0, 1)


def binary(rng: np.random.Generator, means: Floats) -> Floats:
    """Right or wrong, on cases that are hard or easy for all."""
    ease = rng.uniform(-0.2, 0.2, CASES)
    return (rng.random((len(means), CASES)) < means[:, None] + ease).astype(float)


def ties(rng: np.random.Generator) -> Floats:
    """Almost always the same full score; copies of a candidate; the best fails a little less."""
    fails = np.repeat([0.02, 0.04, 0.06, 0.08], 6)
    scores = (rng.random((CANDIDATES, CASES)) >= fails[:, None]).astype(float)
    scores[1:6] = scores[0]
    return scores


def correlated(rng: np.random.Generator) -> Floats:
    """Quantizations and budgets of a model answer almost alike."""
    shared = np.repeat(rng.normal(0, 0.2, (4, CASES)), 6, axis=0)
    return np.clip(WIDE[:, None] + shared + rng.normal(0, 0.06, (CANDIDATES, CASES)), 0, 1)


def rare_failures(rng: np.random.Generator) -> Floats:
    """The best never fails and is a little worse than all others, which fail 1 answer in 12."""
    scores = np.full((CANDIDATES, CASES), 0.95)
    scores[0] = 0.90
    scores[1:][rng.random((CANDIDATES - 1, CASES)) < 1 / 12] = 0
    return scores


SCENARIOS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "clear winner": lambda rng: graded(rng, CLEAR),
    "4 models x 3 quantizations x 2 budgets, wide": lambda rng: graded(rng, WIDE),
    "the same, right or wrong": lambda rng: binary(rng, WIDE),
    "all equal": lambda rng: graded(rng, np.full(CANDIDATES, 0.6)),
    "all equal, right or wrong": lambda rng: binary(rng, np.full(CANDIDATES, 0.6)),
    "ties and copies, hardly any variance": ties,
    "quantizations answer alike (correlated)": correlated,
    "rare failures hide the best": rare_failures,
}


def one_race(scenario: str, seed: int, rules: RaceRules) -> tuple[bool, float, int]:
    """Whether the best was lost, the share of calls saved, and the size of the set."""
    rng = np.random.default_rng([seed, list(SCENARIOS).index(scenario)])
    result = race(SCENARIOS[scenario](rng), replace(rules, seed=seed))
    kept = result.confidence_set
    return 0 not in kept, 1 - result.measured / (CANDIDATES * CASES), len(kept)


def races(scenario: str, trials: range, rules: RaceRules) -> list[tuple[bool, float, int]]:
    return [one_race(scenario, seed, rules) for seed in trials]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append")
    parser.add_argument("--sd-floor", type=float, default=RaceRules().sd_floor)
    given = parser.parse_args()
    kinds = {
        "to the end": RaceRules(sd_floor=given.sd_floor),
        "strict": RaceRules(sd_floor=given.sd_floor, strict=True),
        "regret 0.01": RaceRules(sd_floor=given.sd_floor, regret=0.01),
    }
    print(f"{'scenario':46}{'rules':13}{'lost':>8}{'95 % interval':>17}{'saved':>8}{'set':>7}")
    with ProcessPoolExecutor(given.jobs) as pool:
        for scenario in given.scenario or SCENARIOS:
            for kind, rules in kinds.items():
                parts = [range(k, given.trials, given.jobs) for k in range(given.jobs)]
                found = pool.map(races, [scenario] * given.jobs, parts, [rules] * given.jobs)
                rows = [row for part in found for row in part]
                lost, saved, size = zip(*rows, strict=True)
                rate = mean_interval([[float(one)] for one in lost])
                print(
                    f"{scenario:46}{kind:13}{rate.mean:8.1%}"
                    f"{f'{rate.low:.1%} to {rate.high:.1%}':>17}{np.mean(saved):8.1%}"
                    f"{np.mean(size):7.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
