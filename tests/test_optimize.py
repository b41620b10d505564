"""The optimiser: exact, honest about what it does not know, and clear about what stands in its way."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import milp

from brute_force import BruteForce, ranked
from routing_examples import GIB, random_instance, random_objective, row
from soma_bench import cli
from soma_bench.errors import ConfigError
from soma_bench.optimize import (
    Constraints,
    Infeasible,
    Lexicographic,
    Objective,
    Order,
    Solution,
    Weighted,
    best_single_model,
    build_profile,
    optimize,
    pareto_assignments,
    runner_up,
    shadow_prices,
    what_binds,
)
from soma_bench.optimize.optimizer import all_demands, read_tables
from soma_bench.optimize.programme import Programme
from soma_bench.optimize.search import is_feasible
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile, Provenance, load_profile, save_profile
from soma_bench.separation import CaseMeans
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName

OPEN: dict[AgentName, Any] = dict.fromkeys(AGENTS, "open")


def table_of(*targets: str, **figures: Any) -> list[Evidence]:
    """The same targets for every agent, the first of them the best."""
    return [
        row(agent, target, **{"quality": 0.9 - 0.1 * index, **figures})
        for agent in AGENTS
        for index, target in enumerate(targets)
    ]


def solved(evidence: list[Evidence], **limits: Any) -> Solution:
    found = optimize(evidence, Constraints(**limits))
    assert isinstance(found, Solution), found.message
    return found


def unsolved(evidence: list[Evidence], **limits: Any) -> Infeasible:
    found = optimize(evidence, Constraints(**limits))
    assert isinstance(found, Infeasible)
    return found


def primaries(found: Solution) -> list[str]:
    return [choice.primary.target for choice in found.plan.choices]


def fallbacks(found: Solution) -> list[str | None]:
    return [choice.fallback and choice.fallback.target for choice in found.plan.choices]


def orders(pipeline: Order) -> tuple[Pipeline, ...]:
    return ("sequential", "parallel") if pipeline == "either" else (pipeline,)


def assert_equals_brute_force(
    evidence: list[Evidence],
    constraints: Constraints,
    pipeline: Order,
    objective: Objective = "quality_latency_cost",
) -> bool:
    """Same assignment, runner-up and order of stages, or infeasible both; True where there is one."""
    found = optimize(evidence, constraints, pipeline=pipeline, objective=objective)
    forces = [BruteForce(evidence, constraints, order) for order in orders(pipeline)]
    expected = ranked(forces, objective)
    if not expected:
        assert isinstance(found, Infeasible)
        assert_conflict_cannot_be_shorter(evidence, constraints, pipeline, found)
        return False
    assert isinstance(found, Solution), found.message
    force, rows, latency = expected[0]
    assert found.pipeline == force.pipeline
    assert tuple(choice.primary for choice in found.plan.choices) == rows
    fallbacks = tuple(choice.fallback for choice in found.plan.choices)
    assert fallbacks == force.best_fallbacks(rows, latency)
    assert found.plan.violated == ()
    percentile = constraints.latency
    used = found.plan.latency_p50_s if percentile == "p50" else found.plan.latency_p95_s
    assert used == pytest.approx(float(latency))
    assert found.plan.cost_usd_per_1000 == pytest.approx(float(1000 * force.cost(rows, fallbacks)))
    return True


def assert_conflict_cannot_be_shorter(
    evidence: list[Evidence], constraints: Constraints, pipeline: Order, found: Infeasible
) -> None:
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    conflict = [demand for demand in demands if demand.name in found.conflict]
    assert len(conflict) == len(found.conflict)
    assert not is_feasible(tables, conflict)
    for size in range(min(len(conflict), 3)):
        for fewer in combinations(demands, size):
            assert is_feasible(tables, fewer), (found.conflict, fewer)
    for demand in conflict:
        rest = [other for other in conflict if other != demand]
        assert is_feasible(tables, rest), (found.conflict, demand.name)


ORDERS: tuple[Order, ...] = ("sequential", "parallel", "either")
INSTANCES = int(os.environ.get("SOMA_BENCH_BRUTE_FORCE", "120"))
"""How many seeded tables are tried; thousands of others were once."""


def test_choice_equals_brute_force_on_seeded_tables() -> None:
    feasible = 0
    for seed in range(INSTANCES):
        random_ = random.Random(seed)
        evidence, constraints = random_instance(random_)
        pipeline = random_.choice(ORDERS)
        objective = random_objective(random_)
        try:
            feasible += assert_equals_brute_force(evidence, constraints, pipeline, objective)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    share = feasible / INSTANCES
    assert 0.2 < share < 0.9, "the tables must be neither all solvable nor all unsolvable"


@settings(max_examples=40, deadline=None)
@given(random_=st.randoms(use_true_random=False), pipeline=st.sampled_from(ORDERS))
def test_choice_equals_brute_force_on_any_table(random_: random.Random, pipeline: Order) -> None:
    evidence, constraints = random_instance(random_, most=2)
    assert_equals_brute_force(evidence, constraints, pipeline, random_objective(random_))


def test_order_of_evidence_does_not_matter() -> None:
    evidence, _ = random_instance(random.Random(5))
    constraints = Constraints(privacy=OPEN, allow_synthetic=True)
    shuffled = random.Random(1).sample(evidence, len(evidence))
    assert optimize(evidence, constraints) == optimize(shuffled, constraints)


@pytest.mark.parametrize("limit", ["memory", "latency", "cost"])
def test_limit_holds_to_the_last_unit(limit: str) -> None:
    """A limit that the best assignment just meets is met; a hair less excludes it."""
    evidence = [
        row(
            agent,
            target,
            quality=quality,
            latency_p50_s=seconds,
            latency_p95_s=seconds,
            memory_bytes=size if target[0] == "o" else None,
            cost_usd=0.0 if target[0] == "o" else 0.00123 + index / 1e6,
        )
        for index, agent in enumerate(AGENTS)
        for target, quality, seconds, size in (
            (f"ollama:big{index}", 0.9, 9.000_101 + index / 7, 20 * GIB + index),
            (f"ollama:small{index}", 0.5, 1.3, 3 * GIB + index),
            (f"claude:c{index}", 0.95, 2.1, None),
        )
    ]
    privacy = OPEN if limit == "cost" else {}
    best = solved(evidence, privacy=privacy)
    field, used, hair = {
        "memory": ("max_memory_bytes", sum(20 * GIB + i for i in range(5)), 1),
        "latency": ("max_latency_s", best.plan.latency_p95_s, 2e-5),
        "cost": ("max_cost_usd_per_1000", best.plan.cost_usd_per_1000, 2e-5),
    }[limit]
    exact = solved(evidence, privacy=privacy, **{field: used})
    assert primaries(exact) == primaries(best)
    less = solved(evidence, privacy=privacy, **{field: used - hair})
    assert less.plan.quality < best.plan.quality
    assert less.plan.violated == ()


def test_sums_that_are_equal_but_for_rounding_are_a_tie() -> None:
    """Memory holds one model only: thirds of the quick one sum to the whole of the slow one."""
    evidence = [
        row(agent, target, quality=quality, latency_p50_s=seconds, latency_p95_s=seconds)
        for target, seconds, qualities in (
            ("ollama:quick", 1.0, [1 / 3, 1 / 3, 1 / 3, 0.5, 0.5]),
            ("ollama:slow", 2.0, [1.0, 0.0, 0.0, 0.5, 0.5]),
        )
        for agent, quality in zip(AGENTS, qualities, strict=True)
    ]
    assert primaries(solved(evidence, max_memory_bytes=5 * GIB)) == ["ollama:quick"] * 5


def test_equal_quality_goes_to_lower_latency_then_cost_then_text() -> None:
    def best_of(*rows: tuple[str, float, float]) -> str:
        evidence = [
            row(agent, target, latency_p50_s=seconds, latency_p95_s=seconds, cost_usd=cost)
            for agent in AGENTS
            for target, seconds, cost in rows
        ]
        return primaries(solved(evidence, privacy=OPEN))[0]

    assert best_of(("claude:a", 2.0, 0.0), ("claude:b", 1.0, 1.0)) == "claude:b"
    assert best_of(("claude:a", 1.0, 0.2), ("claude:b", 1.0, 0.1)) == "claude:b"
    assert best_of(("claude:b", 1.0, 0.1), ("claude:a", 1.0, 0.1)) == "claude:a"


def test_unknown_price_is_never_taken_for_the_lower_one() -> None:
    evidence = [
        row(agent, target, cost_usd=cost)
        for agent in AGENTS
        for target, cost in (("claude:a", None), ("claude:b", 0.5))
    ]
    found = solved(evidence, privacy=OPEN)
    assert primaries(found) == ["claude:b"] * 5
    only_unknown = [item for item in evidence if item.cost_usd is None]
    assert solved(only_unknown, privacy=OPEN).plan.cost_usd_per_1000 is None


def test_unknown_price_under_a_cost_limit_is_an_error() -> None:
    evidence = [*table_of("ollama:a"), row("radiologist", "claude:x", cost_usd=None)]
    limits = Constraints(privacy=OPEN, max_cost_usd_per_1000=5)
    with pytest.raises(ConfigError, match="price of claude:x for radiologist is not known"):
        optimize(evidence, limits)
    private = Constraints(max_cost_usd_per_1000=5)
    assert isinstance(optimize(evidence, private), Solution), "it is no candidate there"


def test_unknown_memory_under_a_memory_limit_is_an_error_but_not_for_the_cloud() -> None:
    limits = Constraints(privacy=OPEN, max_memory_bytes=GIB)
    with pytest.raises(ConfigError, match="memory of ollama:a for alignment was not measured"):
        optimize(table_of("ollama:a", memory_bytes=None), limits)
    found = optimize(table_of("claude:a", memory_bytes=None), limits)
    assert isinstance(found, Solution)
    assert found.plan.memory_bytes == 0
    assert solved(table_of("ollama:a", memory_bytes=None)).plan.memory_bytes is None


def test_model_measured_at_one_agent_is_known_at_all() -> None:
    evidence = table_of("ollama:a", memory_bytes=None)
    evidence[0] = row("alignment", "ollama:a", memory_bytes=7 * GIB)
    assert solved(evidence, max_memory_bytes=7 * GIB).plan.memory_bytes == 7 * GIB
    assert unsolved(evidence, max_memory_bytes=7 * GIB - 1).conflict == ("memory 7 GiB",)


def test_one_model_with_several_thinking_settings_is_resident_once() -> None:
    evidence = [
        row(agent, f"ollama:a?thinking={16 + index}", memory_bytes=5 * GIB + index)
        for index, agent in enumerate(AGENTS)
    ]
    assert solved(evidence).plan.memory_bytes == 5 * GIB + 4


def test_parallel_pipeline_waits_for_the_slower_of_the_two_readers() -> None:
    evidence = table_of("ollama:a", latency_p50_s=2.0, latency_p95_s=3.0)
    evidence[2] = row("pathologist", "ollama:a", latency_p50_s=7.0, latency_p95_s=8.0)
    constraints = Constraints(max_latency_s=17)
    together = optimize(evidence, constraints, pipeline="parallel")
    assert isinstance(together, Solution)
    assert (together.plan.latency_p50_s, together.plan.latency_p95_s) == (13.0, 17.0)
    in_turn = optimize(evidence, constraints)
    assert isinstance(in_turn, Infeasible)
    assert in_turn.message == "infeasible: nothing fits p95 latency 17 s (20 s would do)"


def test_fallback_is_another_model_where_there_is_one() -> None:
    evidence = table_of("ollama:a", "ollama:a?thinking=off", "llamacpp:b")
    assert fallbacks(solved(evidence)) == ["llamacpp:b"] * 5
    alone = table_of("ollama:a", "ollama:a?thinking=off")
    assert fallbacks(solved(alone)) == ["ollama:a?thinking=off"] * 5
    assert fallbacks(solved(table_of("ollama:a"))) == [None] * 5


def test_fallback_keeps_floor_privacy_memory_and_the_degraded_latency() -> None:
    base = table_of("ollama:a")
    other = row("radiologist", "ollama:b", quality=0.6, latency_p50_s=9, memory_bytes=8 * GIB)
    cloud = row("radiologist", "claude:c", quality=0.7, memory_bytes=None, cost_usd=0.01)

    def fallback(**limits: Any) -> str | None:
        return fallbacks(solved([*base, other, cloud], **limits))[1]

    assert fallback() == "ollama:b"
    assert fallback(privacy={"radiologist": "open"}) == "claude:c"
    assert fallback(quality_floors={"radiologist": 0.55}) is None
    assert fallback(quality_floors={"radiologist": 0.55}, floor_on="mean") == "ollama:b"
    assert fallback(max_memory_bytes=13 * GIB) == "ollama:b"
    assert fallback(max_memory_bytes=13 * GIB - 1) is None
    assert fallback(max_latency_s=17, latency="p50") == "ollama:b"
    assert fallback(max_latency_s=16.9, latency="p50") is None


def test_required_fallback_can_cost_the_best_primary() -> None:
    evidence = table_of("ollama:a")
    evidence += [row("radiologist", "ollama:b", quality=0.6, memory_bytes=8 * GIB)]
    evidence[1] = row("radiologist", "ollama:c", quality=0.95, memory_bytes=8 * GIB)
    evidence += [row("radiologist", "ollama:a", quality=0.5)]
    limits = {"max_memory_bytes": 13 * GIB}
    assert primaries(solved(evidence, **limits))[1] == "ollama:c"
    needed = solved(evidence, **limits, require_fallback={"radiologist": True})
    assert (primaries(needed)[1], fallbacks(needed)[1]) == ("ollama:c", "ollama:a")
    tight = {"max_memory_bytes": 13 * GIB - 1}
    needed = solved(evidence, **tight, require_fallback=False)
    assert primaries(needed)[1] == "ollama:a"
    refused = unsolved(evidence, **tight, require_fallback={"radiologist": True})
    assert refused.conflict == ("memory 13 GiB", "a fallback for radiologist")
    assert refused.would_do[0] == "13 GiB"


def test_synthetic_rows_are_chosen_only_where_allowed() -> None:
    evidence = [*table_of("ollama:a"), row("alignment", "ollama:z", quality=1.0, synthetic=True)]
    assert primaries(solved(evidence))[0] == "ollama:a"
    assert primaries(solved(evidence, allow_synthetic=True))[0] == "ollama:z"
    refused = unsolved(table_of("ollama:a", synthetic=True))
    assert refused.conflict == ("real weights only, none synthetic",)


def test_conflict_names_the_constraints_in_plain_words_and_what_would_do() -> None:
    evidence = [
        *table_of("ollama:small", latency_p50_s=2.0, memory_bytes=5 * GIB),
        *(row(agent, "ollama:big", quality=0.95, memory_bytes=24 * GIB) for agent in AGENTS),
        row("pathologist", "claude:c", quality=1.0, memory_bytes=None, cost_usd=0.01),
    ]
    alone = unsolved(evidence, quality_floors={"radiologist": 0.97})
    assert alone.message == (
        "infeasible: nothing fits quality floor radiologist 0.97 (0.85 would do)"
    )
    pair = unsolved(
        evidence,
        quality_floors={"radiologist": 0.84, "alignment": 0.1},
        max_memory_bytes=10 * GIB,
        max_latency_s=1000,
    )
    assert set(pair.conflict) == {"memory 10 GiB", "quality floor radiologist 0.84"}
    assert dict(zip(pair.conflict, pair.would_do, strict=True)) == {
        "memory 10 GiB": "24 GiB",
        "quality floor radiologist 0.84": "0.8",
    }
    private = unsolved(evidence, quality_floors={"pathologist": 0.87})
    assert set(private.conflict) == {
        "privacy pathologist local_only",
        "quality floor pathologist 0.87",
    }
    slow = unsolved(evidence, max_latency_s=2, latency="p50")
    assert slow.message == "infeasible: nothing fits p50 latency 2 s (10 s would do)"
    evidence = [item for item in evidence if item.agent != "pathologist" or "claude" in item.target]
    dear = unsolved(evidence, privacy=OPEN, max_cost_usd_per_1000=1)
    assert dear.would_do == ("10 USD",)


def test_greedy_choice_stands_beside_and_says_what_it_breaks() -> None:
    evidence = [
        item
        for index, agent in enumerate(AGENTS)
        for item in (
            row(agent, f"ollama:big{index}", quality=0.9, memory_bytes=20 * GIB),
            row(agent, "ollama:small", quality=0.6, memory_bytes=5 * GIB),
        )
    ]
    found = solved(evidence, max_memory_bytes=25 * GIB)
    assert found.greedy.quality == pytest.approx(4.5)
    assert found.greedy.violated == ("memory 25 GiB",)
    assert found.plan.quality == pytest.approx(3.3)
    assert solved(evidence).greedy.violated == ()


def test_figures_and_slack_are_those_of_the_chosen_rows() -> None:
    evidence = [
        row(agent, "claude:c", quality=0.8, cost_usd=0.004, latency_p50_s=1.0, latency_p95_s=2.0)
        for agent in AGENTS
    ]
    evidence.append(row("alignment", "ollama:a", quality=0.5, latency_p50_s=4, latency_p95_s=5))
    found = solved(
        evidence,
        privacy=OPEN,
        max_latency_s=14,
        max_cost_usd_per_1000=25,
        max_memory_bytes=6 * GIB,
        quality_floors={"alignment": 0.3},
    )
    plan = found.plan
    assert plan.quality == pytest.approx(4.0)
    assert (plan.latency_p50_s, plan.latency_p95_s) == (5.0, 10.0)
    assert plan.cost_usd_per_1000 == pytest.approx(20.0)
    assert plan.memory_bytes == 5 * GIB
    slack = {item.name: item.slack for item in plan.slacks}
    assert slack == {
        "p95 latency 14 s": pytest.approx(1.0),
        "cost 25 USD per 1000 analyses": pytest.approx(5.0),
        "memory 6 GiB": GIB,
        "quality floor alignment 0.3": pytest.approx(0.1),
    }


def test_what_binds_is_measured_by_dropping_each_demand() -> None:
    evidence = [
        *table_of("ollama:small", memory_bytes=5 * GIB, quality=0.5),
        row("radiologist", "ollama:big", quality=0.8, memory_bytes=20 * GIB),
        row("pathologist", "claude:c", quality=0.9, memory_bytes=None, cost_usd=0.01),
    ]
    limits = Constraints(max_memory_bytes=10 * GIB, max_latency_s=1000)
    found = [(item.name, round(item.quality_gain, 6)) for item in what_binds(evidence, limits)]
    both = "privacy radiologist local_only and privacy pathologist local_only"
    assert found == [(both, 0.4), ("memory 10 GiB", 0.3)], "a level that is inherited holds too"
    apart = what_binds(evidence, limits, pipeline="parallel")
    assert apart[0].name == "privacy pathologist local_only"
    assert what_binds(evidence, Constraints(privacy=OPEN)) == ()


def test_local_radiologist_keeps_all_that_read_it_out_of_the_cloud() -> None:
    evidence = table_of("ollama:a")
    evidence += [row(agent, "claude:c", quality=1.0, memory_bytes=None) for agent in AGENTS]
    others: dict[AgentName, Any] = {**OPEN, "radiologist": "local_only"}
    local, cloud = "ollama:a", "claude:c"
    assert primaries(solved(evidence, privacy=others)) == [cloud, local, local, local, local]
    side_by_side = optimize(evidence, Constraints(privacy=others), pipeline="parallel")
    assert isinstance(side_by_side, Solution)
    assert primaries(side_by_side) == [cloud, local, cloud, local, local]
    assert fallbacks(solved(evidence, privacy=others)) == [local, None, None, None, None]
    asked = unsolved(evidence, privacy=others, quality_floors={"report_writer": 0.85})
    assert asked.conflict == ("privacy radiologist local_only", "quality floor report_writer 0.85")


def test_ollamas_cloud_tags_are_not_local() -> None:
    evidence = [*table_of("ollama:a"), row("alignment", "ollama:gpt-oss:120b-cloud", quality=1.0)]
    assert primaries(solved(evidence))[0] == "ollama:a"
    assert primaries(solved(evidence, privacy={"alignment": "open"}))[0].endswith("-cloud")


def test_model_that_does_not_fit_beside_the_others_is_swapped_with_its_load() -> None:
    """Two models of 20 and 10 GiB in 27 GiB: the one that costs least to load comes and goes."""
    evidence = table_of("ollama:small", quality=0.5, memory_bytes=10 * GIB, load_s=2.0)
    evidence += [
        row(agent, "ollama:big", quality=0.9, memory_bytes=20 * GIB, load_s=6.0)
        for agent in ("pathologist", "report_writer")
    ]
    limits = {"max_memory_bytes": 27 * GIB, "latency": "p50"}
    assert solved(evidence, **limits).plan.quality == pytest.approx(2.5)
    plan = solved(evidence, **limits, may_swap=True).plan
    assert plan.quality == pytest.approx(3.3)
    # Both come and go: each is loaded once, for the stages that follow one another on it.
    assert (plan.resident, plan.swapped) == ((), ("ollama:big", "ollama:small"))
    assert plan.latency_p50_s == pytest.approx(10 + 6 + 2)
    assert plan.memory_bytes == 20 * GIB
    roomy = solved(evidence, max_memory_bytes=30 * GIB, latency="p50", may_swap=True).plan
    assert (roomy.swapped, roomy.latency_p50_s) == ((), 10.0)
    slow = solved(evidence, **limits, may_swap=True, max_latency_s=17.9)
    assert slow.plan.quality == pytest.approx(2.5)
    unknown = [item.model_copy(update={"load_s": None}) for item in evidence]
    assert solved(unknown, **limits, may_swap=True).plan.quality == pytest.approx(2.5)


def test_cache_counts_towards_memory() -> None:
    evidence = table_of("ollama:a", memory_bytes=20 * GIB, kv_bytes=8 * GIB)
    assert unsolved(evidence, max_memory_bytes=27 * GIB).would_do == ("28 GiB",)
    assert solved(evidence, max_memory_bytes=28 * GIB).plan.memory_bytes == 28 * GIB


def test_better_order_of_stages_is_chosen_when_asked() -> None:
    evidence = table_of("ollama:a", latency_p50_s=2.0, latency_p95_s=3.0)
    found = optimize(evidence, Constraints(), pipeline="either")
    assert isinstance(found, Solution)
    assert (found.pipeline, found.plan.latency_p95_s) == ("parallel", 12.0)
    shared = optimize(evidence, Constraints(contention=2.0), pipeline="either")
    assert isinstance(shared, Solution)
    assert (shared.pipeline, shared.plan.latency_p95_s) == ("sequential", 15.0)


def test_cloud_reader_does_not_slow_the_local_one() -> None:
    evidence = table_of("ollama:a", latency_p50_s=2.0, latency_p95_s=3.0)
    evidence[2] = row("pathologist", "claude:c", latency_p50_s=2.0, latency_p95_s=3.0)
    limits = Constraints(contention=2.0, privacy={"pathologist": "open"})
    found = optimize(evidence, limits, pipeline="parallel")
    assert isinstance(found, Solution)
    assert found.plan.latency_p95_s == 12.0


def test_fallback_stands_as_far_apart_as_asked() -> None:
    evidence = table_of("ollama:a", "ollama:b", "llamacpp:c")
    evidence += [row("alignment", "claude:d", quality=0.3, memory_bytes=None)]
    open_: dict[AgentName, Any] = {"alignment": "open"}

    def chosen(apart: str) -> list[str | None]:
        return fallbacks(solved(evidence, privacy=open_, fallback_apart=apart))

    assert chosen("target") == ["ollama:b"] * 5
    assert chosen("provider") == ["llamacpp:c"] * 5
    assert chosen("machine") == ["claude:d", None, None, None, None]
    refused = unsolved(evidence, fallback_apart="machine", require_fallback={"qc_reviewer": True})
    assert refused.conflict == ("fallbacks on another machine", "a fallback for qc_reviewer")


def test_failures_of_the_primary_pay_for_the_fallback() -> None:
    evidence = table_of("claude:a", memory_bytes=None, cost_usd=0.001)
    evidence[1] = row("radiologist", "claude:a", quality=0.9, answer_failures=3, cost_usd=0.001)
    evidence += [row("radiologist", "openai:b", quality=0.5, cost_usd=0.02)]
    limits = {"privacy": OPEN, "require_fallback": {"radiologist": True}}
    assert solved(evidence, **limits).plan.cost_usd_per_1000 == pytest.approx(5 + 0.25 * 20)
    assert unsolved(evidence, **limits, max_cost_usd_per_1000=9.9).would_do[0] == "10 USD"
    rate = solved(evidence, **limits, fallback_rate=0.1)
    assert rate.plan.cost_usd_per_1000 == pytest.approx(5 + 0.1 * 20)
    in_use = [item.model_copy(update={"failure_rate": 0.5}) for item in evidence]
    assert solved(in_use, **limits).plan.cost_usd_per_1000 == pytest.approx(5 + 0.5 * 20)


def test_degraded_pipeline_has_its_own_limit() -> None:
    evidence = table_of("ollama:a", latency_p50_s=2.0)
    evidence += [row("radiologist", "llamacpp:b", quality=0.6, latency_p50_s=7.0)]
    limits = {"latency": "p50", "max_latency_s": 10}
    assert fallbacks(solved(evidence, **limits)) == [None] * 5
    apart = solved(evidence, **limits, max_degraded_latency_s=15)
    assert fallbacks(apart)[1] == "llamacpp:b"
    slack = {item.name: item.used for item in apart.plan.slacks}
    assert slack == {
        "p50 latency 10 s": 10.0,
        "p50 latency 15 s with a stage on its fallback": 15.0,
    }
    needed = {"require_fallback": {"radiologist": True}}
    refused = unsolved(evidence, **limits, max_degraded_latency_s=14, **needed)
    assert set(refused.conflict) == {
        "p50 latency 10 s",
        "p50 latency 14 s with a stage on its fallback",
        "a fallback for radiologist",
    }
    assert "15 s" in refused.would_do


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_degraded_latency_s": 5}, "must stand beside max_latency_s"),
        ({"max_latency_s": 6, "max_degraded_latency_s": 5}, "not be below it"),
        ({"may_swap": True}, "may_swap needs max_memory_bytes"),
        ({"contention": 0.5}, "greater than or equal to 1"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(limits: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Constraints(**limits)


def test_new_fields_leave_old_profiles_bytes_alone() -> None:
    """A profile's digest is over all it holds: what is not set must not be written."""
    assert "may_swap" not in Constraints().model_dump()
    assert "load_s" not in row("alignment", "ollama:a").model_dump()
    given = Constraints(may_swap=True, max_memory_bytes=GIB, contention=1.5, fallback_rate=0.1)
    assert Constraints.model_validate_json(given.model_dump_json()) == given


