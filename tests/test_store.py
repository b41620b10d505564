"""The store in a file: what is refused, migrations that fail, and sums made in the database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soma_bench.cli import cli
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.store import Store
from soma_bench.sweeps.store.migrate import MIGRATIONS, migrate
from soma_bench.sweeps.store.tables import REVISIONS
from stored import RUN, fill, planned, trial
from test_store_databases import earlier


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_every_migration_is_known_by_its_number():
    scripts = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == REVISIONS


def test_a_refused_store_is_left_as_it_is(tmp_path):
    path = tmp_path / "old.db"
    earlier(str(path), "0002")
    before = path.read_bytes()
    for create in (False, True):
        with pytest.raises(ConfigError, match=r"old\.db: was made by an earlier version"):
            Store(str(path), create=create)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


LOOK = """\
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
connection.close()
"""


def test_what_is_recorded_is_there_for_others_however_often_a_process_opens_its_store(tmp_path):
    """Else a process that looks takes itself for the last one, and removes the log under the writer."""
    path = tmp_path / "runs.db"

    def seen_from_outside() -> int:
        command = [sys.executable, "-c", LOOK, str(path)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    with Store(str(path), create=True) as writer:
        first, second = planned(cases=2)
        writer.begin_run(RUN, [first, second])
        writer.record(trial(first))
        Store(str(path)).close()
        assert seen_from_outside() == 1
        assert path.with_name("runs.db-wal").exists()
        writer.record(trial(second))
        assert seen_from_outside() == 2


def test_a_store_whose_column_was_taken_away_is_damaged(tmp_path):
    path = tmp_path / "runs.db"
    Store(str(path), create=True).close()
    change(path, "ALTER TABLE trials DROP COLUMN power_mode")
    with pytest.raises(ConfigError, match="is damaged: table trials lacks power_mode"):
        Store(str(path))


@pytest.mark.parametrize("table", ["runs", "trials", "looks"])
def test_a_database_of_something_else_is_not_migrated(tmp_path, table):
    path = tmp_path / "other.db"
    change(path, f"CREATE TABLE {table} (something TEXT)")
    before = path.read_bytes()
    for attempt in (lambda: migrate(str(path)), lambda: Store(str(path), create=True)):
        with pytest.raises(ConfigError, match="is a database of something else"):
            attempt()
    assert path.read_bytes() == before


def test_the_copy_holds_the_store_as_it_was(tmp_path):
    path = tmp_path / "runs.db"
    earlier(str(path), "0001")
    done = migrate(str(path))
    assert done.backup == tmp_path / "runs.db.0001.bak"
    with pytest.raises(ConfigError, match="earlier version"):
        Store(str(done.backup))
    counts = []
    for each in (path, done.backup):
        with closing(sqlite3.connect(each)) as connection:
            counts.append(connection.execute("SELECT count(*) FROM trials").fetchone())
    assert counts == [(4,), (4,)]


def test_a_migration_that_fails_on_the_way_changes_nothing(tmp_path):
    """The last migration's index is in the way: what the first ones did is undone."""
    path = tmp_path / "runs.db"
    earlier(str(path), "0001")
    change(path, "CREATE INDEX runs_by_plan ON runs (name)")
    with pytest.raises(ConfigError, match="runs_by_plan already exists"):
        migrate(str(path))
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(trials)")]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "busy" not in columns
    assert not {"looks", "store_version"} & tables
    change(path, "DROP INDEX runs_by_plan")
    (tmp_path / "runs.db.0001.bak").unlink()
    assert migrate(str(path)).after == REVISIONS[-1]


def test_a_copy_that_is_there_already_is_not_overwritten(tmp_path):
    path = tmp_path / "runs.db"
    earlier(str(path), "0001")
    (tmp_path / "runs.db.0001.bak").write_text("precious")
    with pytest.raises(ConfigError, match="in the way"):
        migrate(str(path))
    assert (tmp_path / "runs.db.0001.bak").read_text() == "precious"


