"""Racing: the best is lost no more often than stated, and the looks are the same every time."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from scripted import ScriptedProvider, completion
from soma_bench.cases.suite import load_suite
from soma_bench.cli.compare import compare
from soma_bench.cli.sweep import sweep
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.race_run import RaceOutcome, run_race
from soma_bench.sweeps.racing import RaceRules, alpha_share, look_sizes, race
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.types import Timings

SUITE = Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl"

# The decision.


@pytest.mark.parametrize(
    ("units", "sizes"),
    [
        (60, (8, 12, 18, 27, 40, 60)),
        (6, (6,)),
        (19, (8, 12, 19)),
        (100, (8, 12, 18, 27, 40, 60, 90, 100)),
        (95, (8, 12, 18, 27, 40, 60, 95)),
    ],
)
def test_looks_grow_and_end_with_all_cases(units, sizes):
    assert look_sizes(units) == sizes


def test_one_case_is_no_race():
    with pytest.raises(ConfigError, match="at least 2 independent cases"):
        race([[0.1], [0.2]])


@pytest.mark.parametrize("units", [2, 8, 60, 100])
def test_all_looks_together_spend_alpha_and_no_more(units):
    sizes = look_sizes(units)
    shares = [alpha_share(n, sizes, 0.05) for n in sizes]
    assert sum(shares) == pytest.approx(0.05)
    assert min(shares) > 0
    assert shares[0] == pytest.approx(0.05 * math.log(1 + (math.e - 1) * sizes[0] / units))


def test_two_candidates_by_hand():
    """One look at four units: t is that of the paired test, its share the whole of alpha."""
    better, worse = [1.0, 0.8, 0.9, 1.0], [0.1, 0.4, 0.1, 0.5]
    result = race([better, worse])
    (look,) = result.looks
    expected = stats.ttest_rel(better, worse, alternative="greater")
    first, second = look.standings
    assert (first.t, second.t) == pytest.approx((-expected.statistic, expected.statistic))
    assert second.p == pytest.approx(expected.pvalue)
    assert (first.dropped_by, second.dropped_by) == (None, "bonferroni")
    assert (result.confidence_set, look.stop, result.measured) == ((0,), "one is left", 8)


def test_a_spread_too_small_to_be_believed_is_raised_to_the_floor():
    """0.1 ahead on each of eight cases: t is 0.1 / (0.2 / sqrt(8)) and not without end."""
    look = race([[0.9] * 8, [0.8] * 8]).looks[0]
    assert look.standings[1].t == pytest.approx(0.1 / (0.2 / math.sqrt(8)))
    assert look.survivors == (0, 1)


def test_only_what_survivors_need_is_measured_and_never_more_is_looked_at():
    """Columns beyond the first look are missing for the one that is dropped there."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0.8, 0.05, (3, 27))
    scores[2] = np.r_[rng.normal(0.1, 0.05, 8), [math.nan] * 19]
    result = race(scores)
    assert result.looks[0].survivors == (0, 1)
    assert result.measured == 3 * 8 + sum(
        2 * (b.n - a.n) for a, b in zip(result.looks, result.looks[1:], strict=False)
    )


def test_a_missing_score_is_refused_and_not_taken_for_zero():
    with pytest.raises(ValueError, match="a score is missing"):
        race([[0.5] * 8, [0.5] * 7 + [math.nan]])


def test_copies_of_the_best_stay_together():
    scores = np.random.default_rng(4).uniform(0, 1, (1, 60)).repeat(4, axis=0)
    result = race(np.vstack([scores, np.zeros((2, 60))]))
    assert result.confidence_set == (0, 1, 2, 3)


def test_same_scores_give_the_same_looks_to_the_last_digit():
    scores = np.random.default_rng(2).uniform(0, 1, (12, 60))
    assert race(scores) == race(scores)


def test_a_race_among_equals_stops_where_nothing_is_to_be_gained():
    scores = np.random.default_rng(6).normal(0.5, 0.02, (5, 60))
    result = race(scores, RaceRules(regret=0.05))
    assert result.looks[-1].stop == "regret is small"
    assert result.looks[-1].n < 60
    regrets = [look.regret for look in result.looks]
    assert regrets[-1] <= 0.05 < regrets[-2]
    assert len(result.confidence_set) == 5
    assert race(scores).looks[-1].stop == "cases are used up"