def test_tolerance_gives_up_a_little_quality_for_much_latency() -> None:
    evidence = table_of("ollama:slow", quality=0.9, latency_p50_s=20.0, latency_p95_s=20.0)
    evidence += [row(agent, "ollama:quick", quality=0.88, latency_p50_s=2.0) for agent in AGENTS]

    def quick(objective: Objective) -> int:
        found = optimize(evidence, Constraints(), objective=objective)
        assert isinstance(found, Solution)
        return primaries(found).count("ollama:quick")

    assert quick("quality_latency_cost") == 0
    assert quick(Lexicographic(quality_tolerance=0.05)) == 2
    assert quick(Lexicographic(quality_tolerance=0.11)) == 5
    assert quick(Lexicographic(order=("latency", "quality", "cost"))) == 5
    assert quick(Weighted(latency_per_s=0.001)) == 0
    assert quick(Weighted(latency_per_s=0.002)) == 5


def test_unknown_price_cannot_be_weighed() -> None:
    evidence = table_of("ollama:a", cost_usd=None)
    with pytest.raises(ConfigError, match="price of ollama:a for alignment is not known"):
        optimize(evidence, Constraints(), objective=Weighted(cost_per_usd_per_1000=0.1))
    with pytest.raises(ConfigError, match="no place on a front over cost"):
        pareto_assignments(evidence, Constraints())


