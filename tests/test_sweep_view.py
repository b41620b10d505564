"""A sweep seen while it runs: the figures are the store's, and the buttons do what they say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from scripted import ScriptedProvider
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.running import RunningFigures, Spend
from soma_bench.sweeps.store import Store
from soma_bench.widgets.sweep_view import SweepView
from soma_bench.widgets.sweep_view_state import duration_text, spend_text
from test_runner import ANSWER, declared

WAIT_S = 30.0
ROOT = Path(__file__).parent.parent


def pool_of(script):
    return lambda: ProviderPool(lambda _: ScriptedProvider(script))


def view_of(tmp_path: Path, script=lambda _: ANSWER, **changes) -> SweepView:
    return SweepView(
        declared(**changes), store=str(tmp_path / "runs.db"), providers=pool_of(script)
    )


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


class Gate:
    """A script that answers so many calls, and waits before the next until it is opened."""

    def __init__(self, free: int) -> None:
        self._free = threading.Semaphore(free)
        self.calls = 0

    def __call__(self, _) -> str:
        self.calls += 1
        assert self._free.acquire(timeout=WAIT_S)
        return ANSWER

    def open(self) -> None:
        self._free.release(1000)


def execute(store: Store, script=lambda _: ANSWER, **changes) -> str:
    async def go() -> str:
        async with pool_of(script)() as pool:
            plan = await plan_sweep(declared(**changes), Path(), pool, store)
            await run_plan(plan, store, pool)
            return plan.run_id

    return asyncio.run(go())


def test_at_its_end_the_view_shows_what_the_comparison_shows(tmp_path):
    view = view_of(tmp_path, repeats=2)
    outcome = view.wait(WAIT_S)
    assert outcome is not None
    assert (outcome.called, view.stage) == (24, "done")
    with Store(str(tmp_path / "runs.db")) as store:
        evidence = {(row.agent, row.target): row for row in compare_run(store, "latest").evidence}
    figures = view.figures
    assert figures is not None
    assert (figures.run_id, figures.ended, figures.planned) == (outcome.run_id, 24, 24)
    assert {(row.agent, row.target) for row in figures.targets} == set(evidence)
    for row in figures.targets:
        shown = evidence[row.agent, row.target]
        assert row.estimate == (shown.quality, shown.quality_low, shown.quality_high)
        assert (row.cases, row.answered, row.metric) == (shown.cases, shown.n, shown.metric)
        assert row.seconds_left == 0.0


def test_the_view_returns_at_once_and_a_pause_begins_no_trial_until_it_is_resumed(tmp_path):
    gate = Gate(free=2)
    view = view_of(tmp_path, gate)
    until(lambda: gate.calls == 3)
    assert view.wait(0.0) is None
    until(lambda: view.figures is not None)
    assert view.stage == "running"
    view.pause()
    gate.open()
    assert view.stage == "paused"
    until(lambda: view.figures.ended == 3)
    time.sleep(0.2)
    assert gate.calls == 3
    view.resume()
    assert view.wait(WAIT_S).called == 12
    assert view.stage == "done"


def test_a_stopped_sweep_says_so_keeps_what_ended_and_the_next_view_resumes(tmp_path):
    gate = Gate(free=4)
    view = view_of(tmp_path, gate)
    until(lambda: gate.calls == 5)
    view.stop()
    assert view.stage == "stopping"
    gate.open()
    outcome = view.wait(WAIT_S)
    assert (outcome.called, view.stage) == (5, "stopped")
    assert not view.panel_state()["can"]["stop"]
    rest = view_of(tmp_path)
    assert rest.wait(WAIT_S).called == 7
    assert rest.figures.ended == 12


def test_a_run_is_not_begun_twice_and_what_follows_a_stop_waits_for_its_end(tmp_path):
    gate = Gate(free=2)
    first = view_of(tmp_path, gate)
    until(lambda: gate.calls == 3)
    with pytest.raises(ConfigError, match="is under way in this process already"):
        view_of(tmp_path).wait(WAIT_S)
    first.stop()
    rest = view_of(tmp_path)
    assert rest.wait(0.2) is None
    assert rest.stage == "planning", "the trial in flight is not over"
    gate.open()
    assert first.wait(WAIT_S).called == 3
    outcome = rest.wait(WAIT_S)
    assert (outcome.resumed, outcome.called) == (3, 9)


def test_who_waits_in_an_event_loop_leaves_it_free_and_stops_the_sweep_when_cancelled(tmp_path):
    gate = Gate(free=2)
    view = view_of(tmp_path, gate)

    async def cancelled() -> int:
        waiting, turns = asyncio.ensure_future(view.ended()), 0
        while gate.calls < 3:
            await asyncio.sleep(0.01)
            turns += 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return turns

    assert asyncio.run(cancelled())
    assert view.stage == "stopping"
    gate.open()
    assert asyncio.run(view.ended()).called == 3
    assert view.stage == "stopped"


def test_failures_are_counted_by_class_and_run_again(tmp_path):
    answers = iter(range(1000))

    def script(request):
        if request.model == "a-q4_0":
            raise ProviderError("llamacpp", "no memory", kind="out_of_memory")
        return "no JSON" if next(answers) % 2 else ANSWER

    view = view_of(tmp_path, script)
    view.wait(WAIT_S)
    failures = sum((Counter(row.failures) for row in view.figures.targets), Counter())
    assert failures == {"unparsed": 3, "out_of_memory": 6}
    assert view.figures.backend_failures == 6
    assert "6 failed at the backend" in dict(view.panel_state()["facts"])["Ended"]
    again = view_of(tmp_path)
    again.wait(WAIT_S)
    failures = sum((Counter(row.failures) for row in again.figures.targets), Counter())
    assert failures == {"unparsed": 3}


def test_what_ends_a_sweep_is_shown_and_raised_to_who_waits(tmp_path):
    def script(_):
        raise ProviderError("llamacpp", "no such model", kind="model_missing")

    view = view_of(tmp_path, script)
    with pytest.raises(ProviderError, match="no such model"):
        view.wait(WAIT_S)
    assert view.stage == "failed"
    assert "no such model" in view.panel_state()["error"]
    missing = view_of(tmp_path, suites={"alignment": "nowhere.jsonl"})
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl"):
        missing.wait(WAIT_S)
    assert missing.figures is None
    with pytest.raises(ConfigError, match="cannot be read"):
        SweepView(tmp_path / "none.yaml", store=str(tmp_path / "runs.db"))


def test_a_run_of_another_process_is_followed_to_its_end_and_nothing_is_written(tmp_path):
    path = tmp_path / "runs.db"
    with Store(str(path), create=True) as store:
        run = execute(store, lambda r: ANSWER if r.model == "a-q8_0" else "no JSON")
    with Store(str(path)) as store:
        with store._engine.begin() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM trials").fetchall()
            connection.exec_driver_sql("DELETE FROM trials WHERE model = 'a-q4_0'")
        view = SweepView.attach(run, store=str(path))
        until(lambda: view.figures is not None)
        assert (view.stage, view.figures.ended) == ("watching", 6)
        assert view.wait(0.0) is None
        marks = ", ".join("?" * len(rows[0]))
        with store._engine.begin() as connection:
            for row in rows:
                connection.exec_driver_sql(
                    f"INSERT OR IGNORE INTO trials VALUES ({marks})", tuple(row)
                )
        view.wait(WAIT_S)
        assert (view.stage, view.figures.ended) == ("complete", 12)
        assert [row.failures for row in view.figures.targets] == [{}, {}, *[{"unparsed": 3}] * 2]
        assert all(row.estimate for row in view.figures.targets)
        assert list(store.scores(run)) == []


def test_who_looks_away_from_a_run_elsewhere_leaves_it_alone(tmp_path):
    gate = Gate(free=1)
    running = view_of(tmp_path, gate)
    until(lambda: running.run_id is not None)
    view = SweepView.attach(store=str(tmp_path / "runs.db"))
    view.stop()
    view.wait(WAIT_S)
    assert (view.stage, running.stage) == ("left", "running")
    gate.open()
    assert running.wait(WAIT_S).called == 12
    with pytest.raises(ConfigError, match="no run 'other'"):
        SweepView.attach("other", store=str(tmp_path / "runs.db"))


LEAVING = """
import itertools, sys, time
sys.path.insert(0, "tests")
from test_sweep_view import ANSWER, Path, until, view_of
calls = itertools.count()
view = view_of(Path(sys.argv[1]), lambda _: time.sleep(next(calls) >= 2) or ANSWER)
until(lambda: view.figures and view.figures.ended)
"""


def test_a_process_that_ends_in_the_middle_ends_in_order_and_keeps_what_ended(tmp_path):
    command = [sys.executable, "-c", LEAVING, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S * 2)
    assert (ended.returncode, ended.stderr) == (0, "")
    view = view_of(tmp_path)
    outcome = view.wait(WAIT_S)
    assert 0 < outcome.resumed < 12
    assert outcome.resumed + outcome.called == 12


def test_the_panel_follows_the_sweep_and_obeys_its_buttons(tmp_path):
    gate = Gate(free=2)
    view = view_of(tmp_path, gate)
    until(lambda: gate.calls == 3)
    assert view._repr_mimebundle_()
    panel = view._panel
    panel._handle_custom_msg({"do": "pause"}, [])
    assert (panel.state["stage"], panel.state["can"]["resume"]) == ("paused", True)
    panel._handle_custom_msg({"do": "nothing of the kind"}, [])
    panel._handle_custom_msg("no command", [])
    gate.open()
    panel._handle_custom_msg({"do": "resume"}, [])
    view.wait(WAIT_S)
    assert panel.state["stage"] == "done"
    assert panel.state["ended"] == panel.state["planned"] == 12
    assert "not a test" in panel.state["note"]
    assert all("3 cases" in row["cases_text"] for row in panel.state["rows"])


def test_a_page_without_a_kernel_reads_how_the_sweep_ended(tmp_path):
    view = view_of(tmp_path, lambda r: "<b>no JSON" if r.model == "a-q4_0" else ANSWER)
    view.wait(WAIT_S)
    data, _ = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    text = data["text/html"]
    assert "Done" in text
    for row in view.panel_state()["rows"]:
        assert row["target"] in text
        assert row["estimate_text"] in text
    assert text.count("unparsed 3") == 2
    assert "12 of 12 trials" in text


def test_time_left_is_measured_means_times_what_is_left_and_unknown_without_any(tmp_path):
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        run_id = execute(store)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM trials WHERE model = 'a-q4_0'")
            connection.exec_driver_sql("DELETE FROM trials WHERE case_id = 'alignment-03'")
        known = {("alignment", "llamacpp:a-q4_0?thinking=8"): 7.0}
        figures = RunningFigures(store, store.find_run(run_id), expected_s=known)
        figures.read()
        left = {row.target: row.seconds_left for row in figures.snapshot().targets}
        ended = {row.target: row.mean_s for row in figures.snapshot().targets}
    assert left["llamacpp:a-q8_0?thinking=off"] == ended["llamacpp:a-q8_0?thinking=off"]
    assert left["llamacpp:a-q4_0?thinking=8"] == 3 * 7.0
    assert left["llamacpp:a-q4_0?thinking=off"] is None
    assert figures.snapshot().untimed == 1


def test_spend_keeps_fees_electricity_and_unknown_prices_apart():
    spend = Spend(fees_usd=0.00123, electricity_usd=2.5, unknown=3)
    assert spend_text(spend) == "$0.0012 fees + $2.50 electricity + unknown price of 3 trials"
    assert spend_text(Spend()) == "nothing yet"
    assert spend_text(Spend(electricity_usd=1e-7)) == "under $0.0001 electricity"
    times = [duration_text(seconds) for seconds in (1e-6, 2.344, 45, 300, 7200)]
    assert times == ["under 0.01 s", "2.34 s", "45 s", "5 min", "2.0 h"]
