"""How long the optimiser takes on made-up tables of five agents with sixty targets each.

    python benchmarks/bench_optimize.py [--tables 10] [--front] [--referee]

Each table has twenty models with three thinking settings; limits on latency, memory, cost and
privacy hold, so that no trivial answer fits. It is the optimiser that is measured: the figures of
the tables are drawn, not measured. Each question is asked twice and the shorter CPU time taken, as
another slider's move finds the evidence read already. With ``--referee`` the solver answers too, and
any difference is an error.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from soma_bench.optimize import (
    Infeasible,
    Lexicographic,
    Solution,
    Weighted,
    best_single_model,
    optimize,
    pareto_assignments,
    runner_up,
    shadow_prices,
    what_binds,
)
from soma_bench.optimize.enumeration import Enumeration
from soma_bench.optimize.fallbacks import Fallbacks
from soma_bench.optimize.figures import GivenUp
from soma_bench.routing.constraints import Constraints
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

GIB = 1 << 30
EVERYTHING = {"contention": 1.6, "may_swap": True, "require_fallback": True}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "limits": ({}, {}),
    "fallbacks required": ({"require_fallback": True}, {}),
    "fallbacks elsewhere": ({"require_fallback": True, "fallback_apart": "provider"}, {}),
    "swapping": ({"may_swap": True}, {}),
    "parallel, contention 1.6": ({"contention": 1.6}, {"pipeline": "parallel"}),
    "all of these": (EVERYTHING, {"pipeline": "parallel"}),
    "either order": ({}, {"pipeline": "either"}),
    "tolerances": (
        {},
        {"objective": Lexicographic(quality_tolerance=0.1, latency_tolerance_s=2)},
    ),
    "cost first": ({}, {"objective": Lexicographic(order=("cost", "latency", "quality"))}),
    "weighted": ({}, {"objective": Weighted(latency_per_s=0.01, cost_per_usd_per_1000=0.01)}),
    "smallest conflict": (
        {"quality_floors": dict.fromkeys(AGENTS, 0.8), "require_fallback": True},
        {},
    ),
}
"""By name the constraints beside the usual limits, and how the optimiser is asked."""


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
    """Make each call twice and print the spread of the shorter CPU times."""
    shortest = []
    for call in calls:
        times = []
        for _ in range(2):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        shortest.append(1000 * min(times))
    ordered = sorted(shortest)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    print(
        f"{name:28} CPU median {statistics.median(ordered):7.1f} ms, p95 {p95:7.1f} ms,"
        f" worst {ordered[-1]:7.1f} ms",
        flush=True,
    )


@contextmanager
def solver_alone() -> Iterator[None]:
    """The enumeration gives up at once."""
    with (
        patch.object(Enumeration, "__init__", side_effect=GivenUp),
        patch.object(Fallbacks, "__init__", side_effect=GivenUp),
    ):
        yield


def compare_with_solver(name: str, ask: Callable[[], Solution | Infeasible]) -> None:
    """Fail unless the solver chooses the same; a conflict of the same length may name others."""

    def seen(found: Solution | Infeasible) -> Any:
        if isinstance(found, Infeasible):
            return len(found.conflict)
        return found.pipeline, found.plan.choices

    quick = seen(ask())
    with solver_alone():
        assert seen(ask()) == quick, name


def main() -> None:
    """Time each kind of question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--front", action="store_true", help="also the whole Pareto front")
    parser.add_argument("--referee", action="store_true", help="also ask the solver, which is slow")
    given = parser.parse_args()
    tables = [table(seed) for seed in range(given.tables)]
    for name, (more, how) in KINDS.items():
        constraints = limits(**more)
        asks = [lambda r=rows, c=constraints, h=how: optimize(r, c, **h) for rows in tables]
        timed(name, asks)
        for ask in asks if given.referee else ():
            compare_with_solver(name, ask)
    for name in ("limits", "fallbacks required", "all of these"):
        more, how = KINDS[name]
        constraints = limits(**more)
        pairs = [(rows, optimize(rows, constraints, **how)) for rows in tables]
        solved = [(rows, found) for rows, found in pairs if isinstance(found, Solution)]
        questions: dict[str, Callable[[Any, Solution], Any]] = {
            "what binds": lambda r, _, c=constraints, h=how: what_binds(r, c, **h),
            "shadow prices": lambda r, _, c=constraints, h=how: shadow_prices(r, c, **h),
            "single model": lambda r, _, c=constraints, h=how: best_single_model(r, c, **h),
            "runner-up": lambda r, found, h=how: runner_up(r, found, scores={}, **h),
        }
        if given.front:
            questions["front"] = lambda r, _, c=constraints, h=how: pareto_assignments(r, c, **h)
        for question, ask in questions.items():
            timed(
                f"{question} ({name})"[:28],
                [lambda a=ask, r=rows, f=found: a(r, f) for rows, found in solved],
            )


if __name__ == "__main__":
    main()