def test_the_command_tells_what_a_store_holds_and_migrates_it(tmp_path):
    path = tmp_path / "runs.db"
    earlier(str(path), "0003")
    run = CliRunner().invoke
    told = run(cli, ["store", "migrate", "--store", str(path), "--json"])
    assert json.loads(told.output)["before"] == "0003"
    assert "is up to date" in run(cli, ["store", "migrate", "--store", str(path)]).output
    with Store(str(path)) as store:
        store.begin_run(RUN, planned())
    told = json.loads(run(cli, ["store", "info", "--store", str(path), "--json"]).output)
    assert [(row["id"], row["planned"], row["done"]) for row in told["runs"]] == [
        ("stored-1", 4, 4)
    ]
    assert "stored-1" in run(cli, ["store", "info", "--store", str(path)]).output


# Sums.


@pytest.fixture(scope="module")
def one_store(tmp_path_factory) -> Store:
    with Store(str(tmp_path_factory.mktemp("sums") / "runs.db"), create=True) as opened:
        fill(opened)
        score_run(opened, RUN.id)
        yield opened


seconds = st.floats(0, 1e6, allow_nan=False)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(seconds, st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_percentiles_are_those_of_the_clean_trials_to_the_last_digit(one_store, measured):
    rows = planned(cases=len(measured))
    with one_store._engine.begin() as connection:
        for table in ("scores", "trials", "run_trials", "runs"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    one_store.begin_run(RUN, rows)
    one_store.record_many(
        trial(row, total_s=total_s, busy=busy, start="cold" if cold else "warm")
        for row, (total_s, busy, cold) in zip(rows, measured, strict=True)
    )
    (row,) = compare_run(one_store, RUN.id).evidence
    clean = [total_s for total_s, busy, cold in measured if not busy and not cold]
    expected = clean or [total_s for total_s, _, _ in measured]
    assert row.latency_p50_s == np.percentile(expected, 50)
    assert row.latency_p95_s == np.percentile(expected, 95)


def test_without_details_all_else_is_the_same(tmp_path):
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        fill(store, ("a", "b"), cases=6)
        whole, bare = compare_run(store, RUN.id), compare_run(store, RUN.id, details=False)
    assert set(whole.details) == {("alignment", "ollama:a"), ("alignment", "ollama:b")}
    assert (bare.details, bare.breakdowns) == ({}, {})
    for name in ("evidence", "samples", "against_best", "designs", "provenance", "finished"):
        assert getattr(whole, name) == getattr(bare, name)


@pytest.mark.parametrize(
    ("field", "value"),
    [("total_s", "'fast'"), ("total_s", "-1"), ("cost_usd", "9e999"), ("output_tokens", "'x'"),
     ("finish", "'odd'"), ("busy", "7"), ("memory_bytes", "-5")],
)  # fmt: skip
def test_a_figure_that_cannot_be_is_named_and_not_summed_up(tmp_path, field, value):
    path = tmp_path / "runs.db"
    with Store(str(path), create=True) as store:
        rows = fill(store)
        score_run(store, RUN.id)
        change(path, f"UPDATE trials SET {field} = {value} WHERE key = '{rows[1].key}'")
        with pytest.raises(ConfigError, match=f"is damaged: a trial of ollama:m .*{field}"):
            compare_run(store, RUN.id)


@pytest.mark.parametrize("parts", ["{", "[]", "7", '{"cost": NaN}'])
def test_parts_that_are_none_are_named_and_not_summed_up(tmp_path, parts):
    path = tmp_path / "runs.db"
    with Store(str(path), create=True) as store:
        fill(store)
        score_run(store, RUN.id)
        change(path, f"UPDATE scores SET parts = '{parts}' WHERE rowid = 2")
        with pytest.raises(ConfigError, match="a score of ollama:m at alignment: its parts are no"):
            compare_run(store, RUN.id)


def test_scores_that_are_stored_are_not_made_again_and_missing_ones_are(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "soma_bench.sweeps.scores.SCORER_BY_AGENT",
        {"alignment": _Counting(made)},
    )
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        rows = planned(cases=4)
        store.begin_run(RUN, rows)
        store.record_many(map(trial, rows[:3]))
        assert score_run(store, RUN.id) == 3
        store.record(trial(rows[3]))
        assert score_run(store, RUN.id) == 1
        assert score_run(store, RUN.id) == 0
    assert len(made) == 4


class _Counting:
    """The alignment's scorer, which notes what it scores."""

    def __init__(self, made: list[object]) -> None:
        from soma_bench.scoring.alignment import SCORER

        self.version = SCORER.version
        self._made, self._scorer = made, SCORER

    def score(self, output, reference):
        self._made.append(reference)
        return self._scorer.score(output, reference)