def test_equal_scores_on_eight_cases_are_no_proof_that_nothing_is_to_be_gained():
    """Two normal means with an error of 0.2 / sqrt(8): the better is ahead by 0.4 of that."""
    look = race(np.zeros((2, 60)), RaceRules(regret=0.01)).looks[0]
    assert look.stop is None
    assert look.regret == pytest.approx(0.2 / math.sqrt(8) / math.sqrt(2 * math.pi), rel=0.1)


def wide(rng):
    """4 models x 3 quantizations x 2 budgets, the first of each the best."""
    models, quantizations, budgets = (0, -0.08, -0.2, -0.3), (0, -0.02, -0.06), (0, -0.03)
    means = [0.75 + m + q + b for m in models for q in quantizations for b in budgets]
    return np.array(means)[:, None] + rng.normal(0, 0.15, (24, 60)) + rng.normal(0, 0.15, 60)


def equal(rng):
    return rng.normal(0.5, 0.15, (24, 60))


def right_or_wrong(rng):
    return (rng.random((24, 60)) < 0.6).astype(float)


@pytest.mark.parametrize(
    ("scenario", "least_saved"), [(wide, 0.40), (equal, 0.0), (right_or_wrong, 0.0)]
)
def test_the_best_is_lost_in_no_more_than_5_of_100_races(scenario, least_saved):
    """Over 60 races; 8 losses or more would come about in 1 of 100 such tests were it 5 %."""
    lost, measured = 0, 0
    for seed in range(60):
        result = race(scenario(np.random.default_rng(seed)), RaceRules(seed=seed))
        lost += 0 not in result.confidence_set
        measured += result.measured
    assert lost < 8
    assert 1 - measured / (60 * 24 * 60) >= least_saved


def test_strict_drops_nothing_that_the_bootstrap_keeps():
    for seed in range(20):
        scores = wide(np.random.default_rng(seed))
        shared, strict = race(scores), race(scores, RaceRules(strict=True))
        for ours, theirs in zip(shared.looks, strict.looks, strict=False):
            assert set(ours.survivors) <= set(theirs.survivors)


# The run.

SHARES = {"good": 1.0, "fair": 0.95, "poor": 0.2, "none": 0.0}
"""How many of each model's answers are right."""


@pytest.fixture
def suite(tmp_path) -> Path:
    """30 dev cases, two of them one cluster, and 10 held out."""
    rows = [json.loads(line) for line in SUITE.read_text().splitlines()]
    written = []
    for number in range(40):
        row = json.loads(json.dumps(rows[number % len(rows)]))
        row["id"] = f"case-{number:02}"
        row["input"]["message"] += f" (request {number:02})"
        row["split"] = "held_out" if number >= 30 else "dev"
        if number < 2:
            row["cluster"] = "twins"
        written.append(json.dumps(row))
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join(written) + "\n")
    return path


class Script:
    """Answers as well as ``SHARES`` says, and counts who was asked what."""

    def __init__(self, suite: Path) -> None:
        self._cases = load_suite(suite).cases
        self.asked: Counter[str] = Counter()
        self.ids: dict[str, set[str]] = {}
        self.fails: set[tuple[str, str]] = set()

    def __call__(self, request):
        case = next(c for c in self._cases if c.input.message in request.messages[-1].content)
        self.asked[request.model] += 1
        self.ids.setdefault(request.model, set()).add(case.id)
        if (request.model, case.id) in self.fails:
            raise ProviderError("llamacpp", "gone", kind="bad_request")
        if int(case.id.removeprefix("case-")) % 20 >= 20 * SHARES[request.model]:
            return "I think it is a question."
        intent = case.reference.intent
        return json.dumps({"intent": intent, "handler": "self", "asked": "x", "confidence": 80})


