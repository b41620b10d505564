"""The search by enumeration answers what the solver answers, and asks it where there is too much."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brute_force import BruteForce, ranked
from routing_examples import GIB, random_instance, random_objective, row
from soma_bench.optimize import (
    Constraints,
    Infeasible,
    Lexicographic,
    Order,
    Solution,
    Weighted,
    best_single_model,
    enumeration,
    fallbacks,
    listing,
    optimize,
    pareto_assignments,
    runner_up,
    shadow_prices,
    solver,
    what_binds,
)
from soma_bench.optimize.enumeration import Enumeration
from soma_bench.optimize.figures import GivenUp
from soma_bench.optimize.goals import QUALITY_FIRST
from soma_bench.optimize.optimizer import all_demands, read_tables
from soma_bench.optimize.problem import pose
from soma_bench.optimize.programme import Programme, greatest
from soma_bench.optimize.search import is_feasible, least_limit
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS

INSTANCES = int(os.environ.get("SOMA_BENCH_REFEREE", "8"))
"""How many seeded tables are put to both; thousands of others were once."""
ORDERS: tuple[Order, ...] = ("sequential", "parallel", "either")
OPEN: Any = dict.fromkeys(AGENTS, "open")


@contextmanager
def by_bounds_alone() -> Iterator[None]:
    """No table is small enough to look at every assignment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enumeration, "SMALL", 0)
        yield


@contextmanager
def by_solver_alone() -> Iterator[None]:
    """The enumeration gives up at once."""

    def give_up(*_: Any, **__: Any) -> None:
        raise GivenUp

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enumeration.Enumeration, "__init__", give_up)
        patch.setattr(fallbacks.Fallbacks, "__init__", give_up)
        yield


def chosen(found: Solution | Infeasible) -> Any:
    """What the user sees of a choice; of a conflict only how short it is, as ties are open."""
    if isinstance(found, Infeasible):
        return len(found.conflict)
    return found.pipeline, [
        (choice.primary.target, choice.fallback and choice.fallback.target)
        for choice in found.plan.choices
    ]


def answers(evidence: list[Evidence], constraints: Constraints, seed: int) -> list[Any]:
    """Everything that is asked about a table."""
    random_ = random.Random(seed)
    pipeline, objective = random_.choice(ORDERS), random_objective(random_)
    found = optimize(evidence, constraints, pipeline=pipeline, objective=objective)
    tables = read_tables(evidence, constraints, pipeline)
    demands = all_demands(tables)
    limits = [
        least_limit(tables, demands, demand)
        for demand in demands
        if demand.kind in ("latency", "degraded", "memory", "cost")
    ]
    single = best_single_model(evidence, constraints, pipeline=pipeline, objective=objective)
    told = [
        chosen(found),
        limits,
        single and [choice.primary.target for choice in single.choices],
        what_binds(evidence, constraints, pipeline=pipeline),
        shadow_prices(evidence, constraints, pipeline=pipeline),
    ]
    if isinstance(found, Solution):
        second = runner_up(evidence, found, pipeline=pipeline, scores={})
        told.append(second and [choice.primary.target for choice in second.plan.choices])
    return told


def test_every_answer_is_the_solvers() -> None:
    feasible = 0
    for seed in range(INSTANCES):
        evidence, constraints = random_instance(random.Random(seed), most=3)
        with by_bounds_alone():
            quick = answers(evidence, constraints, seed)
        with by_solver_alone():
            exact = answers(evidence, constraints, seed)
        assert quick == exact, f"seed {seed}"
        feasible += len(quick) == 6
    assert 0 < feasible < INSTANCES