def test_objective_is_kept_in_the_profile() -> None:
    evidence = table_of("ollama:a")
    objective = Weighted(latency_per_s=0.01)
    found = optimize(evidence, Constraints(), objective=objective)
    assert isinstance(found, Solution)
    made = build_profile(found, name="demo", evidence=evidence, provenance=Provenance())
    assert Profile.model_validate_json(made.model_dump_json()).objective == objective


def test_runner_up_is_the_second_in_the_ranking() -> None:
    for seed in range(60):
        random_ = random.Random(seed)
        evidence, constraints = random_instance(random_)
        pipeline, objective = random_.choice(ORDERS), random_objective(random_)
        found = optimize(evidence, constraints, pipeline=pipeline, objective=objective)
        if isinstance(found, Infeasible) or isinstance(objective, Lexicographic):
            continue  # what is within a tolerance of the second is not what is within one of the first
        forces = [BruteForce(evidence, constraints, order) for order in orders(pipeline)]
        first, *others = ranked(forces, objective)
        others = [item for item in others if item[1] != first[1]]
        second = runner_up(evidence, found, pipeline=pipeline, scores={})
        assert (second is None) == (not others)
        if second is not None:
            assert tuple(choice.primary for choice in second.plan.choices) == others[0][1]
            assert second.pipeline == others[0][0].pipeline


