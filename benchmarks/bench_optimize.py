"""How long the optimiser takes on made-up tables of five agents with sixty targets each.

    python benchmarks/bench_optimize.py [--tables 10] [--front]

Each table has twenty models with three thinking settings; limits on latency, memory, cost and
privacy hold, so that no trivial answer fits. It is the optimiser that is measured: the figures of
the tables are drawn, not measured.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from soma_bench.optimize import Infeasible, optimize, pareto_assignments, runner_up, shadow_prices
from soma_bench.routing.constraints import Constraints
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

GIB = 1 << 30
KINDS: dict[str, dict[str, Any]] = {
    "limits": {},
    "fallbacks required": {"require_fallback": True},
    "swapping": {"may_swap": True},
    "parallel, contention 1.6": {"contention": 1.6},
}


def table(seed: int) -> list[Evidence]:
    """Five agents with sixty targets each."""
    draw = random.Random(seed)
    models = [f"ollama:m{i}" for i in range(12)] + [f"mlx:x{i}" for i in range(5)]
    models += ["claude:c0", "claude:c1", "openai:o1"]
    sizes = {model: draw.randint(1, 24) * GIB for model in models}
    rows = []
    for agent in AGENTS:
        for model in models:
            for thinking in ("off", "256", "1024"):
                is_local = not model.startswith(("claude", "openai"))
                quality = draw.betavariate(4, 3)
                p50 = draw.uniform(0.5, 20) * (1 if is_local else 0.3)
                rows.append(
                    Evidence(
                        agent=agent,
                        target=f"{model}?thinking={thinking}",
                        metric="accuracy",
                        n=60,
                        cases=60,
                        quality=quality,
                        quality_low=quality * 0.9,
                        quality_high=min(1.0, quality * 1.1),
                        answer_failures=draw.choice([0, 0, 1, 2, 5]),
                        latency_p50_s=p50,
                        latency_p95_s=p50 * 1.4,
                        cost_usd=0.0 if is_local else draw.uniform(0.001, 0.02),
                        memory_bytes=sizes[model] if is_local else None,
                        prompt_tokens=None,
                        output_tokens=None,
                        thinking_tokens=None,
                        load_s=sizes[model] / GIB / 3 if is_local else None,
                        synthetic=False,
                    )
                )
    return rows


def limits(**more: Any) -> Constraints:
    """Limits that most tables can hold and few hold by chance."""
    return Constraints(
        privacy=dict.fromkeys(AGENTS, "open"),
        max_latency_s=35,
        max_memory_bytes=27 * GIB,
        max_cost_usd_per_1000=20,
        **more,
    )


def timed(name: str, calls: list[Callable[[], Any]]) -> None:
    """Run each call once and print the spread."""
    walls, cpus = [], []
    for call in calls:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(
        f"{name:28} wall median {statistics.median(walls):6.2f} s, worst {max(walls):6.2f} s;"
        f" CPU median {statistics.median(cpus):6.2f} s, worst {max(cpus):6.2f} s"
    )


def main() -> None:
    """Time each kind of question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--front", action="store_true", help="also the whole Pareto front")
    given = parser.parse_args()
    tables = [table(seed) for seed in range(given.tables)]
    for name, more in KINDS.items():
        order: Any = "parallel" if "contention" in more else "sequential"
        constraints = limits(**more)
        timed(
            name,
            [
                lambda rows=rows, c=constraints, o=order: optimize(rows, c, pipeline=o)
                for rows in tables
            ],
        )
    timed(
        "either order", [lambda r=rows: optimize(r, limits(), pipeline="either") for rows in tables]
    )
    impossible = limits(quality_floors=dict.fromkeys(AGENTS, 0.8), require_fallback=True)
    timed("smallest conflict", [lambda r=rows: optimize(r, impossible) for rows in tables])
    timed("shadow prices", [lambda r=rows: shadow_prices(r, limits()) for rows in tables])
    solved = [(rows, optimize(rows, limits())) for rows in tables]
    timed(
        "runner-up",
        [
            lambda r=rows, s=s: runner_up(r, s)
            for rows, s in solved
            if not isinstance(s, Infeasible)
        ],
    )
    if given.front:
        timed("Pareto front", [lambda r=rows: pareto_assignments(r, limits()) for rows in tables])


if __name__ == "__main__":
    main()