@settings(max_examples=15, deadline=None)
@given(random_=st.randoms(use_true_random=False), pipeline=st.sampled_from(ORDERS))
def test_choice_by_bounds_equals_brute_force(random_: random.Random, pipeline: Order) -> None:
    evidence, constraints = random_instance(random_, most=2)
    objective = random_objective(random_)
    orders = ("sequential", "parallel") if pipeline == "either" else (pipeline,)
    with by_bounds_alone():
        found = optimize(evidence, constraints, pipeline=pipeline, objective=objective)
    expected = ranked([BruteForce(evidence, constraints, order) for order in orders], objective)
    assert isinstance(found, Solution) == bool(expected)
    if isinstance(found, Solution):
        force, rows, latency = expected[0]
        assert tuple(choice.primary for choice in found.plan.choices) == rows
        assert tuple(choice.fallback for choice in found.plan.choices) == force.best_fallbacks(
            rows, latency
        )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_relaxation_is_never_above_what_can_be_reached(data: st.DataObject) -> None:
    whole = st.integers(0, 10**9)
    programme = Programme()
    groups = [programme.variables(data.draw(st.integers(1, 3))) for _ in range(3)]
    everything = range(programme.size)
    for group in groups:
        programme.exactly_one(group)
    for _ in range(2):
        weights = {variable: data.draw(whole) for variable in everything}
        programme.at_most(weights, data.draw(st.integers(10**8, 3 * 10**9)))
    parts = [{variable: data.draw(whole) for variable in everything} for _ in range(2)]
    relaxed = programme.relax(parts)
    for picks in product(*groups):
        if programme.breaks(picks):
            continue
        assert relaxed is not None
        bound = relaxed.constant + sum(relaxed.reduced[variable] for variable in picks)
        assert bound <= greatest(parts, picks) + 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=2, max_size=4),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_list_has_all_assignments_within_its_bound_and_no_other(
    costs: list[list[int]], room: int, most: int
) -> None:
    columns = [np.array(sorted(cost)) for cost in costs]
    found = listing.list_within(
        [np.array(cost, dtype=float) for cost in costs], room, [(columns, most)]
    )
    expected = {
        picks
        for picks in product(*(range(len(cost)) for cost in costs))
        if sum(cost[i] for cost, i in zip(costs, picks, strict=True)) <= room
        and sum(int(column[i]) for column, i in zip(columns, picks, strict=True)) <= most
    }
    assert sorted(map(tuple, found.tolist())) == sorted(expected)


