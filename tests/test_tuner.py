"""The tuner without a browser: its choice is the optimiser's, whatever is moved and how fast."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from routing_examples import random_instance
from scripted import ScriptedProvider
from soma_bench.cli import cli
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError, SomaError
from soma_bench.optimize import Infeasible, Solution, optimize
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.constraints import Constraints, Lexicographic, Weighted
from soma_bench.routing.profile import load_profile, profile_text
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS
from soma_bench.widgets import RoutingTuner, tuner_or_advice
from soma_bench.widgets.tuner.background import NewestFirst
from soma_bench.widgets.tuner.beside import PARTS, part_as_json
from soma_bench.widgets.tuner.clock import clock
from soma_bench.widgets.tuner.demands import Demands
from soma_bench.widgets.tuner.measure import Measuring
from stored_runs import SUITES, store_run

ROOT = Path(__file__).parent.parent
GIB = 1 << 30
OPEN = dict.fromkeys(AGENTS, "open")


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("runs") / "runs.db")
    with Store(path, create=True) as store:
        store_run(store, name="small", models=2, cases=2)
        store_run(store, name="drawn", models=17, cases=2)
    return path


@pytest.fixture
def tuner(location: str, tmp_path: Path) -> Iterator[RoutingTuner]:
    made = RoutingTuner(["drawn", "small"], store=location, profiles=tmp_path / "profiles")
    yield made
    made.close()


def routing(solution: object) -> dict[str, tuple[str, str | None]]:
    assert isinstance(solution, Solution)
    return {
        choice.agent: (choice.primary.target, choice.fallback and choice.fallback.target)
        for choice in solution.plan.choices
    }


def test_its_choice_is_the_optimisers_whatever_is_asked(tuner: RoutingTuner) -> None:
    draw = random.Random(5)
    seen = set()
    for _ in range(8):
        constraints = Constraints(
            quality_floors={a: draw.choice([0.2, 0.5, 0.7]) for a in draw.sample(AGENTS, 2)},
            floor_on=draw.choice(["low", "mean"]),
            privacy={agent: draw.choice(["local_only", "open"]) for agent in AGENTS},
            max_latency_s=draw.choice([None, 12.0, 25.0]),
            latency=draw.choice(["p50", "p95"]),
            max_memory_bytes=draw.choice([None, 27 * GIB]),
            max_cost_usd_per_1000=draw.choice([None, 10.0]),
            require_fallback={draw.choice(AGENTS): True},
        )
        pipeline = draw.choice(["sequential", "parallel", "either"])
        objective = draw.choice(
            [
                "quality_latency_cost",
                Lexicographic(order=("latency", "quality", "cost")),
                Weighted(quality=1, latency_per_s=0.05),
            ]
        )
        tuner.demand(constraints=constraints, pipeline=pipeline, objective=objective)
        expected = optimize(
            tuner.comparison.evidence, constraints, pipeline=pipeline, objective=objective
        )
        assert tuner.solution == expected
        seen.add(type(expected))
    assert seen == {Solution, Infeasible}


def test_its_profile_is_the_command_lines_byte_for_byte(
    tuner: RoutingTuner, location: str, tmp_path: Path
) -> None:
    tuner.constraints = Constraints(
        privacy=OPEN, max_latency_s=20.0, max_memory_bytes=27 * GIB, require_fallback={}
    )
    out = tmp_path / "by-command.json"
    options = ["--privacy", "all=open", "--max-latency", "20", "--max-memory", "27"]
    command = ["optimize", "drawn", "--store", location, "--out", str(out), *options]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert tuner.export().path.read_bytes() == out.read_bytes()


def test_export_says_what_it_changes_against_the_profile_that_was_there(
    tuner: RoutingTuner, tmp_path: Path
) -> None:
    first = tuner.export()
    assert first.changed
    assert first.difference is None
    assert tuner.export().difference == ()
    tuner.constraints = Constraints(max_latency_s=9.0)
    second = tuner.export()
    assert second.changed
    assert any("primary" in line for line in second.difference or ())
    assert profile_text(load_profile(second.path)) == profile_text(tuner.profile)
    with pytest.raises(ConfigError, match="name"):
        tuner.export("../escape")
    assert not list(tmp_path.glob("escape*"))


def test_what_cannot_be_read_is_named_in_the_diff_and_not_replaced_unless_a_profile(
    tuner: RoutingTuner, tmp_path: Path
) -> None:
    path = tmp_path / "profiles" / "drawn.json"
    path.parent.mkdir()
    path.write_text('{"schema_version": 99}')
    assert "schema_version" in tuner.export().unreadable
    path.write_text('{"else": 1}')
    with pytest.raises(ConfigError, match="is not a profile"):
        tuner.export()


def test_where_nothing_fits_the_conflict_is_said_and_nothing_written(
    tuner: RoutingTuner, tmp_path: Path
) -> None:
    tuner.constraints = Constraints(
        quality_floors=dict.fromkeys(AGENTS, 0.9), max_latency_s=1.0, floor_on="mean"
    )
    answer = tuner.solution
    assert isinstance(answer, Infeasible)
    assert isinstance(tuner.profile, Infeasible)
    assert [item["name"] for item in tuner._answer["conflict"]] == list(answer.conflict)
    assert tuner.parts() == {}
    with pytest.raises(ConfigError, match="nothing fits"):
        tuner.export()
    assert not (tmp_path / "profiles").exists()


def test_targets_that_may_not_play_are_not_chosen(tuner: RoutingTuner) -> None:
    before = routing(tuner.solution)
    taken = {agent: [primary] for agent, (primary, _) in before.items()}
    tuner.excluded = taken
    after = routing(tuner.solution)
    assert all(
        taken[agent][0] not in (primary, fallback) for agent, (primary, fallback) in after.items()
    )
    carried = {(row.agent, row.target) for row in tuner.profile.evidence}
    assert not carried & {(agent, targets[0]) for agent, targets in taken.items()}
    everything = [row.target for row in tuner.comparison.evidence if row.agent == "alignment"]
    tuner.excluded = {"alignment": everything}
    with pytest.raises(ConfigError, match="no target may play for alignment"):
        _ = tuner.solution


def test_a_wrong_demand_is_refused_to_scripts_and_told_to_the_browser(tuner: RoutingTuner) -> None:
    with pytest.raises(ConfigError, match=r"demands: constraints\.max_latency_s"):
        tuner.demand(constraints={"max_latency_s": -1})
    sent = tuner.demands.as_json()
    sent["revision"] += 1
    sent["constraints"]["contention"] = 0.5
    tuner.set_state({"_demands": sent})
    tuner._worker.wait()
    assert tuner._answer["state"] == "error"
    assert "contention" in tuner._answer["message"]


def test_what_the_browser_sends_is_answered_under_its_revision(tuner: RoutingTuner) -> None:
    for limit in (30.0, 20.0, 10.0):
        sent = tuner.demands.as_json()
        sent["revision"] += 1
        sent["constraints"]["max_latency_s"] = limit
        tuner.set_state({"_demands": sent})
    solution = tuner.solution
    assert solution.constraints.max_latency_s == 10.0
    assert tuner._answer["revision"] == 3
    agents = tuner._sheet["agents"]
    for agent, choice in zip(agents, tuner._answer["choices"], strict=True):
        shown = agent["targets"][choice["primary"]]["target"]
        assert shown == routing(solution)[choice["agent"]][0]
    json.dumps([tuner._sheet, tuner._answer], allow_nan=False)


def test_while_one_answer_is_worked_out_only_the_newest_request_waits() -> None:
    worker, begun, go, ran = NewestFirst("test"), threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go.wait()
        ran.append(0)

    worker.submit(first)
    begun.wait()
    for number in range(1, 50):
        worker.submit(lambda number=number: ran.append(number))
    go.set()
    assert worker.wait()
    assert ran == [0, 49]
    worker.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worker.wait()
    worker.close()


def test_side_figures_are_those_of_the_newest_demands_and_their_process_ends_with_the_tuner(
    location: str,
) -> None:
    tuner = RoutingTuner("drawn", store=location)
    tuner.constraints = Constraints(privacy=OPEN, max_latency_s=15.0)
    parts = tuner.parts()
    assert parts.keys() == PARTS.keys()
    evidence = tuner.comparison.evidence
    for name in PARTS:
        direct = part_as_json(name, evidence, tuner.comparison.scores, tuner.demands)
        assert parts[name] == json.loads(json.dumps(direct))
    assert "of 5" in parts["binding"]["text"]
    best = tuner.solution.plan.quality
    assert parts["front"]["points"][0]["quality"] == pytest.approx(best, abs=1e-5)
    # What comes late for older demands is dropped.
    tuner._on_part(tuner.demands.revision - 1, "front", {"points": [], "text": "stale"})
    assert tuner.parts() == parts
    process = psutil.Process(tuner._side._process.pid)
    tuner.close()
    assert not process.is_running()


def test_presets_change_what_they_say_and_leave_the_rest(tuner: RoutingTuner) -> None:
    tuner.constraints = Constraints(privacy=OPEN, quality_floors={"radiologist": 0.3})
    tuner.apply_preset("fastest")
    fastest = tuner.solution.plan.latency_p95_s
    tuner.apply_preset("cheapest")
    assert tuner.solution.plan.latency_p95_s >= fastest
    assert tuner.constraints.quality_floors == {"radiologist": 0.3}
    tuner.apply_preset("private")
    assert set(tuner.constraints.privacy.values()) == {"local_only"}
    assert tuner.objective == "quality_latency_cost"
    tuner.apply_preset("original")
    assert tuner.constraints.max_memory_bytes == 27 * GIB
    with pytest.raises(ConfigError, match="there are: private, fastest"):
        tuner.apply_preset("slowest")


def test_the_original_plan_is_the_profile_that_ships() -> None:
    from soma_bench.widgets.tuner.presets import ORIGINAL_PLAN

    shipped = load_profile(ROOT / "routing_profiles" / "soma-default.json")
    for agent, route in shipped.routing.items():
        targets = [shipped.target(text) for text in (route.primary, route.fallback) if text]
        models = {f"{target.provider}:{target.model}" for target in targets}
        assert (set(ORIGINAL_PLAN[agent][0]), ORIGINAL_PLAN[agent][1]) == (models, route.privacy)


@pytest.mark.parametrize("seed", range(40))
def test_the_clock_ends_when_the_optimiser_says(seed: int) -> None:
    draw = random.Random(seed)
    evidence, constraints = random_instance(draw)
    if seed % 2:
        memory = {"max_memory_bytes": 9 * GIB, "may_swap": True}
        constraints = Constraints(privacy=OPEN, contention=1.5, allow_synthetic=True, **memory)
    pipeline = draw.choice(["sequential", "parallel"])
    try:
        solution = optimize(evidence, constraints, pipeline=pipeline)
    except ConfigError:
        return
    if isinstance(solution, Infeasible):
        return
    for percentile, total in (
        ("p50", solution.plan.latency_p50_s),
        ("p95", solution.plan.latency_p95_s),
    ):
        stages = clock(solution.plan, pipeline, constraints, evidence, percentile)
        assert max(stage.end_s for stage in stages) == pytest.approx(total, abs=1e-5)
        assert stages[-1].is_critical


def test_another_run_can_be_picked_and_only_the_named_ones_are_offered(
    tuner: RoutingTuner, location: str
) -> None:
    assert [run["name"] for run in tuner._runs] == ["drawn", "small"]
    tuner.run = "small"
    assert isinstance(tuner.solution, Solution)
    assert tuner.comparison.run.name == tuner._sheet["profile_name"] == "small"
    with Store(location) as store:
        assert tuner.comparison.evidence == compare_run(store, "small").evidence
    with pytest.raises(ConfigError, match="no run 'gone'"):
        tuner.run = "gone"


def test_without_anything_to_tune_a_page_says_what_to_do(tmp_path: Path) -> None:
    advice = tuner_or_advice(store=str(tmp_path / "none.db"))
    assert "none.db" in advice.value
    assert "make demo" in advice.value
    with pytest.raises(ConfigError, match=r"none\.db"):
        RoutingTuner(store=str(tmp_path / "none.db"))


def test_a_limit_on_what_nobody_knows_is_an_error_with_its_reason(tuner: RoutingTuner) -> None:
    row = tuner.comparison.evidence[0]
    unknown = row.model_copy(update={"cost_usd": None})
    sheet = tuner._current_sheet
    object.__setattr__(sheet.comparison, "evidence", (unknown, *sheet.comparison.evidence[1:]))
    tuner.constraints = Constraints(privacy=OPEN, max_cost_usd_per_1000=5.0)
    with pytest.raises(SomaError, match="the price of"):
        _ = tuner.solution
    assert tuner._answer["state"] == "error"


# Measuring more.


def unfinished(location: str, answered: int) -> None:
    """A run of ten trials that was stopped after some of them."""
    sweep = sweep_from(
        {
            "name": "begun",
            "suites": {agent: f"{agent}.jsonl" for agent in AGENTS},
            "cases_per_agent": 1,
            "targets": [{"provider": "llamacpp", "model": model} for model in ("a", "b")],
        },
        "tests",
    )
    control = Control()

    def stop(progress: object) -> None:
        if progress.done >= answered:
            control.stop()

    async def go() -> None:
        with Store(location, create=True) as store:
            async with scripted_pool() as pool:
                plan = await plan_sweep(sweep, SUITES, pool, store)
                await run_plan(plan, store, pool, control=control, on_progress=stop)

    asyncio.run(go())


def scripted_pool() -> ProviderPool:
    return ProviderPool(lambda _: ScriptedProvider(lambda _: "no JSON"))


def test_measuring_more_runs_what_is_missing_and_the_choice_follows(tmp_path: Path) -> None:
    location = str(tmp_path / "runs.db")
    unfinished(location, 3)
    tuner = RoutingTuner("begun", store=location, sweep_folder=SUITES, pool=scripted_pool)
    try:
        with pytest.raises(ConfigError, match="nothing was measured for"):
            _ = tuner.solution
        ended = tuner.measure_more().wait(60)
        assert (ended.state, ended.done, ended.total) == ("done", 10, 10)
        assert tuner.comparison.finished == tuner._sheet["finished"] == 10
        assert isinstance(tuner.solution, Solution)
        assert tuner._measuring["state"] == "done"
        assert tuner.measure_more().wait(60).says == "nothing was missing"
    finally:
        tuner.close()


def test_measuring_can_be_stopped_and_keeps_what_it_has(tmp_path: Path) -> None:
    location = str(tmp_path / "runs.db")
    unfinished(location, 1)
    reached, go = threading.Event(), threading.Event()

    def slowly(_: object) -> str:
        reached.set()
        go.wait()
        return "no JSON"

    tuner = RoutingTuner(
        store=location,
        sweep_folder=SUITES,
        pool=lambda: ProviderPool(lambda _: ScriptedProvider(slowly)),
    )
    try:
        measuring = tuner.measure_more()
        assert reached.wait(30)
        with pytest.raises(ConfigError, match="already"):
            tuner.measure_more()
        tuner.stop_measuring()
        go.set()
        ended = measuring.wait(60)
        assert ended.state == "stopped"
        assert "8 trials are left" in ended.says
        assert tuner.comparison.finished == 2
    finally:
        go.set()
        tuner.close()


def test_suites_that_changed_or_are_gone_are_not_measured_as_if_they_had_not(
    tmp_path: Path,
) -> None:
    location = str(tmp_path / "runs.db")
    unfinished(location, 2)
    changed = tmp_path / "suites"
    shutil.copytree(SUITES, changed)
    path = changed / "alignment.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    with Store(location) as store:
        run = store.find_run("begun")
    for folder, reason in ((changed, "have changed since"), (tmp_path, "give sweep_folder")):
        measuring = Measuring(
            run,
            lambda: Store(location),
            folders=(folder,),
            pool=scripted_pool,
            on_change=lambda _: None,
        )
        measuring.start()
        ended = measuring.wait(60)
        assert ended.state == "failed"
        assert reason in ended.says


def test_demands_survive_the_way_to_the_browser_and_back() -> None:
    demands = Demands(
        run="r",
        constraints=Constraints(privacy=OPEN, max_memory_bytes=27 * GIB, may_swap=True),
        objective=Lexicographic(
            order=("cost", "quality", "latency"), cost_tolerance_usd_per_1000=1
        ),
        excluded={"qc_reviewer": ["ollama:b", "ollama:a"]},
    )
    assert Demands.checked(json.loads(json.dumps(demands.as_json()))) == demands


def test_the_browsers_part_is_one_valid_module(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    module = tmp_path / "tuner.mjs"
    module.write_text(RoutingTuner._esm if isinstance(RoutingTuner._esm, str) else "")
    assert "export default" in module.read_text()
    subprocess.run([node, "--check", str(module)], check=True)


def test_a_page_without_a_kernel_says_the_choice_in_words(tuner: RoutingTuner) -> None:
    data, _ = tuner._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    for primary, _ in routing(tuner.solution).values():
        assert primary in data["text/html"]
