"""Running a plan: each trial once, failures kept apart, each model loaded once."""

from __future__ import annotations

import asyncio
import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest

from scripted import ScriptedProvider
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.runner import Outcome, plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run, scored_trials
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store, TrialRecord

SUITES = Path(__file__).parent.parent / "data" / "suites"
ANSWER = '{"intent":"QUESTION","handler":"self","asked":"x","confidence":80}'


def declared(**changes):
    content = {
        "name": "test",
        "suites": {"alignment": str(SUITES / "alignment.jsonl")},
        "cases_per_agent": 3,
        "targets": [
            {
                "provider": "llamacpp",
                "model": "a",
                "quantizations": ["q8_0", "q4_0"],
                "thinking": ["off", 8],
            }
        ],
        **changes,
    }
    return sweep_from(content, "test.yaml")


def execute(
    store: Store, provider: ScriptedProvider, *, fresh: bool = False, **changes
) -> tuple[Plan, Outcome]:
    async def go() -> tuple[Plan, Outcome]:
        async with ProviderPool(lambda _: provider) as pool:
            plan = await plan_sweep(declared(**changes), Path(), pool, store, fresh=fresh)
            return plan, await run_plan(plan, store, pool)

    return asyncio.run(go())


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "runs.db"), create=True) as opened:
        yield opened


def test_every_trial_runs_once_and_a_second_execution_calls_nothing(store):
    provider = ScriptedProvider(lambda _: ANSWER)
    plan, first = execute(store, provider)
    assert (first.total, first.resumed, first.called, first.failed) == (12, 0, 12, 0)
    assert len({trial.key for trial in plan.trials}) == 12
    _, second = execute(store, provider)
    assert (second.resumed, second.called) == (12, 0)
    assert len(provider.requests) == 12
    assert provider.closed


def test_each_model_is_loaded_once(store):
    provider = ScriptedProvider(lambda _: ANSWER)
    execute(store, provider)
    models = [request.model for request in provider.requests]
    changes = sum(a != b for a, b in pairwise(models))
    assert changes == 1
    assert provider.unloads == [
        frozenset({"a-q8_0"}),
        frozenset(),
        frozenset({"a-q4_0"}),
        frozenset(),
    ]


def test_a_backends_failure_is_tried_once_more_then_kept_apart_and_run_next_time(store):
    calls = []

    def fails_on_q4(request):
        calls.append(request.model)
        if request.model == "a-q4_0":
            raise ProviderError("llamacpp", "gone", kind="not_running")
        return ANSWER

    plan, outcome = execute(store, ScriptedProvider(fails_on_q4))
    assert outcome.failed == 6
    assert calls.count("a-q4_0") == 12, "one more try each"
    assert score_run(store, plan.run_id) == 6, "failures are not scored"
    _, again = execute(store, ScriptedProvider(lambda _: ANSWER))
    assert (again.resumed, again.called, again.failed) == (6, 6, 0)
    assert {row["status"] for row in store.trials(plan.run_id)} == {"done"}


def test_what_a_backend_refuses_is_not_tried_again(store):
    calls = []

    def refuse(request):
        calls.append(request)
        raise ProviderError("llamacpp", "no", kind="bad_request")

    _, outcome = execute(store, ScriptedProvider(refuse), cases_per_agent=1)
    assert len(calls) == outcome.called == 4


def test_wrong_use_ends_the_run_and_keeps_what_was_measured(store):
    def cannot_think(request):
        if request.thinking == 8:
            raise ConfigError("llamacpp: a cannot think")
        return ANSWER

    with pytest.raises(ConfigError, match="cannot think"):
        execute(store, ScriptedProvider(cannot_think))
    run = store.find_run("latest")
    assert len(store.finished_keys(run.id)) == 3


def test_starting_anew_measures_again_and_leaves_the_old_run_alone(store):
    provider = ScriptedProvider(lambda _: ANSWER)
    old, _ = execute(store, provider)
    new, outcome = execute(store, provider, fresh=True)
    assert outcome.called == 12
    assert old.run_id != new.run_id
    assert not {t.key for t in old.trials} & {t.key for t in new.trials}
    resumed, outcome = execute(store, provider)
    assert (resumed.run_id, outcome.called) == (new.run_id, 0), (
        "the newest start is the one resumed"
    )
    assert len(store.finished_keys(old.run_id)) == 12


def test_a_widened_sweep_reuses_what_is_stored(store):
    provider = ScriptedProvider(lambda _: ANSWER)
    execute(store, provider)
    _, outcome = execute(store, provider, cases_per_agent=4)
    assert (outcome.total, outcome.resumed, outcome.called) == (16, 12, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"seed": 8}},
        {"options": {"temperature": 0.5}},
        {"options": {"cache_prompt": True}},
        {"options": {"context_tokens": 1024}},
        {"options": {"top_p": 0.9}},
    ],
)
def test_every_option_that_decides_an_answer_is_part_of_the_key(store, change):
    provider = ScriptedProvider(lambda _: ANSWER)
    execute(store, provider)
    _, outcome = execute(store, provider, **change)
    assert outcome.resumed == 0


def test_repeats_are_trials_of_their_own_with_seeds_of_their_own(store):
    provider = ScriptedProvider(lambda _: ANSWER)
    _, outcome = execute(store, provider, repeats=2, cases_per_agent=1)
    assert outcome.called == 8
    assert {request.options.seed for request in provider.requests} == {0, 1}


def test_an_unreadable_answer_scores_zero_and_says_why(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: "I think it is a question."))
    scored = list(scored_trials(store, plan.run_id))
    assert len(scored) == 12
    assert {item.score.primary_value for item in scored} == {0.0}
    assert all("AlignmentOutput" in item.score.failure for item in scored)


def test_rescoring_gives_the_same_scores(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: ANSWER))
    first = [item.score for item in scored_trials(store, plan.run_id)]
    assert score_run(store, plan.run_id) == 0
    assert score_run(store, plan.run_id, again=True) == 12
    assert [item.score for item in scored_trials(store, plan.run_id)] == first


def test_a_finished_trial_is_never_replaced(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: ANSWER), cases_per_agent=1)
    row = next(iter(store.trials(plan.run_id)))
    fields = {field.name for field in dataclasses.fields(TrialRecord)}
    record = TrialRecord(**{name: row[name] for name in fields})
    store.record(dataclasses.replace(record, answer="something else"))
    assert next(iter(store.trials(plan.run_id)))["answer"] == ANSWER