def large_table(count: int, seed: int) -> list[Evidence]:
    """More assignments than anyone looks at one by one."""
    random_ = random.Random(seed)
    sizes = [random_.randint(1, 20) * GIB for _ in range(count)]
    rows = []
    for agent in AGENTS:
        for i, size in enumerate(sizes):
            figures = {"latency_p50_s": random_.uniform(1, 9), "memory_bytes": size, "load_s": 2.0}
            rows.append(row(agent, f"ollama:m{i:02}", quality=random_.random(), **figures))
        for i in range(count // 3):
            price = random_.uniform(0.001, 0.01)
            figures = {"cost_usd": price, "memory_bytes": None, "answer_failures": 1}
            rows.append(row(agent, f"claude:c{i:02}", quality=random_.random(), **figures))
    return rows


LIMITS = {"privacy": OPEN, "max_latency_s": 22, "max_memory_bytes": 24 * GIB}


@pytest.mark.parametrize(
    ("more", "pipeline", "objective"),
    [
        ({"max_cost_usd_per_1000": 14}, "sequential", "quality_latency_cost"),
        ({"require_fallback": True}, "sequential", "quality_latency_cost"),
        ({"may_swap": True}, "either", Weighted(latency_per_s=0.02)),
        ({"contention": 1.6}, "parallel", Lexicographic(quality_tolerance=0.2)),
        ({}, "sequential", Lexicographic(order=("cost", "latency", "quality"))),
        (
            {},
            "sequential",
            Lexicographic(order=("latency", "cost", "quality"), latency_tolerance_s=12),
        ),
    ],
)
def test_larger_choice_is_the_solvers_and_took_no_solver(
    monkeypatch: pytest.MonkeyPatch, more: Any, pipeline: Order, objective: Any
) -> None:
    evidence, constraints = large_table(9, seed=4), Constraints(**LIMITS, **more)

    def ask() -> Any:
        return chosen(optimize(evidence, constraints, pipeline=pipeline, objective=objective))

    with by_solver_alone():
        exact = ask()
    monkeypatch.setattr(solver, "best_primaries", refuse)
    monkeypatch.setattr(solver, "best_fallbacks", refuse)
    assert ask() == exact


def refuse(*_: Any) -> Any:
    raise AssertionError("the solver was asked")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the solver was asked for primaries."""
    asked: list[Any] = []
    best_primaries: Callable[..., Any] = solver.best_primaries

    def ask(*arguments: Any) -> Any:
        asked.append(arguments)
        return best_primaries(*arguments)

    monkeypatch.setattr(solver, "best_primaries", ask)
    return asked


def test_too_much_to_look_at_goes_to_the_solver(
    monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    evidence, constraints = large_table(6, seed=2), Constraints(**LIMITS)
    expected = chosen(optimize(evidence, constraints))
    assert not asked
    monkeypatch.setattr(listing, "MOST", 0)
    assert chosen(optimize(evidence, constraints)) == expected
    assert len(asked) == 1


def test_more_models_than_bits_go_to_the_solver(asked: list[Any]) -> None:
    evidence = [
        row(agent, f"ollama:m{i:02}", quality=0.2 + i / 100, memory_bytes=(1 + i) * GIB)
        for agent in AGENTS
        for i in range(70)
    ]
    constraints = Constraints(max_memory_bytes=60 * GIB, require_fallback={"alignment": True})
    found = optimize(evidence, constraints)
    assert isinstance(found, Solution)
    assert len(asked) == 1
    # One model everywhere, and the smallest beside it: 59 + 1 GiB.
    assert [choice.primary.target for choice in found.plan.choices] == ["ollama:m58"] * 5
    assert found.plan.choices[0].fallback is not None
    assert found.plan.choices[0].fallback.target == "ollama:m00"


def test_evidence_is_read_anew_when_a_row_is_another() -> None:
    evidence = large_table(3, seed=1)
    first = optimize(evidence, Constraints())
    assert optimize(list(evidence), Constraints()) == first
    rows = [item for item in evidence if item.agent == "alignment" and "ollama" in item.target]
    best = max(rows, key=lambda item: item.quality)
    changed = [
        item.model_copy(update={"quality": 0.0, "quality_low": 0.0}) if item is best else item
        for item in evidence
    ]
    assert optimize(changed, Constraints()) != first
    assert optimize(evidence, Constraints()) == first


def test_enumeration_gives_up_at_its_deadline() -> None:
    evidence, constraints = large_table(9, seed=3), Constraints(**LIMITS)
    tables = read_tables(evidence, constraints, "sequential")
    late = Enumeration(pose(tables[0], all_demands(tables)), deadline=0.0)
    with pytest.raises(GivenUp):
        late.least(QUALITY_FIRST)


def test_front_of_a_larger_table_has_no_point_that_a_search_beats() -> None:
    """Each point is the best there is at its own latency and price, also with fallbacks required."""
    evidence = large_table(6, seed=7)
    for more in ({}, {"require_fallback": True}):
        front = pareto_assignments(evidence, Constraints(**LIMITS, **more))
        assert len(front) > 5
        for point in front[:: max(1, len(front) // 4)]:
            limits = {**LIMITS, "max_latency_s": min(22, point.latency_s)}
            if more:
                limits["max_degraded_latency_s"] = 22
            best = optimize(evidence, Constraints(**limits, **more))
            assert isinstance(best, Solution)
            assert best.plan.quality >= point.quality - 1e-6


def test_feasibility_of_the_infeasible_is_the_solvers() -> None:
    evidence = large_table(8, seed=5)
    constraints = Constraints(
        **{**LIMITS, "max_latency_s": 9}, quality_floors=dict.fromkeys(AGENTS, 0.6)
    )
    tables = read_tables(evidence, constraints, "sequential")
    demands = all_demands(tables)
    quick = is_feasible(tables, demands)
    with by_solver_alone():
        assert is_feasible(tables, demands) == quick


def test_chain_beside_the_fallback_counts_where_no_other_limit_holds_it() -> None:
    """The other reader alone takes longer than is allowed with a stage on its fallback."""
    evidence = [
        item
        for agent in AGENTS
        for item in (
            row(agent, "ollama:a", quality=0.9, latency_p50_s=1.0),
            row(agent, "ollama:b", quality=0.5, latency_p50_s=1.0),
        )
    ]
    evidence += [row("radiologist", "ollama:slow", quality=1.0, latency_p50_s=4.0)]
    constraints = Constraints(
        max_latency_s=5,
        max_degraded_latency_s=6,
        latency="p50",
        require_fallback={"pathologist": True},
    )
    for ask in (by_bounds_alone, by_solver_alone):
        with ask():
            assert what_binds(evidence, constraints, pipeline="parallel") == ()