def test_runner_up_is_told_apart_by_pairs_where_there_are_some() -> None:
    evidence = table_of("ollama:a")
    evidence += [row("radiologist", "ollama:b", quality=0.85)]
    found = solved(evidence)
    second = runner_up(evidence, found, scores={})
    assert second is not None
    assert [(item.agent, item.way) for item in second.differences] == [("radiologist", "intervals")]
    assert not second.told_apart
    assert "cannot tell" in second.message
    cases = [f"c{i}" for i in range(20)]
    ours = np.linspace(0.8, 0.99, 20)
    scores: dict[tuple[AgentName, str], CaseMeans] = {
        ("radiologist", "ollama:a"): CaseMeans(cases=cases, means=ours, clusters=cases),
        ("radiologist", "ollama:b"): CaseMeans(cases=cases, means=ours - 0.05, clusters=cases),
    }
    paired = runner_up(evidence, found, scores=scores)
    assert paired is not None
    assert (paired.differences[0].way, paired.differences[0].more_cases) == ("paired", 0)
    assert paired.told_apart
    assert "can tell it from the best (radiologist ollama:a against ollama:b +0.050" in (
        paired.message
    )
    shared = {
        ("radiologist", "ollama:a"): CaseMeans(cases=cases, means=ours, clusters=cases),
        ("radiologist", "ollama:b"): CaseMeans(
            cases=[*cases[:3], "other"], means=np.array([0.9, 0.7, 0.81, 0.0]), clusters=[*"abcd"]
        ),
    }
    on_three = runner_up(evidence, found, scores=shared)
    assert on_three is not None
    (item,) = on_three.differences
    assert (item.way, item.p, item.told_apart) == ("paired", 0.75, False), "the shared cases alone"
    assert item.more_cases
    assert f"about {item.more_cases:,} more cases would tell" in on_three.message
    assert runner_up(table_of("ollama:a"), solved(table_of("ollama:a")), scores={}) is None


