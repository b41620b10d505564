"""The optimiser: exact, honest about what it does not know, and clear about what stands in its way."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from brute_force import BruteForce
from routing_examples import GIB, random_instance, row
from soma_bench import cli
from soma_bench.errors import ConfigError
from soma_bench.optimize import (
    Constraints,
    Infeasible,
    Solution,
    build_profile,
    optimize,
    what_binds,
)
from soma_bench.optimize.programme import Programme
from soma_bench.optimize.search import is_feasible
from soma_bench.optimize.table import read_table
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Provenance, load_profile, save_profile
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


def assert_equals_brute_force(
    evidence: list[Evidence], constraints: Constraints, pipeline: Pipeline
) -> bool:
    """Same assignment, or infeasible both; True where there is one."""
    found = optimize(evidence, constraints, pipeline=pipeline)
    expected = BruteForce(evidence, constraints, pipeline).best()
    if expected is None:
        assert isinstance(found, Infeasible)
        assert_conflict_cannot_be_shorter(evidence, constraints, pipeline, found)
        return False
    assert isinstance(found, Solution), found.message
    assert tuple(choice.primary for choice in found.plan.choices) == expected[0]
    assert tuple(choice.fallback for choice in found.plan.choices) == expected[1]
    assert found.plan.violated == ()
    return True


def assert_conflict_cannot_be_shorter(
    evidence: list[Evidence], constraints: Constraints, pipeline: Pipeline, found: Infeasible
) -> None:
    table = read_table(evidence, constraints)
    conflict = [demand for demand in table.demands if demand.name in found.conflict]
    assert len(conflict) == len(found.conflict)
    assert not is_feasible(table, conflict, pipeline)
    for demand in conflict:
        rest = [other for other in conflict if other != demand]
        assert is_feasible(table, rest, pipeline), (found.conflict, demand.name)


def test_choice_equals_brute_force_on_seeded_tables() -> None:
    """Thousands of other seeds were run once; these keep watch."""
    feasible = 0
    for seed in range(250):
        random_ = random.Random(seed)
        evidence, constraints = random_instance(random_)
        pipeline: Pipeline = random_.choice(["sequential", "parallel"])
        feasible += assert_equals_brute_force(evidence, constraints, pipeline)
    assert 60 < feasible < 220, "the tables must be neither all solvable nor all unsolvable"


@settings(max_examples=60, deadline=None)
@given(
    random_=st.randoms(use_true_random=False), pipeline=st.sampled_from(["sequential", "parallel"])
)
def test_choice_equals_brute_force_on_any_table(random_: random.Random, pipeline: Pipeline) -> None:
    evidence, constraints = random_instance(random_)
    assert_equals_brute_force(evidence, constraints, pipeline)


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
    assert found == [("privacy pathologist local_only", 0.4), ("memory 10 GiB", 0.3)]
    assert what_binds(evidence, Constraints(privacy=OPEN)) == ()


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
        "accuracy 0.90 [0.80, 1.00], 1 of 3 targets have more (claude:c 0.95), p50 2.0 s;"
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
    assert "binds: privacy pathologist local_only; without it quality rises by 0.100" in out
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
