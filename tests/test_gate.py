"""The gate: a known loss is found with the stated power, and no loss raises an alarm too often."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from routing_examples import profile_content, row
from scripted import ScriptedProvider
from soma_bench.cases.suite import load_suite
from soma_bench.cli.gate import gate as gate_command
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError
from soma_bench.gate import Margins, Measured, compare, gate_run, judge, one_sided
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, Completion, Timings, Usage

MARGINS = Margins()
TARGET = "ollama:m"


def pair(rng, agent, cases, *, drop=0.0, slower=0.0, binary=False):
    """A target before and after: graded or binary scores that share the cases' difficulty."""
    names = [f"c{place}" for place in range(cases)]
    if binary:
        before = (rng.random(cases) < 0.7).astype(float)
        now = np.where(rng.random(cases) < 0.2, rng.random(cases) < 0.7 - drop / 0.2, before)
    else:
        hard = rng.uniform(0.3, 0.7, cases)
        before = hard + rng.uniform(-0.15, 0.15, cases)
        now = hard - drop + rng.uniform(-0.15, 0.15, cases)
    length = rng.lognormal(1, 0.5, cases)
    times = [length * rng.lognormal(0, 0.15, cases) for _ in range(2)]
    made = []
    for scores, seconds in ((before, times[0]), (now, times[1] * (1 + slower))):
        made.append(
            Measured(
                agent=agent,
                target=TARGET,
                quality=dict(zip(names, map(float, scores), strict=True)),
                latency_s=dict(zip(names, map(float, seconds), strict=True)),
            )
        )
    return made


def gates(seed, count, cases, margins, **changes):
    """How many of ``count`` gates over five agents do not pass; ``changes`` hold for each agent."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(count):
        found = []
        for agent in AGENTS:
            then, now = pair(rng, agent, cases, **changes)
            found += compare((agent, TARGET), now, then, None, margins)
        alarms += not judge(found).passed
    return alarms / count


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("cases", [12, 24])
def test_no_change_raises_an_alarm_in_at_most_5_of_100_gates(cases, binary):
    """Margins of 0, where the rate is at its highest; 0.084 is 3.1 standard errors above 0.05."""
    nothing = Margins(quality=0.0, latency=0.0, cost=0.0)
    assert gates(1, 400 if cases == 12 else 120, cases, nothing, binary=binary) <= (
        0.084 if cases == 12 else 0.112
    )


def test_a_loss_of_exactly_the_margin_is_no_alarm():
    margins = Margins(quality=0.05, latency=0.10)
    assert gates(2, 300, 12, margins, drop=0.05, slower=0.10) <= 0.089


def test_a_small_loss_within_the_margin_hardly_ever_raises_one():
    assert gates(3, 150, 24, MARGINS, drop=0.01, slower=0.05) <= 0.01


def one_agent(rng, cases, agents=AGENTS, **changes):
    """The change of the first agent's figures, in a gate where the others keep theirs."""
    found = []
    for agent in agents:
        then, now = pair(rng, agent, cases, **(changes if agent == agents[0] else {}))
        found += compare((agent, TARGET), now, then, None, MARGINS)
    return judge(found)


@pytest.mark.parametrize(("figure", "place"), [("quality", 0), ("latency", 1)])
def test_a_loss_of_the_size_that_is_said_to_be_seen_is_found_in_8_of_10_gates(figure, place):
    """`detectable` is what the gate says of itself; a loss of just that size is put in."""
    rng = np.random.default_rng(4)
    told = [abs(one_agent(rng, 24).changes[place].detectable) for _ in range(60)]
    size = float(np.mean(told))
    change = {"drop": size} if figure == "quality" else {"slower": size}
    runs = 150
    found = sum(one_agent(rng, 24, **change).changes[place].verdict == "worse" for _ in range(runs))
    assert 0.69 < found / runs < 0.91, "0.8, and 3.3 standard errors either way"


def test_a_large_loss_is_always_found_and_named():
    rng = np.random.default_rng(5)
    gate = one_agent(rng, 24, drop=0.3, slower=1.0)
    worse = [(change.agent, change.figure) for change in gate.changes if change.verdict == "worse"]
    assert worse == [("alignment", "quality"), ("alignment", "latency")]
    quality = gate.changes[0]
    assert quality.low < -0.3 + 0.1
    assert quality.low <= quality.change <= quality.high
    assert quality.change == pytest.approx(-0.3, abs=0.08)
    assert gate.changes[1].change == pytest.approx(1.0, abs=0.25)