def test_best_single_model_stands_beside() -> None:
    evidence = table_of("ollama:a", "ollama:a?thinking=off", quality=0.6)
    evidence += [row("radiologist", "ollama:b", quality=0.9), row("radiologist", "claude:c")]
    single = best_single_model(evidence, Constraints())
    assert single is not None
    assert single.quality == pytest.approx(3.0)
    assert {choice.primary.target for choice in single.choices} <= {
        "ollama:a",
        "ollama:a?thinking=off",
    }
    strict = best_single_model(evidence, Constraints(quality_floors={"radiologist": 0.7}))
    assert strict is not None
    assert strict.violated == ("quality floor radiologist 0.7",)
    lacking = [item for item in evidence if item.agent != "alignment"]
    assert best_single_model([*lacking, row("alignment", "ollama:d")], Constraints()) is None


def test_shadow_price_is_what_solving_again_buys() -> None:
    evidence = table_of("ollama:small", quality=0.5, latency_p50_s=1.0, memory_bytes=5 * GIB)
    evidence += [row("radiologist", "ollama:big", quality=0.8, latency_p50_s=7.5)]
    limits = Constraints(max_latency_s=8, latency="p50", max_memory_bytes=11 * GIB)
    prices = {price.kind: price for price in shadow_prices(evidence, limits)}
    latency = prices["latency"]
    assert latency.quality_gain == pytest.approx(0.3)
    assert latency.first_by == pytest.approx(3.5)
    assert latency.message == (
        "10 s more latency would buy 0.300 quality; the first gain takes 3.5 s more latency"
    )
    assert prices["memory"].message == "4 GiB more memory would buy no quality"
    assert shadow_prices(evidence, limits, steps={"latency": 3.4})[0].quality_gain == 0
    relaxed = limits.model_copy(update={"max_latency_s": 18.0})
    gain = solved(evidence, **relaxed.model_dump(exclude_defaults=True)).plan.quality
    assert gain - solved(evidence, **limits.model_dump(exclude_defaults=True)).plan.quality == (
        pytest.approx(latency.quality_gain)
    )


