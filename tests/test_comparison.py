"""Comparison: the figures of stored trials are those worked by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from scripted import ScriptedProvider
from soma_bench.cases.suite import load_suite
from soma_bench.comparison import Comparison, compare_run
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.scoring.statistics import cases_needed, mean_interval
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.types import Completion, Timings, Usage

SUITE = Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl"
ASKED = [case.input.message for case in load_suite(SUITE).cases]
"""The first four mean QUESTION, INFO, REVISION and APPROVAL."""


def says(intent: str, *, total_s: float = 1.0, **usage: int | None) -> Completion:
    text = f'{{"intent":"{intent}","handler":"self","asked":"x","confidence":80}}'
    return Completion(
        text=text,
        finish="stop",
        usage=Usage(**usage),
        timings=Timings(total_s=total_s),
    )


def compare(store: Store, answers: dict[str, list[object]], *, repeats: int = 1) -> Comparison:
    """Run a sweep in which each model gives its answers case by case; an error is raised."""

    def script(request):
        case = next(i for i, m in enumerate(ASKED) if m in request.messages[-1].content)
        answer = answers[request.model][case]
        if isinstance(answer, list):
            answer = answer[request.options.seed]
        if isinstance(answer, Exception):
            raise answer
        return answer

    count = len(next(iter(answers.values())))
    sweep = sweep_from(
        {
            "name": "test",
            "suites": {"alignment": str(SUITE)},
            "cases_per_agent": count,
            "repeats": repeats,
            "targets": [{"provider": "llamacpp", "model": model} for model in answers],
        },
        "test.yaml",
    )

    async def go() -> str:
        async with ProviderPool(lambda _: ScriptedProvider(script)) as pool:
            plan = await plan_sweep(sweep, Path(), pool, store)
            await run_plan(plan, store, pool)
            return plan.run_id

    return compare_run(store, asyncio.run(go()))


def test_every_figure_of_a_target_by_hand(store, monkeypatch):
    """Two of four right, one wrong, one cut off; seconds 1, 2, 4, 9."""
    monkeypatch.setenv("SOMA_BENCH_WATTS", "180")
    monkeypatch.setenv("SOMA_BENCH_USD_PER_KWH", "0.2")
    comparison = compare(
        store,
        {
            "m": [
                says("QUESTION", total_s=4, prompt_tokens=100, output_tokens=30),
                says("QUESTION", total_s=1, prompt_tokens=120, output_tokens=20),
                dataclasses.replace(
                    says("REVISION", total_s=9, prompt_tokens=140, output_tokens=160),
                    finish="length",
                ),
                says("APPROVAL", total_s=2, prompt_tokens=None, output_tokens=30),
            ]
        },
    )
    (row,) = comparison.evidence
    assert (comparison.planned, comparison.finished) == (4, 4)
    assert (row.agent, row.target, row.metric) == ("alignment", "llamacpp:m", "intent accuracy")
    assert (row.n, row.cases, row.answer_failures) == (4, 4, 1)
    assert row.quality == pytest.approx(0.5)
    interval = mean_interval([[1.0], [0.0], [0.0], [1.0]])
    assert (row.quality_low, row.quality_high) == (interval.low, interval.high)
    assert row.latency_p50_s == pytest.approx(3), "between 2 and 4"
    assert row.latency_p95_s == pytest.approx(4 + 0.85 * 5), "position 0.95 * 3 = 2.85 of 0 to 3"
    assert row.prompt_tokens == pytest.approx((100 + 120 + 140) / 3), "where it was counted"
    assert row.output_tokens == pytest.approx((30 + 20 + 160 + 30) / 4)
    assert row.thinking_tokens is None
    assert row.cost_usd == pytest.approx(180 * 4 / 3.6e6 * 0.2), "mean of 4 s at 180 W"
    assert row.memory_bytes == 1_000_000
    assert not row.synthetic
    # QUESTION: 1 hit, said 2, true 1. APPROVAL: 1, 1, 1. INFO and REVISION: none.
    expected = (2 / 3 + 1 + 0 + 0) / 4
    details = comparison.details["alignment", "llamacpp:m"]
    assert details["macro_f1"] == pytest.approx(expected)
    assert details["failure_rate"] == details["truncated_rate"] == 1 / 4
    assert "refused_rate" not in details
    taken_for = comparison.breakdowns["alignment", "llamacpp:m"]["confusion"]
    assert taken_for["REVISION"] == {"unread": 1}


def test_repeats_count_as_trials_and_share_a_case(store):
    comparison = compare(
        store,
        {
            "m": [
                [says("QUESTION"), says("QUESTION"), says("QUESTION")],
                [says("INFO"), says("UNCLEAR"), says("UNCLEAR")],
            ]
        },
        repeats=3,
    )
    (row,) = comparison.evidence
    assert (row.n, row.cases) == (6, 2)
    assert row.quality == pytest.approx(4 / 6)
    interval = mean_interval([[1.0] * 3, [1.0, 0.0, 0.0]])
    assert (row.quality_low, row.quality_high) == (interval.low, interval.high)


def test_best_quality_stands_first_and_the_faster_of_equals(store):
    right, wrong = says("QUESTION"), says("UNCLEAR")
    slow = says("QUESTION", total_s=5)
    comparison = compare(store, {"bad": [wrong], "slow": [slow], "fast": [right]})
    assert [row.target for row in comparison.evidence] == [
        "llamacpp:fast",
        "llamacpp:slow",
        "llamacpp:bad",
    ]


def test_backends_failures_are_in_no_figure_but_in_what_was_planned(store):
    gone = ProviderError("llamacpp", "gone", kind="bad_request")
    comparison = compare(store, {"m": [says("QUESTION", total_s=3), gone, gone]})
    (row,) = comparison.evidence
    assert (comparison.planned, comparison.finished) == (3, 1)
    assert (row.n, row.quality, row.answer_failures) == (1, 1.0, 0)
    assert (row.latency_p50_s, row.latency_p95_s) == (3, 3)


def test_run_without_a_finished_trial_is_refused(store):
    gone = ProviderError("llamacpp", "gone", kind="bad_request")
    with pytest.raises(ConfigError, match="has no finished trial"):
        compare(store, {"m": [gone]})


def test_provenance_is_the_same_however_often_a_run_is_compared(store):
    comparison = compare(store, {"m": [says("QUESTION")]})
    again = compare_run(store, comparison.run.id)
    assert again == comparison
    ended = [trial["ended_at"] for trial in store.trials(comparison.run.id)]
    assert comparison.provenance.date == max(ended)
    assert comparison.provenance.run_ids == (comparison.run.id,)
    suite = load_suite(SUITE).take(1)
    assert comparison.provenance.suite_digests == {"alignment": suite.digest}


def test_targets_are_set_beside_the_best_on_shared_cases(store):
    right = [says(i) for i in ("QUESTION", "INFO", "REVISION", "APPROVAL")]
    comparison = compare(store, {"good": right, "half": [*right[:2], *[says("UNCLEAR")] * 2]})
    ((key, pair),) = comparison.against_best.items()
    assert key == ("alignment", "llamacpp:half")
    assert (pair.best, pair.cases, pair.p) == ("llamacpp:good", 4, 1 / 2)
    assert pair.difference.mean == pytest.approx(-0.5)
    assert not pair.is_worse
    design = comparison.designs["alignment"]
    assert pair.more_cases == cases_needed(0.5, design.sd) - 4
    assert {row.selection for row in comparison.evidence} == {"same cases"}


def test_the_time_to_load_is_that_of_the_cold_call_and_stays_out_of_latencies(store):
    cold = says("QUESTION", total_s=50)
    cold = dataclasses.replace(cold, timings=dataclasses.replace(cold.timings, load_s=7.5))
    warm = says("QUESTION", total_s=2)
    warm = dataclasses.replace(warm, timings=dataclasses.replace(warm.timings, load_s=0.0))
    (row,) = compare(store, {"m": [cold, warm, warm, warm]}).evidence
    assert row.load_s == 7.5
    assert row.latency_p95_s == pytest.approx(2)