def run(store: Store, suite: Path, script: Script, **race_options) -> RaceOutcome:
    declared = sweep_from(
        {
            "name": "test",
            "suites": {"alignment": str(suite)},
            "targets": [{"provider": "llamacpp", "model": model} for model in SHARES],
            "race": race_options,
        },
        "test.yaml",
    )

    async def go() -> RaceOutcome:
        async with ProviderPool(lambda _: ScriptedProvider(script)) as pool:
            plan = await plan_sweep(declared, Path(), pool, store)
            return await run_race(plan, store, pool)

    return asyncio.run(go())


def test_only_survivors_are_asked_on_and_only_the_chosen_sees_what_was_held_out(store, suite):
    script = Script(suite)
    outcome = run(store, suite, script)
    (alignment,) = outcome.races
    assert alignment.chosen == "llamacpp:good"
    assert alignment.held_out == 10
    assert {"llamacpp:none", "llamacpp:poor"}.isdisjoint(alignment.confidence_set)
    assert script.asked["none"] <= 9, "eight clusters, one of which may be the twins"
    held_out = {f"case-{number}" for number in range(30, 40)}
    assert {m for m, ids in script.ids.items() if ids & held_out} == {"good"}
    assert script.ids["good"] >= held_out
    assert (outcome.failed, outcome.called) == (0, sum(script.asked.values()))
    assert outcome.measured == outcome.called < outcome.total == 4 * 30


def test_every_look_with_its_p_values_and_eliminations_is_stored(store, suite):
    outcome = run(store, suite, Script(suite))
    looks = store.looks(outcome.run_id)["alignment"]
    assert tuple(looks) == outcome.races[0].looks
    assert [look.n for look in looks] == list(look_sizes(29)[: len(looks)])
    first = {row["target"]: row for row in looks[0].standings}
    assert set(first) == {f"llamacpp:{model}" for model in SHARES}
    assert first["llamacpp:none"]["dropped_by"] == "bonferroni"
    assert first["llamacpp:none"]["p"] <= looks[0].alpha
    assert [look.chosen for look in looks] == [None] * (len(looks) - 1) + ["llamacpp:good"]


def test_a_second_execution_calls_nothing_and_takes_identical_looks(store, suite):
    first = run(store, suite, Script(suite))
    script = Script(suite)
    again = run(store, suite, script)
    assert not script.asked
    assert (again.called, again.measured) == (0, first.measured)
    assert again.races == first.races


def test_a_missing_answer_pauses_the_look_and_the_next_execution_goes_on(store, suite, tmp_path):
    with Store(str(tmp_path / "undisturbed.db"), create=True) as other:
        undisturbed = run(other, suite, Script(suite)).races
    broken = Script(suite)
    broken.fails = {("fair", f"case-{number:02}") for number in range(30)}
    paused = run(store, suite, broken)
    assert paused.races[0].chosen is None
    assert paused.races[0].missing == paused.failed > 0
    assert store.looks(paused.run_id) == {}
    healed = Script(suite)
    resumed = run(store, suite, healed)
    assert healed.asked["none"] == 0, "what was answered is not asked again"
    assert resumed.races == undisturbed


def test_a_plain_sweep_of_the_same_plan_leaves_nothing_to_ask(store, suite):
    raced = run(store, suite, Script(suite))
    script = Script(suite)
    declared = sweep_from(store.find_run(raced.run_id).sweep, "stored")

    async def go() -> None:
        async with ProviderPool(lambda _: ScriptedProvider(script)) as pool:
            plan = await plan_sweep(declared, Path(), pool, store)
            await run_plan(plan, store, pool)

    asyncio.run(go())
    assert sum(script.asked.values()) == 4 * 40 - raced.measured
    replayed = Script(suite)
    assert run(store, suite, replayed).races == raced.races, "later trials change no look"
    assert not replayed.asked