def test_front_equals_brute_force() -> None:
    points = 0
    for seed in range(60):
        random_ = random.Random(seed)
        evidence, constraints = random_instance(random_)
        pipeline = random_.choice(ORDERS)
        if seed % 2:  # plain sums, which are put together agent by agent
            plain = {"may_swap": False, "require_fallback": False, "contention": 1.0}
            constraints = constraints.model_copy(update=plain)
        front = pareto_assignments(evidence, constraints, pipeline=pipeline)
        forces = [BruteForce(evidence, constraints, order) for order in orders(pipeline)]
        expected = undominated(point for force in forces for point in force.front())
        found = [(item.quality, item.latency_s, item.cost_usd_per_1000) for item in front]
        assert sorted(map(rounded, found)) == sorted(map(rounded, expected))
        assert all(item.plan.violated == () for item in front)
        points += len(front)
    assert points > 100


def test_conflict_is_the_smallest_there_is() -> None:
    """Two demands stand against each other, and one against all by itself."""
    evidence = [
        *table_of("ollama:a", latency_p50_s=2.0, memory_bytes=5 * GIB),
        *(row(agent, "ollama:b", quality=0.95, memory_bytes=24 * GIB) for agent in AGENTS),
    ]
    limits = {"max_memory_bytes": 28 * GIB, "require_fallback": {"alignment": True}}
    two = unsolved(evidence, **limits, quality_floors={"qc_reviewer": 0.1})
    assert two.conflict == ("memory 28 GiB", "a fallback for alignment")
    one = unsolved(evidence, **limits, quality_floors={"qc_reviewer": 0.99})
    assert one.conflict == ("quality floor qc_reviewer 0.99",)


def test_search_that_is_cut_off_states_its_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver stops early by its gap and not by the clock, which is not the same anywhere."""
    evidence = [
        row(
            agent,
            f"ollama:m{i}",
            quality=0.3 + ((7 * i + 3 * k) % 13) / 20,
            memory_bytes=(3 + i % 5) * GIB,
        )
        for k, agent in enumerate(AGENTS)
        for i in range(12)
    ]
    limits = Constraints(max_memory_bytes=9 * GIB)
    best = optimize(evidence, limits)
    assert isinstance(best, Solution)
    assert best.gap is None
    monkeypatch.setattr("soma_bench.optimize.listing.MOST", 0)
    monkeypatch.setattr("soma_bench.optimize.programme.milp", cut_off)
    found = optimize(evidence, limits, time_limit_s=60)
    assert isinstance(found, Solution)
    assert found.gap is not None
    assert found.gap.goal == "quality"
    assert best.plan.quality - found.plan.quality <= found.gap.at_most + 1e-6
    assert found.plan.violated == ()


def cut_off(*arguments: Any, options: dict[str, Any], **keywords: Any) -> Any:
    """scipy's solver, content with half of the optimum where a time limit is given."""
    if "time_limit" not in options:
        return milp(*arguments, options=options, **keywords)
    result = milp(*arguments, options={**options, "mip_rel_gap": 0.5}, **keywords)
    result.status = 1
    return result


def test_no_time_at_all_is_an_error_or_an_answer_with_its_gap() -> None:
    evidence, _ = random_instance(random.Random(3))
    constraints = Constraints(privacy=OPEN, allow_synthetic=True)
    found = optimize(evidence, constraints, time_limit_s=1e-9)
    assert isinstance(found, Solution)
    assert found.gap is None or found.gap.at_most > 0


