"""Running a plan: each trial once, failures kept apart, each model loaded once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import re
import sqlite3
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripted import ScriptedProvider, completion
from soma_bench.cli import cli
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError, PrivacyError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.sweeps.estimate import estimate
from soma_bench.sweeps.plan import Plan, describe_request
from soma_bench.sweeps.runner import Outcome, plan_sweep, run_plan
from soma_bench.sweeps.scores import score_run, scored_trials
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store, TrialRecord
from soma_bench.types import Completion, Limits, Request, Timings

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


def cloud(name: str, script=lambda _: ANSWER) -> ScriptedProvider:
    provider = ScriptedProvider(script)
    provider.name, provider.is_local = name, False
    return provider


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


def rows(store: Store, plan: Plan) -> list:
    return list(store.trials(plan.run_id))


def answer(load_s: float | None, total_s: float) -> Completion:
    return dataclasses.replace(
        completion(ANSWER), timings=Timings(load_s=load_s, first_token_s=0.01, total_s=total_s)
    )


def test_a_trial_is_cold_where_it_loaded_the_model_and_latencies_leave_it_out(store):
    seen: set[str] = set()

    def load_first(request):
        cold = request.model not in seen
        seen.add(request.model)
        return answer(0.5, 90.0) if cold else answer(0.0, 2.0)

    plan, _ = execute(store, ScriptedProvider(load_first))
    starts = Counter((row["model"], row["start"]) for row in rows(store, plan))
    assert starts == {
        ("a-q8_0", "cold"): 1,
        ("a-q8_0", "warm"): 5,
        ("a-q4_0", "cold"): 1,
        ("a-q4_0", "warm"): 5,
    }
    comparison = compare_run(store, plan.run_id)
    assert {(row.n, row.latency_p95_s) for row in comparison.evidence} == {(3, 2.0)}
    counts = {samples.cold: samples.clean for samples in comparison.samples.values()}
    assert counts == {1: 2, 0: 3}


def test_where_every_trial_was_cold_all_of_them_count(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: answer(0.5, 90.0)))
    comparison = compare_run(store, plan.run_id)
    assert {row.latency_p50_s for row in comparison.evidence} == {90.0}
    assert {samples.clean for samples in comparison.samples.values()} == {0}


def test_a_backend_that_says_nothing_of_loading_is_neither_cold_nor_warm(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: answer(None, 2.0)))
    assert {row["start"] for row in rows(store, plan)} == {None}


def test_a_busy_trial_is_left_out_of_latencies(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: answer(0.0, 2.0)), cases_per_agent=2)
    with sqlite3.connect(store.location) as connection:
        connection.execute(
            "UPDATE trials SET busy = 1, total_s = 40 WHERE case_id = (SELECT min(case_id) FROM trials)"
        )
    connection.close()
    comparison = compare_run(store, plan.run_id)
    assert {row.latency_p95_s for row in comparison.evidence} == {2.0}
    assert {(s.clean, s.busy) for s in comparison.samples.values()} == {(1, 1)}


def test_a_trial_beside_other_calls_is_left_out_of_latencies_and_counted(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: answer(0.0, 2.0)), cases_per_agent=2)
    crowd = "UPDATE trials SET concurrency = 3, total_s = 40"
    with sqlite3.connect(store.location) as connection:
        connection.execute(f"{crowd} WHERE case_id = (SELECT min(case_id) FROM trials)")
    connection.close()
    comparison = compare_run(store, plan.run_id)
    assert {row.latency_p95_s for row in comparison.evidence} == {2.0}
    assert {(s.clean, s.crowded, s.concurrency) for s in comparison.samples.values()} == {(1, 1, 3)}
    shown = ["compare", plan.run_id, "--store", store.location]
    assert "crowded: measure again" not in CliRunner().invoke(cli, shown).output
    with sqlite3.connect(store.location) as connection:
        connection.execute(crowd)
    connection.close()
    told = CliRunner().invoke(cli, shown).output
    assert "2 (up to 3)" in told
    assert "every trial was cold, busy or crowded: measure again" in told


def test_each_trial_keeps_its_price_and_by_what_it_is_known(store, monkeypatch):
    monkeypatch.setenv("SOMA_BENCH_WATTS", "180")
    monkeypatch.setenv("SOMA_BENCH_USD_PER_KWH", "0.2")
    plan, _ = execute(store, ScriptedProvider(lambda _: answer(0.0, 10.0)))
    for row in rows(store, plan):
        assert row["cost_usd"] == pytest.approx(180 * 10 / 3.6e6 * 0.2)
        assert (row["cost_basis"], row["cost_source"]) == ("electricity", "180 W at 0.2 USD/kWh")
    (evidence, *_) = compare_run(store, plan.run_id).evidence
    assert evidence.cost_usd == pytest.approx(0.0001)


@pytest.mark.parametrize(
    ("model", "usd", "source"),
    # 10 tokens in and 5 out, at $2 and $10 a million
    [("claude-sonnet-5-5", 70e-6, "genai-prices"), ("claude-nobody-9", None, "no price")],
)
def test_a_cloud_trial_costs_its_fee_or_says_why_that_is_unknown(store, model, usd, source):
    targets = [{"provider": "claude", "model": model}]
    plan, _ = execute(store, cloud("claude"), targets=targets, privacy="open")
    for row in rows(store, plan):
        assert row["cost_usd"] == (None if usd is None else pytest.approx(usd))
        assert source in row["cost_source"]
    (evidence,) = compare_run(store, plan.run_id).evidence
    assert evidence.cost_usd == (None if usd is None else pytest.approx(usd))


def test_a_warm_up_loads_each_local_model_once_and_is_no_trial(store):
    provider = ScriptedProvider(lambda request: ANSWER if request.schema else "Hello!")
    plan, outcome = execute(store, provider, warm_up=True)
    assert (outcome.called, len(provider.requests)) == (12, 14)
    greetings = [request for request in provider.requests if request.schema is None]
    assert [request.model for request in greetings] == ["a-q8_0", "a-q4_0"]
    assert len(rows(store, plan)) == 12
    _, again = execute(store, provider, warm_up=True)
    assert (again.called, len(provider.requests)) == (0, 14), "nothing to run, nothing to load"
    _, without = execute(store, provider)
    assert without.resumed == 12, "a warm-up decides no answer and is part of no key"


def test_a_failed_warm_up_is_left_to_the_trials_to_tell(store):
    def gone(request):
        raise ProviderError("llamacpp", "gone", kind="not_running")

    plan, outcome = execute(store, ScriptedProvider(gone), warm_up=True, cases_per_agent=1)
    assert (outcome.called, outcome.failed) == (4, 4)
    assert all("gone" in row["error"] for row in rows(store, plan))


def test_the_second_try_waits_as_long_as_the_backend_asks(store):
    calls: list[float] = []

    def limited(request):
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise ProviderError("llamacpp", "slow down", kind="rate_limited", wait_s=0.3)
        return ANSWER

    _, outcome = execute(store, ScriptedProvider(limited), cases_per_agent=1)
    assert outcome.failed == 0
    assert calls[1] - calls[0] >= 0.3


def test_who_asks_for_an_hour_is_tried_with_the_next_execution(store):
    calls = []

    def limited(request):
        calls.append(request)
        raise ProviderError("llamacpp", "come back later", kind="rate_limited", wait_s=3600)

    _, outcome = execute(store, ScriptedProvider(limited), cases_per_agent=1)
    assert outcome.failed == len(calls) == 4


def test_limits_are_no_part_of_a_trials_key():
    request = Request(model="m", messages=(), max_tokens=1)
    patient = dataclasses.replace(request, limits=Limits(total_s=9))
    assert describe_request(request) == describe_request(patient)


def test_expected_costs_come_from_measured_tokens_or_else_are_upper_bounds(store):
    targets = [{"provider": "claude", "model": "claude-sonnet-5-5", "thinking": ["off"]}]
    plan, _ = execute(store, cloud("claude"), targets=targets, privacy="open")
    prices = load_prices()
    (predicted,) = estimate(plan, finished=set(), mean_seconds={}, mean_usage={}, prices=prices)
    by_hand = 0.0
    for trial in plan.trials:
        request = plan.request(trial)
        characters = sum(len(message.content) for message in request.messages)
        by_hand += math.ceil(characters / 3.5) * 2e-6 + request.max_tokens * 10e-6
    assert predicted.cost_basis == "predicted"
    assert predicted.cost_usd == pytest.approx(by_hand)
    usage = store.mean_usage()
    (measured,) = estimate(plan, finished=set(), mean_seconds={}, mean_usage=usage, prices=prices)
    assert (measured.cost_basis, measured.cost_usd) == ("measured", pytest.approx(3 * 70e-6))


def test_an_expected_cost_without_a_price_is_unknown_and_says_why(store):
    targets = [{"provider": "openai", "model": "gpt-99"}]
    plan, _ = execute(store, cloud("openai"), targets=targets, privacy="open")
    (row,) = estimate(plan, finished=set(), mean_seconds={}, mean_usage={}, prices=load_prices())
    assert (row.cost_usd, row.cost_basis) == (None, "unknown")
    assert "gpt-99" in row.cost_note


def test_a_finished_trial_is_never_replaced(store):
    plan, _ = execute(store, ScriptedProvider(lambda _: ANSWER), cases_per_agent=1)
    row = next(iter(store.trials(plan.run_id)))
    fields = {field.name for field in dataclasses.fields(TrialRecord)}
    record = TrialRecord(**{name: row[name] for name in fields})
    store.record(dataclasses.replace(record, answer="something else"))
    assert next(iter(store.trials(plan.run_id)))["answer"] == ANSWER


@pytest.mark.parametrize(
    ("provider", "model", "is_local"),
    [
        ("claude", "claude-sonnet-5-5", False),
        ("openai", "gpt-6-luna", False),
        ("claude", "claude-sonnet-5-5", True),
        ("ollama", "qwen3:8b", False),
        ("ollama", "gpt-oss:120b-cloud", True),
    ],
)
def test_what_leaves_the_machine_is_refused_by_a_plan_unless_the_sweep_allows_it(
    store, provider, model, is_local
):
    backend = cloud(provider)
    backend.is_local = is_local
    targets = [{"provider": provider, "model": model}]
    with pytest.raises(ConfigError, match=r"is local_only; .* privacy: deidentified") as refused:
        execute(store, backend, targets=targets)
    assert "\n" not in str(refused.value)
    assert backend.requests == []
    with pytest.raises(ConfigError, match="privacy"):
        declared(privacy="public")


def test_every_call_of_a_sweep_to_a_cloud_passes_the_guard(store, tmp_path):
    backend = cloud("claude")
    targets = [{"provider": "claude", "model": "claude-sonnet-5-5"}]
    plan, _ = execute(store, backend, targets=targets, privacy="open")
    assert len(backend.requests) == 3
    private = plan.sweep.model_copy(update={"privacy": "local_only"})

    async def go(empty: Store) -> None:
        async with ProviderPool(lambda _: backend) as pool:
            await run_plan(dataclasses.replace(plan, sweep=private), empty, pool)

    with (
        Store(str(tmp_path / "empty.db"), create=True) as empty,
        pytest.raises(PrivacyError, match="local_only"),
    ):
        asyncio.run(go(empty))
    assert len(backend.requests) == 3


def test_a_deidentified_sweep_sends_placeholders_and_stores_the_answer_with_values(store, tmp_path):
    suite = tmp_path / "alignment.jsonl"
    first = (SUITES / "alignment.jsonl").read_text().splitlines()[0]
    case = json.loads(first)
    case["input"]["message"] = "Was Dr. Quimby told on 2026-11-02?"
    suite.write_text(json.dumps(case) + "\n")

    def echo(request):
        text = request.messages[-1].content
        asked = re.search(r"\[NAME_\d\].*\[DATE_\d\]", text)
        return ANSWER.replace('"x"', f'"{asked[0]}"')

    backend = cloud("claude", echo)
    targets = [{"provider": "claude", "model": "claude-sonnet-5-5"}]
    suites = {"alignment": str(suite)}
    plan, _ = execute(store, backend, targets=targets, suites=suites, privacy="deidentified")
    (sent,) = backend.requests
    assert "Quimby" not in str(sent)
    assert "2026-11-02" not in str(sent)
    (row,) = rows(store, plan)
    assert "Quimby told on 2026-11-02" in row["answer"]
    opened, _ = execute(store, backend, targets=targets, suites=suites, privacy="deidentified")
    assert opened.trials[0].key == plan.trials[0].key
    plain, _ = execute(store, cloud("claude"), targets=targets, suites=suites, privacy="open")
    assert plain.trials[0].key != plan.trials[0].key, "another prompt is another trial"
