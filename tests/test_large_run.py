"""A run of 100,000 trials is looked at without waiting and without filling the memory."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from large_run import CASES, RUN, TARGETS, make_large_run
from soma_bench.sweeps.running import RunningFigures
from soma_bench.sweeps.store import Store
from soma_bench.widgets.inspector import TrialInspector


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "runs.db"
    make_large_run(path)
    return path


def test_following_100000_trials_keeps_no_row(large):
    process = psutil.Process()
    with Store(str(large)) as store:
        figures = RunningFigures(store, store.find_run(RUN))
        before = process.memory_info().rss
        figures.read()
        grown = process.memory_info().rss - before
        snapshot = figures.snapshot()
    assert snapshot.ended == TARGETS * CASES
    assert grown < 60e6, "the texts alone are 150 MB"
    assert sum(row.failures.get("unparsed", 0) for row in snapshot.targets) == 991
    assert snapshot.spend.fees_usd == pytest.approx(100.0)


def test_100000_trials_open_within_three_seconds_of_work(large):
    began = time.process_time()
    with TrialInspector(RUN, store=str(large)) as inspector:
        opened_s = time.process_time() - began
        assert (inspector.total, len(inspector.rows), inspector.pages) == (100_000, 50, 2000)
        assert opened_s < 3.0
        assert inspector.show_page(2000)[-1].case_id == "case-00999"
        key = inspector.filter(target="ollama:m-042", outcome="unparsed")[0].key
        assert inspector.total == 10
        assert inspector.open(key)["score"] == 0.0
        assert len(inspector.same_case) == 99