def rounded(point: Sequence[Any]) -> tuple[float, ...]:
    return tuple(round(float(figure), 4) for figure in point)


def undominated(points: Any) -> set[Any]:
    """Of (quality up, latency down, price down)."""
    known = set(points)
    return {
        point
        for point in known
        if not any(
            other != point
            and other[0] >= point[0]
            and other[1] <= point[1]
            and other[2] <= point[2]
            for other in known
        )
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "nothing was measured for alignment"),
        (lambda _: [], "nothing was measured for alignment, radiologist"),
        (lambda rows: [*rows, rows[0]], "ollama:a stands twice for alignment"),
        (
            lambda rows: [
                *rows,
                row("alignment", "ollama:b", latency_p50_s=1.0, latency_p95_s=1e9),
            ],
            "latency_p95_s of ollama:b for alignment",
        ),
        (
            lambda rows: [*rows, row("alignment", "ollama:b", memory_bytes=10**40)],
            "memory_bytes of ollama:b for alignment",
        ),
        (
            lambda rows: [*rows, row("alignment", "claude:b", cost_usd=1e300)],
            "cost_usd of claude:b",
        ),
    ],
)
def test_evidence_that_cannot_be_used_is_refused(change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimize(change(table_of("ollama:a")), Constraints())


def test_row_that_floating_point_would_let_pass_is_cut_off() -> None:
    """Two whole weights that differ by one in ten thousand million are told apart."""
    programme = Programme()
    first, second, third = programme.variables(3)
    programme.exactly_one([first, second, third])
    programme.at_most({first: 10**10 + 1, second: 10**10, third: 5}, 10**10)
    assert programme.minimise({first: 0, second: 1, third: 2}) == frozenset({second})


def test_profile_of_a_solution_loads_and_gives_its_reasons(tmp_path: Path) -> None:
    evidence = [
        *table_of("ollama:a", "llamacpp:b"),
        row("radiologist", "claude:c", quality=0.95, memory_bytes=None, cost_usd=0.01),
        row("alignment", "ollama:z", quality=1.0, synthetic=True),
    ]
    provenance = Provenance(run_ids=("run-1",), date="2026-11-24T10:00:00+00:00")
    found = solved(evidence, max_latency_s=60)
    made = build_profile(found, name="best", evidence=evidence, provenance=provenance)
    path = tmp_path / "best.json"
    assert save_profile(made, path)
    loaded = load_profile(path)
    assert loaded == made.sealed()
    assert loaded.providers.ollama.enabled
    assert loaded.providers.llamacpp.enabled
    assert not loaded.providers.claude.enabled
    assert loaded.constraints.max_latency_s == 60
    assert not loaded.synthetic_evidence
    assert not any(item.synthetic for item in loaded.evidence)
    assert loaded.routing["pathologist"].reason == (
        "best mean accuracy 0.90 [0.80, 1.00] of 2 targets, p50 2.0 s; fallback llamacpp:b 0.80"
    )
    assert loaded.routing["radiologist"].reason == (
        "accuracy 0.90 [0.80, 1.00], 1 of 3 targets has more (claude:c 0.95), p50 2.0 s;"
        " fallback llamacpp:b 0.80"
    )


def test_profile_of_synthetic_choices_says_so_everywhere() -> None:
    evidence = table_of("ollama:a", "ollama:b", synthetic=True)
    found = solved(evidence, allow_synthetic=True)
    made = build_profile(found, name="demo", evidence=evidence, provenance=Provenance())
    assert made.synthetic_evidence
    assert {route.reason for route in made.routing.values()} == {
        "best mean accuracy 0.90 [0.80, 1.00] of 2 targets, p50 2.0 s; synthetic weights;"
        " fallback ollama:b 0.80 on synthetic weights"
    }


def test_reason_says_when_the_best_is_shared() -> None:
    evidence = table_of("ollama:a", "ollama:b")
    evidence.append(row("alignment", "ollama:c", quality=0.9, latency_p50_s=5.0))
    found = solved(evidence)
    made = build_profile(found, name="demo", evidence=evidence, provenance=Provenance())
    reason = made.routing["alignment"].reason
    assert "of 3 targets, shared with 1, p50 2.0 s; fallback ollama:c 0.90" in reason


def test_bad_profile_name_is_a_config_error() -> None:
    evidence = table_of("ollama:a")
    with pytest.raises(ConfigError, match="name: "):
        build_profile(solved(evidence), name="a b", evidence=evidence, provenance=Provenance())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``soma-bench optimize`` over a fixed table in place of a stored run."""
    evidence = [
        *table_of("ollama:a", "llamacpp:b"),
        row("pathologist", "claude:c", quality=1.0, memory_bytes=None, cost_usd=0.01),
    ]
    run = SimpleNamespace(id="run-1", name="demo")
    comparison = SimpleNamespace(
        run=run,
        planned=10,
        finished=10,
        evidence=tuple(evidence),
        scores={},
        provenance=Provenance(run_ids=("run-1",)),
    )
    monkeypatch.setattr("soma_bench.cli.optimize.compare_run", lambda *_: comparison)
    Store(str(tmp_path / "runs.db"), create=True).close()
    monkeypatch.setenv("SOMA_BENCH_STORE", str(tmp_path / "runs.db"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.cli, ["optimize", "run-1", *arguments])
        if isinstance(result.exception, ConfigError):
            return 2, str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout

    return call


def test_command_writes_the_profile_and_says_what_binds(command: Any, tmp_path: Path) -> None:
    path = Path("routing_profiles/demo.json")
    code, out = command("--max-memory", "27", "--floor", "all=0.1", "--max-latency", "60")
    assert code == 0
    levels = "privacy radiologist local_only and privacy pathologist local_only"
    assert f"binds: {levels}; without it quality rises by 0.100" in out
    assert "memory 27 GiB: 10.00 GiB used, 17.00 GiB left" in out
    assert f"{path}: written" in out
    loaded = load_profile(path)
    assert loaded.routing["pathologist"].primary == "ollama:a"
    assert loaded.constraints.max_memory_bytes == 27 * GIB
    assert (
        f"{path}: unchanged"
        in command("--max-memory", "27", "--floor", "all=0.1", "--max-latency", "60")[1]
    )


def test_command_takes_every_flag_and_speaks_json(command: Any) -> None:
    code, out = command(
        *("--privacy", "all=local_only", "--privacy", "pathologist=open"),
        *("--floor", "pathologist=0.95", "--floor-on", "mean", "--percentile", "p50"),
        *("--max-cost", "20", "--pipeline", "parallel", "--require-fallback", "alignment"),
        *("--allow-synthetic", "--name", "mine", "--out", "x/y.json", "--json"),
    )
    assert code == 0
    answer = json.loads(out)
    assert answer["routing"]["pathologist"] == {"primary": "claude:c", "fallback": None}
    assert answer["latency_p50_s"] == pytest.approx(8.0)
    assert answer["greedy"]["feasible"] is True
    assert answer["out"] == "x/y.json"
    loaded = load_profile(Path("x/y.json"))
    assert (loaded.name, loaded.pipeline) == ("mine", "parallel")
    assert loaded.constraints.require_fallback == {"alignment": True}


def test_command_takes_the_limits_of_a_machine_and_another_objective(command: Any) -> None:
    code, out = command(
        *("--ram", "36", "--swap", "--contention", "2.5", "--pipeline", "either"),
        *("--max-latency", "30", "--max-degraded-latency", "40", "--fallback-rate", "0.1"),
        *("--fallback-apart", "provider", "--order", "latency,quality,cost"),
        *("--tolerance", "latency=1.5", "--time-limit", "60", "--json"),
    )
    assert code == 0
    answer = json.loads(out)
    assert answer["pipeline"] == "sequential", "side by side the readers would slow each other down"
    assert answer["swapped"] == []
    assert answer["gap"] is None
    assert answer["runner_up"]["told_apart"] is False
    assert answer["single_model"]["quality"] == pytest.approx(4.5)
    assert {price["by"] for price in answer["shadow_prices"]} == {10.0, 4.0 * GIB}
    loaded = load_profile(Path(answer["out"]))
    assert loaded.objective == Lexicographic(
        order=("latency", "quality", "cost"), latency_tolerance_s=1.5
    )
    assert loaded.constraints.max_memory_bytes == 27 * GIB
    assert loaded.constraints.may_swap
    assert loaded.constraints.contention == 2.5
    assert loaded.constraints.fallback_rate == 0.1
    assert loaded.constraints.fallback_apart == "provider"
    assert loaded.constraints.max_degraded_latency_s == 40
    code, out = command("--weight", "quality=1", "--weight", "latency=0.01", "--json")
    assert code == 0
    assert load_profile(Path(json.loads(out)["out"])).objective == Weighted(latency_per_s=0.01)


def test_command_sets_the_choice_beside_others(command: Any) -> None:
    code, out = command("--max-latency", "15")
    assert code == 0
    assert "best single model ollama:a: quality 4.500 of 5; fits too" in out
    assert "runner-up: quality 4.400 of 5" in out
    assert "the data cannot tell it from the best" in out


def test_infeasible_is_exit_1_and_nothing_is_written(command: Any, tmp_path: Path) -> None:
    code, out = command("--max-latency", "1")
    assert (code, out) == (1, "infeasible: nothing fits p95 latency 1 s (15 s would do)\n")
    code, out = command("--max-latency", "1", "--json")
    assert json.loads(out) == {
        "feasible": False,
        "conflict": [{"constraint": "p95 latency 1 s", "would_do": "15 s"}],
    }
    assert not (tmp_path / "routing_profiles").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--floor", "surgeon=0.5"), "--floor: unknown agent 'surgeon'"),
        (("--floor", "alignment"), "--floor: 'alignment' is not AGENT=VALUE"),
        (("--floor", "alignment=high"), "--floor: 'high' for alignment is not a number"),
        (("--floor", "alignment=nan"), "constraints: quality_floors.alignment: "),
        (("--floor", "alignment=1.5"), "constraints: quality_floors.alignment: "),
        (("--privacy", "alignment=secret"), "constraints: privacy.alignment: "),
        (("--max-latency", "nan"), "constraints: max_latency_s: "),
        (("--max-latency", "-1"), "constraints: max_latency_s: "),
        (("--max-memory", "nan"), "--max-memory: "),
        (("--max-memory", "0"), "--max-memory: "),
        (("--max-cost", "inf"), "constraints: max_cost_usd_per_1000: "),
        (("--ram", "-3"), "--ram: -3 GiB is not a memory size"),
        (("--ram", "36", "--max-memory", "27"), "give one of the two"),
        (("--swap",), "constraints: the whole: may_swap needs max_memory_bytes"),
        (("--max-degraded-latency", "9"), "max_degraded_latency_s must stand beside"),
        (("--contention", "0.1"), "constraints: contention: "),
        (("--fallback-rate", "2"), "constraints: fallback_rate: "),
        (("--order", "quality"), "order must name each of quality, latency, cost once"),
        (("--tolerance", "beauty=1"), "--tolerance: 'beauty=1' is not GOAL=X"),
        (("--tolerance", "cost=much"), "--tolerance: 'much' for cost is not a number"),
        (("--weight", "quality=1", "--order", "cost"), "leave --order and --tolerance out"),
        (("--weight", "quality=0"), "one weight at least must be above 0"),
        (("--require-fallback", "nobody"), "--require-fallback: unknown agent 'nobody'"),
        (("--name", "../x"), "profile '../x': name: "),
    ],
)
def test_bad_flag_is_one_line_and_nothing_is_written(
    command: Any, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out = command(*arguments)
    assert code == 2
    assert message in out
    assert "\n" not in out
    assert not (tmp_path / "routing_profiles").exists()


def test_a_race_is_not_undone_by_the_scores_that_the_others_raced_with() -> None:
    """0.7 on held-out cases is worth more than 0.8 on the cases that made it look good."""
    evidence = [
        *(r for r in table_of("llamacpp:pick") if r.agent != "radiologist"),
        row("radiologist", "llamacpp:pick", quality=0.7, selection="held_out", latency_p50_s=9.0),
        row("radiologist", "llamacpp:lucky", quality=0.8, selection="same cases"),
    ]
    found = solved(evidence)
    assert primaries(found)[AGENTS.index("radiologist")] == "llamacpp:pick"
    hurried = solved(evidence, max_latency_s=16.0)
    assert primaries(hurried)[AGENTS.index("radiologist")] == "llamacpp:lucky"