def test_of_ties_the_cheapest_then_the_fastest_is_chosen(store, suite):
    """Copies of one model: nothing tells them apart but their seconds."""
    right = Script(suite)
    names = ["slow", "fast"]

    def answer(request):
        text = right(dataclasses.replace(request, model="good"))
        seconds = 5.0 if request.model == "slow" else 1.0
        return dataclasses.replace(completion(text), timings=Timings(total_s=seconds))

    declared = sweep_from(
        {
            "name": "ties",
            "suites": {"alignment": str(suite)},
            "targets": [{"provider": "llamacpp", "model": name} for name in names],
        },
        "test.yaml",
    )

    async def go() -> RaceOutcome:
        async with ProviderPool(lambda _: ScriptedProvider(answer)) as pool:
            plan = await plan_sweep(declared, Path(), pool, store)
            return await run_race(plan, store, pool)

    (alignment,) = asyncio.run(go()).races
    assert alignment.confidence_set == ("llamacpp:slow", "llamacpp:fast")
    assert alignment.chosen == "llamacpp:fast"


def test_the_chosen_is_quoted_by_held_out_cases_and_the_others_by_those_they_raced_on(store, suite):
    outcome = run(store, suite, Script(suite))
    comparison = compare_run(store, outcome.run_id)
    rows = {row.target: row for row in comparison.evidence}
    assert (rows["llamacpp:good"].selection, rows["llamacpp:good"].cases) == ("held_out", 10)
    assert {rows[f"llamacpp:{m}"].selection for m in ("fair", "poor", "none")} == {"same cases"}
    assert rows["llamacpp:none"].cases in (8, 9)
    assert comparison.looks["alignment"] == list(outcome.races[0].looks)
    assert comparison.against_best == {}, "p-values that do not know of the looks"
    assert (comparison.finished, comparison.planned) == (outcome.measured, 160)


def test_after_a_race_the_table_says_who_may_be_the_best(store, suite):
    outcome = run(store, suite, Script(suite))
    shown = CliRunner().invoke(compare, [outcome.run_id, "--store", store.location])
    assert shown.exit_code == 0
    assert "chosen, held-out cases" in shown.output
    assert "dropped at 8" in shown.output
    assert "of 4 may be the best" in shown.output
    told = json.loads(
        CliRunner().invoke(compare, [outcome.run_id, "--store", store.location, "--json"]).output
    )
    assert len(told["looks"]) == len(outcome.races[0].looks)


def test_a_suite_with_nothing_but_held_out_cases_is_refused(store, suite, tmp_path):
    lines = suite.read_text().splitlines()[30:]
    suite.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="run the sweep without --race"):
        run(store, suite, Script(suite))


# The command.


@pytest.fixture
def sweep_file(suite, monkeypatch) -> Path:
    """A sweep of the scripted models, whose broken trials are ``Script.fails``."""
    script = Script(suite)
    monkeypatch.setattr(
        "soma_bench.sweeps.execute.ProviderPool",
        lambda: ProviderPool(lambda _: ScriptedProvider(script)),
    )
    targets = "".join(f"  - {{provider: llamacpp, model: {model}}}\n" for model in SHARES)
    path = suite.parent / "sweep.yaml"
    path.write_text(f"name: raced\nsuites: {{alignment: {suite}}}\ntargets:\n{targets}")
    return path


def test_the_command_says_whom_it_chose_and_what_it_saved(sweep_file):
    store = str(sweep_file.parent / "raced.db")
    told = CliRunner().invoke(sweep, [str(sweep_file), "--race", "--store", store])
    assert told.exit_code == 0, told.output
    assert "llamacpp:good" in told.output
    assert "without a race the same cases take 120" in told.output
    again = CliRunner().invoke(sweep, [str(sweep_file), "--race", "--store", store, "--json"])
    result = json.loads(again.stdout)
    assert (result["called"], result["races"][0]["chosen"]) == (0, "llamacpp:good")
    strict = CliRunner().invoke(
        sweep, [str(sweep_file), "--race", "--strict", "--store", store, "--json"]
    )
    rules = json.loads(strict.stdout)["races"][0]["looks"][0]["rules"]
    assert rules["strict"] is True


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--strict"], "give --race too"), (["--race", "--dry-run"], "depends on what it finds")],
)
def test_options_that_do_not_go_together_are_refused(sweep_file, options, words):
    told = CliRunner().invoke(sweep, [str(sweep_file), *options])
    assert told.exit_code == 2
    assert words in told.output