def test_cases_of_one_patient_are_not_so_many_cases():
    values = [0.1, 0.12, 0.11, 0.1, 0.13, 0.1, 0.12, 0.11]
    apart = one_sided(values, 0.0, [str(place) for place in range(8)])
    together = one_sided(values, 0.0, ["a", "a", "a", "a", "b", "b", "b", "b"])
    assert apart.p < 0.01
    assert together.p > 0.2
    assert one_sided(values, 0.0, ["a"] * 8).p == 1.0


def test_two_cases_that_both_fell_prove_nothing():
    """Without the sign flips Student's test would be certain: they fell by the same."""
    assert one_sided([0.5, 0.5], 0.0, ["a", "b"]).p == 0.25


def promised(quality=0.8, half=0.1, **figures):
    return row(
        "alignment",
        TARGET,
        quality=quality,
        quality_low=quality - half,
        quality_high=quality + half,
        latency_p50_s=2.0,
        latency_p95_s=3.0,
        **figures,
    )


def test_without_the_baselines_run_only_larger_changes_count_and_that_is_said():
    rng = np.random.default_rng(6)
    then, now = pair(rng, "alignment", 30, drop=0.1)
    scale = float(np.mean(list(then.quality.values())))
    paired = judge(compare(("alignment", TARGET), now, then, None, MARGINS))
    unpaired = judge(compare(("alignment", TARGET), now, None, promised(scale), MARGINS))
    assert paired.changes[0].verdict == "worse"
    assert unpaired.changes[0].verdict == "kept"
    assert unpaired.changes[0].how == "unpaired"
    assert "not in the store" in unpaired.changes[0].note
    assert abs(unpaired.changes[0].detectable) > 2 * abs(paired.changes[0].detectable)


def test_unpaired_false_alarms_stay_at_the_level():
    """The profile's interval comes from an equal run that is not in the store."""
    rng, alarms, runs = np.random.default_rng(7), 0, 250
    for _ in range(runs):
        found = []
        for agent in AGENTS:
            scores, seconds = rng.uniform(0.4, 1, (2, 30)), rng.lognormal(1, 0.4, (2, 30))
            half = 1.96 * scores[0].std(ddof=1) / math.sqrt(30)
            mean = float(scores[0].mean())
            evidence = row(
                agent,
                TARGET,
                n=30,
                cases=30,
                quality=mean,
                quality_low=mean - half,
                quality_high=min(1.0, mean + half),
                latency_p50_s=float(np.median(seconds[0])),
                latency_p95_s=float(np.percentile(seconds[0], 95)),
            )
            now = Measured(
                agent=agent,
                target=TARGET,
                quality={str(i): float(v) for i, v in enumerate(scores[1])},
                latency_s={str(i): float(v) for i, v in enumerate(seconds[1])},
            )
            found += compare((agent, TARGET), now, None, evidence, MARGINS)
        alarms += not judge(found).passed
    assert alarms / runs <= 0.09


def test_a_dearer_cloud_is_found_with_and_without_its_old_run():
    def of(price):
        return Measured(
            agent="report_writer",
            target="claude:x",
            quality={str(i): 0.8 for i in range(20)},
            cost_usd={str(i): price * (1 + i / 40) for i in range(20)},
        )

    for then, evidence in (
        (of(0.010), None),
        (None, row("report_writer", "claude:x", quality=0.8, cost_usd=0.0124)),
    ):
        gate = judge(compare(("report_writer", "claude:x"), of(0.02), then, evidence, MARGINS))
        (cost,) = [change for change in gate.changes if change.figure == "cost"]
        assert cost.verdict == "worse"
        same = judge(compare(("report_writer", "claude:x"), of(0.0102), then, evidence, MARGINS))
        assert same.passed


def test_what_cannot_be_compared_does_not_pass():
    gate = judge(compare(("alignment", TARGET), None, None, promised(), MARGINS))
    assert not gate.passed
    assert gate.changes[0].note == "the run has no trial of it"
    now = Measured(agent="alignment", target=TARGET, quality={"a": 1.0})
    assert not judge(compare(("alignment", TARGET), now, None, None, MARGINS)).passed


@pytest.mark.parametrize("wrong", [{"quality": -0.1}, {"quality": 1.0}, {"latency": math.nan}])
def test_a_margin_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match="is not a margin"):
        Margins(**wrong)


