"""A run of 100,000 trials is looked at without waiting and without filling the memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from large_run import CASES, RUN, TARGETS, make_large_run
from soma_bench.sweeps.running import RunningFigures
from soma_bench.sweeps.store import Store


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "runs.db"
    make_large_run(path)
    return path


def test_following_100000_trials_keeps_no_row(large):
    with Store(str(large)) as store:
        tracemalloc.start()
        figures = RunningFigures(store, store.find_run(RUN))
        laid_out, _ = tracemalloc.get_traced_memory()
        figures.read()
        taken, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        snapshot = figures.snapshot()
    assert snapshot.ended == TARGETS * CASES
    assert taken - laid_out < 2e6, "less than 20 bytes a trial beside what was laid out"
    assert peak < 60e6
    assert sum(row.failures.get("unparsed", 0) for row in snapshot.targets) == 991
    assert snapshot.spend.fees_usd == pytest.approx(100.0)
