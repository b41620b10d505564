"""The store's contract, held by SQLite and by a real PostgreSQL alike."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from postgres import PASSWORD, postgres_server, postgres_url  # noqa: F401 - fixtures
from scripted import ScriptedProvider
from soma_bench.cli import cli
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import LookRecord, Store, StoreMissingError
from soma_bench.sweeps.store.migrate import migrate
from soma_bench.sweeps.store.tables import METADATA, REVISIONS, VERSION
from stored import RUN, SUITE, fill, planned, trial

ANSWER = '{"intent":"QUESTION","handler":"self","asked":"x","confidence":80}'


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request, tmp_path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "runs.db")
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def store(location) -> Iterator[Store]:
    with Store(location, create=True) as opened:
        yield opened


def test_a_store_is_there_after_it_was_made_and_not_before(location):
    with pytest.raises(StoreMissingError, match="run a sweep first"):
        Store(location)
    Store(location, create=True).close()
    with Store(location) as opened:
        assert opened.runs() == []


def test_what_is_recorded_is_read_back_as_it_was(store):
    rows = planned()
    record = trial(
        rows[0], prompt_tokens=7, cost_usd=0.1, busy=True, memory_bytes=2**40, load_s=0.25
    )
    store.begin_run(RUN, rows)
    store.record(record)
    assert store.runs() == [RUN]
    (row,) = store.trials(RUN.id)
    assert {name: row[name] for name in dataclasses.asdict(record)} == dataclasses.asdict(record)
    assert (row["suite"], row["case_digest"], row["case"]) == (
        "alignment",
        rows[0].case_digest,
        rows[0].case,
    )
    assert store.finished_keys(RUN.id) == {record.key}
    assert store.planned_count(RUN.id) == 4
    assert store.latest_epoch(RUN.plan_digest) == 0
    assert store.mean_seconds() == {("alignment", "ollama:m"): 1.0}


def test_many_trials_are_recorded_once_however_often_and_errors_give_way(store):
    rows = planned()
    store.begin_run(RUN, rows)
    failed = [trial(row, status="error", error="gone", answer=None) for row in rows[:2]]
    store.record_many([*failed, trial(rows[2])])
    store.record_many([trial(row, answer="second") for row in rows[:3]])
    store.record_many([])
    answers = {row["key"]: row["answer"] for row in store.trials(RUN.id)}
    assert answers == {
        rows[0].key: "second",
        rows[1].key: "second",
        rows[2].key: trial(rows[2]).answer,
    }


def test_of_a_batch_that_cannot_be_kept_nothing_is(store):
    rows = planned()
    store.begin_run(RUN, rows)
    broken = trial(rows[1], provider=None)
    with pytest.raises((ConfigError, sa.exc.SQLAlchemyError)):
        store.record_many([trial(rows[0]), broken])
    assert list(store.trials(RUN.id)) == []


def test_any_text_that_a_model_can_write_is_kept(store):
    rows = planned()
    store.begin_run(RUN, rows)
    store.record(
        trial(rows[0], answer="half \ud83d a pair", thoughts="nul \0 end", error="é\u2028")
    )
    (row,) = store.trials(RUN.id)
    assert row["answer"] == "half \ufffd a pair"
    assert row["thoughts"] in ("nul \0 end", "nul \ufffd end")
    assert row["error"] == "é\u2028"


def test_a_sweep_runs_resumes_and_is_compared(store):
    """Failures run again, and nothing else does; scores are made once."""
    sweep = sweep_from(
        {
            "name": "both",
            "suites": {"alignment": str(SUITE)},
            "cases_per_agent": 3,
            "targets": [{"provider": "llamacpp", "model": "m"}],
        },
        "both.yaml",
    )
    broken = [True]

    def script(_):
        if broken.pop() if broken else False:
            raise ProviderError("llamacpp", "gone", kind="bad_request")
        return ANSWER

    async def go():
        async with ProviderPool(lambda _: ScriptedProvider(script)) as pool:
            plan = await plan_sweep(sweep, Path(), pool, store)
            return await run_plan(plan, store, pool)

    first = asyncio.run(go())
    assert (first.called, first.failed) == (3, 1)
    second = asyncio.run(go())
    assert (second.called, second.resumed, second.failed) == (1, 2, 0)
    comparison = compare_run(store, first.run_id)
    assert (comparison.planned, comparison.finished) == (3, 3)
    assert comparison.evidence[0].n == 3
    assert score_run(store, first.run_id) == 0
    assert score_run(store, first.run_id, again=True) == 3
    ((run,),) = [store.progress()]
    assert (run.planned, run.done, run.failed) == (3, 3, 0)


def test_both_databases_give_the_same_figures(tmp_path, postgres_url):  # noqa: F811
    comparisons = []
    for place in (str(tmp_path / "runs.db"), postgres_url):
        with Store(place, create=True) as opened:
            rows = planned(("a", "b"), cases=12)
            opened.begin_run(RUN, rows)
            opened.record_many(
                trial(
                    row,
                    "ab"[place // 12],
                    total_s=0.1 + place * 0.37 % 1,
                    cost_usd=0.001 * (place % 7 + 1) / 3,
                    prompt_tokens=place,
                    busy=place % 5 == 0,
                    answer="no" if place % 4 == 0 else trial(row).answer,
                )
                for place, row in enumerate(rows)
            )
            comparisons.append(compare_run(opened, RUN.id))
    assert comparisons[0] == comparisons[1]


def test_looks_are_replaced_and_read_in_their_order(store):
    store.begin_run(RUN, planned())
    look = LookRecord(
        agent="alignment",
        look=1,
        n=8,
        alpha=0.01,
        standings=[{"target": "ollama:m", "dropped_by": None}],
        regret=0.1,
        stop=None,
        chosen=None,
        rules={"alpha": 0.05},
        scorer_version=2,
    )
    later = dataclasses.replace(look, look=2, stop="one is left", chosen="ollama:m")
    store.save_looks(RUN.id, "alignment", [look])
    store.save_looks(RUN.id, "alignment", [later, look])
    assert store.looks(RUN.id) == {"alignment": [look, later]}


# Many at once.


def _write(location: str, turn: int) -> None:
    with Store(location, create=True) as store:
        rows = planned(("m", f"m{turn}"), cases=8)
        run = dataclasses.replace(RUN, id=f"stored-{turn}")
        store.begin_run(run, rows if turn % 2 else rows[::-1])
        for row in rows:
            store.record(trial(row, answer=f"of {turn}"))
        store.record_many(trial(row) for row in reversed(rows))


def test_many_processes_make_and_fill_one_store_at_once(location):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(location, turn)) for turn in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    with Store(location) as store:
        progress = store.progress()
        assert [(run.planned, run.done) for run in progress] == [(16, 16)] * 4
        shared = [row["answer"] for row in store.trials("stored-0")]
        assert set(shared) <= {f"of {turn}" for turn in range(4)}, "the first stays"


# Migrations.


def earlier(location: str, revision: str) -> None:
    """Make a store as it was at a revision, before versions were written, with a run in it."""
    from alembic import command
    from alembic.config import Config

    from soma_bench.sweeps.store.location import url_of
    from soma_bench.sweeps.store.migrate import MIGRATIONS

    engine = sa.create_engine(url_of(location))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision != REVISIONS[-1]:
            connection.execute(sa.schema.DropTable(VERSION))
        for row in planned():
            connection.execute(
                sa.text(
                    "INSERT INTO trials (key, agent, target, provider, model, case_id, repeat,"
                    " status, request, identity, synthetic, answer, finish, total_s, ended_at)"
                    " VALUES (:key, 'alignment', 'ollama:m', 'ollama', 'm', 'c', 0, 'done', '{}',"
                    " '{}', :no, 'x', 'stop', 1.5, '2026-01-01T00:00:00+00:00')"
                ),
                {"key": row.key, "no": False},
            )
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_an_earlier_store_is_refused_then_migrated_with_nothing_lost(location, revision):
    earlier(location, revision)
    for create in (False, True):
        with pytest.raises(ConfigError, match="soma-bench store migrate") as refused:
            Store(location, create=create)
        assert "\n" not in str(refused.value)
    done = migrate(location)
    assert (done.before, done.after) == (revision, REVISIONS[-1])
    assert (done.backup is not None) == ("://" not in location)
    with Store(location) as store:
        assert store.mean_seconds() == {("alignment", "ollama:m"): 1.5}
        fill(store)
    again = migrate(location)
    assert (again.before, again.after, again.backup) == (REVISIONS[-1], REVISIONS[-1], None)


def test_migrations_lead_to_the_tables_that_a_new_store_has(location):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    earlier(location, "0001")
    migrate(location)
    with Store(location) as store, store._engine.connect() as connection:
        dialect = connection.dialect

        def is_made_here(item, name, kind, *_) -> bool:
            return kind != "index" or item._ddl_if is None or item._ddl_if.dialect == dialect.name

        options = {
            "version_table": VERSION.name,
            "compare_type": True,
            "include_object": is_made_here,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_a_store_of_a_later_version_is_refused_with_what_to_do(location):
    with Store(location, create=True) as store, store._engine.begin() as connection:
        connection.execute(sa.update(VERSION).values(version_num="0999"))
    for attempt in (lambda: Store(location), lambda: migrate(location)):
        with pytest.raises(ConfigError, match=r"later version .* update soma-bench"):
            attempt()


# Passwords.


def test_a_password_is_in_no_error_no_representation_and_no_log(
    postgres_url,  # noqa: F811
    caplog,
):
    caplog.set_level(logging.DEBUG)
    Store(postgres_url, create=True).close()
    with Store(postgres_url) as store:
        fill(store)
        seen = [repr(store), str(vars(store)), store.location, repr(compare_run(store, RUN.id))]
    address = postgres_url.replace(f":{PASSWORD}@", "@")
    for wrong in (
        postgres_url + "_nowhere",
        postgres_url.replace("127.0.0.1", "localhost.invalid"),
        f"{address}?password={PASSWORD}&connect_timeout=1&dbname=none",
        f"{postgres_url}?nosuch={PASSWORD}",
    ):
        result = CliRunner().invoke(cli, ["store", "info", "--store", wrong])
        assert isinstance(result.exception, ConfigError)
        seen += [str(result.exception), result.output]
    assert [text for text in (*seen, caplog.text) if PASSWORD in text] == []