SUITE = Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl"
ASKED = load_suite(SUITE).cases


def measure(store: Store, name: str, right: int, *, seconds: float = 1.0) -> str:
    """Run a sweep in which the model answers the first so many cases rightly; the run's id."""

    def script(request):
        text = request.messages[-1].content
        found = [place for place, case in enumerate(ASKED) if case.input.message in text]
        place = max(found, key=lambda place: len(ASKED[place].input.message))
        case = ASKED[place]
        intent = case.reference.intent
        if place >= right:
            intent = "UNCLEAR" if intent != "UNCLEAR" else "QUESTION"
        text = f'{{"intent":"{intent}","handler":"self","asked":"x","confidence":80}}'
        return Completion(text=text, finish="stop", usage=Usage(), timings=Timings(total_s=seconds))

    sweep = sweep_from(
        {
            "name": name,
            "suites": {"alignment": str(SUITE)},
            "targets": [{"provider": "llamacpp", "model": "m"}],
        },
        "test.yaml",
    )

    async def go() -> str:
        async with ProviderPool(lambda _: ScriptedProvider(script)) as pool:
            plan = await plan_sweep(sweep, Path(), pool, store, fresh=True)
            await run_plan(plan, store, pool)
            return plan.run_id

    return asyncio.run(go())


@pytest.fixture
def measured_profile(tmp_path):
    """A store with a run of 24 right answers, and the profile that rests on it."""
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        run_id = measure(store, "before", 24)
        comparison = compare_run(store, run_id)
        routes = {
            agent: {
                "primary": "llamacpp:m",
                "fallback": None,
                "privacy": "local_only",
                "reason": "measured",
            }
            for agent in AGENTS
        }
        profile = Profile.model_validate(
            profile_content(
                name="before",
                providers={"llamacpp": {"enabled": True}},
                models={},
                routing=routes,
                evidence=list(comparison.evidence),
                provenance=comparison.provenance,
            )
        )
        save_profile(profile, tmp_path / "before.json")
        yield store, profile


def only_alignment(store, run, profile):
    return gate_run(store, run, profile, MARGINS, agents=("alignment",))


def test_the_same_again_passes_and_half_the_answers_lost_does_not(measured_profile):
    store, profile = measured_profile
    same = only_alignment(store, measure(store, "same", 24), profile)
    assert same.passed
    assert [change.how for change in same.changes] == ["paired", "paired"]
    assert same.changes[0].change == 0
    lost = only_alignment(store, measure(store, "lost", 12), profile)
    assert [change.verdict for change in lost.changes] == ["worse", "kept"]
    assert lost.changes[0].change == pytest.approx(-0.5)
    slow = only_alignment(store, measure(store, "slow", 24, seconds=1.5), profile)
    assert [change.verdict for change in slow.changes] == ["kept", "worse"]
    assert slow.changes[1].change == pytest.approx(0.5)


def test_a_baseline_whose_run_is_gone_is_compared_unpaired(measured_profile, tmp_path):
    _, profile = measured_profile
    with Store(str(tmp_path / "other.db"), create=True) as store:
        gate = only_alignment(store, measure(store, "lost", 8), profile)
    assert gate.changes[0].how == "unpaired"
    assert gate.changes[0].verdict == "worse"


def test_a_run_of_other_targets_is_refused(measured_profile):
    store, profile = measured_profile
    run = measure(store, "same", 24)
    with pytest.raises(ConfigError, match="no trial of any primary"):
        gate_run(store, run, profile, MARGINS, agents=("pathologist",))


def test_the_command_ends_with_1_and_shows_what_moved(measured_profile, tmp_path):
    store, _ = measured_profile
    measure(store, "lost", 12)
    command = ["lost", "--baseline", str(tmp_path / "before.json"), "--agent", "alignment"]
    command += ["--store", str(tmp_path / "runs.db")]
    done = CliRunner().invoke(gate_command, command)
    assert done.exit_code == 1
    assert "-0.500" in done.stdout
    assert "not passed: 1 worse, 0 not compared" in done.stdout
    fine = CliRunner().invoke(gate_command, ["before", *command[1:], "--json"])
    assert fine.exit_code == 0
    assert '"passed": true' in fine.stdout
    all_agents = CliRunner().invoke(gate_command, ["before", *command[1:3], *command[5:]])
    assert all_agents.exit_code == 1, "four agents were not measured"
