"""Latency: percentiles that say how sure they are, loads that hide nothing, a harness that is measured too."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_examples import profile_content
from scripted import ScriptedProvider, completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli.latency import latency
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.latency import harness
from soma_bench.latency.baseline import compare_reports
from soma_bench.latency.door import Door
from soma_bench.latency.harness import harness_errors
from soma_bench.latency.load import Ask, Load, Run, run_load
from soma_bench.latency.loopback import MODEL, Schedule
from soma_bench.latency.measure import Job, measure
from soma_bench.latency.objectives import holds, parse_objectives
from soma_bench.latency.percentiles import percentiles, values_needed
from soma_bench.latency.report import (
    Report,
    TargetReport,
    load_report,
    report_schema,
    report_text,
    summarise,
)
from soma_bench.latency.samples import Sample
from soma_bench.latency.steady import steadiness
from soma_bench.latency.work import Work, made_up_work, production_concurrency
from soma_bench.providers.embedded import PUBLISHED
from soma_bench.routing.profile import Profile
from soma_bench.sweeps.machine import MachineLoad
from soma_bench.types import AGENTS, Chunk, Message, ModelIdentity, Options, Request, Target

QUICK = Schedule(first_token_s=0.02, gap_s=0.005, tokens=4)
IDLE = MachineLoad(other_cpu_share=0.0, busy=False, power_mode=None)
TARGET = Target("llamacpp", "scripted")
REQUEST = Request(model="scripted", messages=(Message("user", "Hello"),), max_tokens=5)


def sample(number: int = 0, started_s: float = 0.0, total_s: float = 1.0, **more: object) -> Sample:
    fields = {
        "late_s": 0.0,
        "first_token_s": 0.2,
        "first_answer_token_s": 0.4,
        "last_token_s": total_s,
        "prompt_tokens": 30,
        "cached_tokens": 0,
        "output_tokens": 5,
        "finish": "length",
        **more,
    }
    return Sample(number=number, started_s=started_s, total_s=total_s, **fields)


class Server:
    """Answers in the coroutine's own process, and counts who is there at once."""

    def __init__(self, work: Callable[[int], float] = lambda _: 0.01, *, one_by_one: bool = False):
        self.now = self.most = self.asked = self.closed = 0
        self._seconds = work
        self._turn = asyncio.Semaphore(1 if one_by_one else 1000)

    async def ask(self, number: int) -> AsyncGenerator[Chunk]:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with self._turn:
                await asyncio.sleep(self._seconds(number))
                yield Chunk(text="word")
            yield Chunk(completion=completion("word"))
        finally:
            self.now -= 1
            self.closed += 1


def run(server: Server | Ask, **load: object) -> Run:
    ask = server.ask if isinstance(server, Server) else server
    return asyncio.run(run_load(ask, Load(**load)))


# Measures


def test_the_measures_by_hand():
    """TTFT 0.2 s, last of 5 tokens at 1 s: ITL 0.8 / 4, TPOT 1 / 5."""
    one = sample()
    assert one.inter_token_s == pytest.approx(0.2)
    assert one.per_token_s == pytest.approx(0.2)
    assert sample(output_tokens=1).inter_token_s is None
    assert sample(output_tokens=None).per_token_s is None


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=500))
def test_a_percentile_lies_in_its_interval_or_is_not_told(values):
    for found in percentiles(values):
        if len(values) < values_needed(found.percent):
            assert found.value is None
        else:
            assert min(values) <= found.low <= found.value <= found.high <= max(values)


@pytest.mark.parametrize(("percent", "needed"), [(50, 6), (90, 36), (95, 72), (99, 368)])
def test_as_many_values_are_needed_as_the_binomial_says(percent, needed):
    assert values_needed(percent) == needed
    assert (percent / 100) ** needed <= 0.025 < (percent / 100) ** (needed - 1)


@pytest.mark.parametrize(("percent", "n"), [(50, 20), (90, 60), (99, 500)])
def test_intervals_of_percentiles_hold_the_truth(percent, n):
    """Exponential latencies, whose quantiles are known; at least 95 % up to simulation noise."""
    truth = -np.log(1 - percent / 100)
    rng = np.random.default_rng(1)
    found = [percentiles(rng.exponential(size=n), [percent])[0] for _ in range(1000)]
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.94


def test_noise_is_steady_and_a_drift_is_not():
    rng = np.random.default_rng(2)
    noise = [steadiness(rng.lognormal(0, 0.3, 60)).verdict for _ in range(100)]
    assert noise.count("steady") >= 97
    drift = [
        steadiness(rng.lognormal(0, 0.3, 60) * np.linspace(1, 2, 60)).verdict for _ in range(50)
    ]
    assert drift.count("drifting") >= 47


def test_few_requests_say_nothing_of_a_drift():
    assert steadiness([1.0, 2.0, 3.0]).verdict == "too few"
    assert steadiness([1.0] * 30).verdict == "steady"


# Objectives


def test_objectives_are_read_in_seconds():
    assert parse_objectives("ttft=2s, tpot=50ms,total=30s") == {
        "ttft": 2.0,
        "tpot": 0.05,
        "total": 30.0,
    }


@pytest.mark.parametrize("text", ["", "ttft", "ttft=2", "speed=2s", "ttft=-1s", "ttft=0s", "x"])
def test_what_is_no_objective_is_refused(text):
    with pytest.raises(ConfigError, match="--slo"):
        parse_objectives(text)


def test_an_objective_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        parse_objectives("ttft=1s,ttft=2s")


def test_a_failure_and_what_was_not_measured_hold_no_objective():
    assert holds(sample(), {"ttft": 0.2, "total": 1.0})
    assert not holds(sample(), {"ttft": 0.1})
    assert not holds(sample(failure="timeout"), {"ttft": 5.0})
    assert not holds(sample(output_tokens=None), {"tpot": 5.0})
    assert holds(sample(output_tokens=1), {"itl": 0.001})


# Loads


@pytest.mark.parametrize("clients", [1, 3])
def test_a_closed_loop_keeps_its_concurrency_and_measures_what_was_asked(clients):
    server = Server()
    found = run(server, concurrency=clients, requests=12, warm_up=4)
    assert len(found.measured) == 12
    assert server.most == clients
    assert server.now == 0
    assert server.closed == server.asked
    assert all(one.started_s >= found.began_s for one in found.measured)
    assert len(found.others) >= 4


def test_a_loads_last_requests_meet_the_same_concurrency_as_the_others():
    """A slow last request is not measured alone: the other clients go on until it has ended."""
    server = Server(lambda number: 0.3 if number == 3 else 0.01)
    found = run(server, concurrency=2, requests=4)
    assert len(found.measured) == 4
    assert server.asked > 8


def test_a_load_ends_with_its_duration():
    began = time.perf_counter()
    found = run(Server(), concurrency=2, duration_s=0.2)
    assert time.perf_counter() - began >= 0.2
    assert all(one.started_s - found.began_s < 0.2 for one in found.measured)
    assert len(found.measured) > 2


def test_an_open_loop_counts_the_wait_behind_a_slow_target():
    """60 requests a second on a server that takes 50 ms one by one: the backlog is in the figures."""
    found = run(Server(lambda _: 0.05, one_by_one=True), rate=60.0, requests=20, seed=3)
    assert len(found.measured) == 20
    totals = [one.total_s for one in found.measured]
    assert np.mean(totals[-5:]) > 4 * 0.05
    closed = run(Server(lambda _: 0.05, one_by_one=True), concurrency=1, requests=20)
    assert np.median(totals) > 2 * np.median([one.total_s for one in closed.measured])


def test_an_open_loops_arrivals_follow_its_seed():
    def starts(seed):
        found = run(Server(lambda _: 0.0), rate=500.0, requests=10, seed=seed)
        return [one.started_s for one in found.measured]

    assert starts(5) == starts(5) != starts(6)


def test_a_harness_that_is_busy_itself_spaces_requests_out():
    """10 ms of its own work a request allow 100 a second: 16 at once would each wait for the rest."""

    async def ask(number: int) -> AsyncGenerator[Chunk]:
        await asyncio.sleep(0.01)
        time.sleep(0.01)  # noqa: ASYNC251 - the harness's own work
        yield Chunk(completion=completion("word"))

    found = run(ask, concurrency=16, requests=16, warm_up=16)
    level = summarise(found, Load(concurrency=16, requests=16), IDLE, {})
    assert level.throughput.effective_concurrency < 10
    assert np.median([one.total_s for one in found.measured]) < 0.1


def failing(kind: str, after: int = 0) -> Ask:
    async def ask(number: int) -> AsyncGenerator[Chunk]:
        await asyncio.sleep(0)
        if number >= after:
            raise ProviderError("llamacpp", "it is over", kind=kind)
        yield Chunk(completion=completion("word"))

    return ask


def test_failures_are_counted_and_a_load_of_nothing_else_is_given_up():
    found = run(failing("overloaded", after=5), concurrency=1, requests=100)
    assert found.gave_up
    assert [one.failure for one in found.measured] == [None] * 5 + ["overloaded"] * 10


def test_a_failure_before_anything_is_measured_is_an_error():
    with pytest.raises(ProviderError, match="it is over"):
        run(failing("overloaded"), concurrency=2, requests=5, warm_up=2)


def test_a_missing_model_ends_a_load_at_once():
    with pytest.raises(ProviderError):
        run(failing("model_missing", after=3), concurrency=1, requests=5)


# Summaries


def test_throughput_and_goodput_by_hand():
    """Two clients, 1 s an answer, measured from 1 s to 4 s: 6 answers of 5 + 30 tokens in 3 s."""
    others = [sample(n, 0.5, 1.0) for n in range(1)]
    measured = [sample(n, 1.0 + n // 2, 1.0) for n in range(1, 6)]
    measured[4] = sample(5, 3.0, 1.0, first_token_s=0.9)
    found = Run(measured=measured, others=others, began_s=1.0, ended_s=4.0)
    level = summarise(found, Load(concurrency=2, requests=5), IDLE, {"ttft": 0.5})
    assert level.throughput.requests_per_s == pytest.approx(6 / 3)
    assert level.throughput.output_tokens_per_s == pytest.approx(6 * 5 / 3)
    assert level.throughput.tokens_per_s == pytest.approx(6 * 35 / 3)
    assert level.throughput.effective_concurrency == pytest.approx(2)
    assert level.goodput.share == pytest.approx(4 / 5)
    assert level.goodput.low < 0.8 < level.goodput.high


def test_a_model_that_was_loaded_again_is_no_warm_latency():
    found = Run(
        measured=[sample(n, n, 9.0 if n == 3 else 1.0, load_s=8.0 * (n == 3)) for n in range(10)],
        ended_s=18.0,
    )
    level = summarise(found, Load(concurrency=1, requests=10), IDLE, {})
    assert level.reloads == 1
    assert {measure.name: measure.n for measure in level.measures}["total"] == 9


# Work


def test_no_two_made_up_prompts_begin_alike():
    work = made_up_work(TARGET, prompt_tokens=100, output_tokens=8, options=Options())
    texts = [work.request(number).messages[0].content for number in range(50)]
    assert len({text[:8] for text in texts}) == 50
    assert texts[7] == work.request(7).messages[0].content
    assert 70 <= len(texts[0].split()) <= 100  # an instruction and the template come on top


@pytest.mark.parametrize(
    ("pipeline", "agent", "calls"),
    [
        ("sequential", "radiologist", 2),
        ("parallel", "radiologist", 4),
        ("parallel", "alignment", 2),
    ],
)
def test_the_concurrency_of_production_follows_the_pipeline(pipeline, agent, calls):
    content = profile_content(pipeline=pipeline)
    for name in ("radiologist", "pathologist"):
        content["routing"][name] = {
            "primary": "ollama:fast",
            "fallback": None,
            "privacy": "local_only",
            "reason": "",
        }
    profile = Profile.model_validate(content)
    assert production_concurrency(profile, agent, analyses=2) == calls


def test_made_up_prompts_do_not_leave_this_machine_unasked():
    provider = ScriptedProvider(lambda _: "no")
    with pytest.raises(ConfigError, match="leaves this machine"):
        Door(Target("claude", "scripted"), provider, "local_only")
    assert provider.requests == []


# The harness itself


def test_the_harness_is_measured_against_a_server_that_says_when_it_sent():
    (found,) = asyncio.run(harness_errors([3], QUICK))
    assert found.requests == 8
    ttft, itl, total = found.measures
    # A busy machine makes a server late, and never early; the harness hears after it was sent.
    assert ttft.true_p50_s >= QUICK.first_token_s
    assert total.true_p50_s >= QUICK.total_s
    assert ttft.error_p50_s > 0
    assert total.error_p50_s > 0
    assert itl.reported_p50_s > 0
    assert found.cpu_s_per_request > 0


def test_cold_starts_unload_first_and_stay_apart():
    provider = ScriptedProvider(lambda _: "word")
    door = Door(TARGET, provider, "local_only")
    job = Job(
        door=door,
        work=Work("one prompt", lambda _: REQUEST),
        loads=(Load(concurrency=1, requests=6),),
        cold_starts=2,
    )
    report = asyncio.run(measure([job], objectives={"ttft": 5.0}, schedule=QUICK))
    (target,) = report.targets
    assert len(target.cold) == 2
    assert provider.unloads == [frozenset()] * 3
    assert target.levels[0].measured == 6
    assert target.levels[0].goodput.share == 1.0
    assert [error.concurrency for error in report.harness] == [1]


def test_a_report_follows_its_schema_and_is_read_back(tmp_path):
    job = Job(
        door=Door(TARGET, ScriptedProvider(lambda _: "word"), "local_only"),
        work=Work("one prompt", lambda _: REQUEST),
        loads=(Load(concurrency=1, requests=2),),
        cold_starts=0,
    )
    report = asyncio.run(measure([job], objectives={}, schedule=QUICK))
    path = tmp_path / "latency.json"
    path.write_text(report_text(report))
    jsonschema.validate(json.loads(path.read_text()), report_schema())
    assert load_report(path) == report
    path.write_text('{"schema_version": 1}')
    with pytest.raises(ConfigError, match="is no latency report"):
        load_report(path)


def report_of(*totals: float, concurrency: int = 1) -> Report:
    """A report of one target whose answers took so long; made up."""
    found = Run(
        measured=[sample(n, float(n), total) for n, total in enumerate(totals)],
        ended_s=float(len(totals)),
    )
    load = Load(concurrency=concurrency, requests=len(totals))
    target = TargetReport(
        target=str(TARGET),
        work="one prompt",
        agent=None,
        identity=ModelIdentity(weights_digest=None, chat_template=None, engine="none"),
        cold=(),
        levels=(summarise(found, load, IDLE, {}),),
    )
    return Report(measured_at="2026-11-25", environment={}, harness=(), targets=(target,))


def test_slower_is_what_is_beyond_chance_and_beyond_what_matters():
    rng = np.random.default_rng(4)
    then = report_of(*rng.normal(1.0, 0.02, 40))

    def slower(*totals: float) -> list[str]:
        changes = compare_reports(then, report_of(*totals))
        return [change.measure for change in changes if change.slower]

    assert slower(*rng.normal(1.2, 0.02, 40)) == ["total"]
    assert slower(*rng.normal(1.0, 0.02, 40)) == []
    assert slower(*rng.normal(0.8, 0.02, 40)) == []
    assert slower(*rng.normal(1.02, 0.002, 40)) == [], "2 % do not matter, however sure they are"
    few = compare_reports(report_of(1.0, 1.1), report_of(1.3, 1.4))
    assert not any(change.slower for change in few), "two requests may be chance"


def test_reports_with_nothing_in_common_are_not_compared():
    with pytest.raises(ConfigError, match="--baseline"):
        compare_reports(report_of(1.0), report_of(1.0, concurrency=2))


# The command


@pytest.fixture
def quick_harness(monkeypatch):
    """The harness's own measurement on a short schedule."""
    fields = {"first_token_s": 0.02, "gap_s": 0.005, "tokens": 4}
    monkeypatch.setattr(harness, "Schedule", partial(Schedule, **fields))


def test_the_command_measures_a_compatible_server(quick_harness, monkeypatch, tmp_path):
    """Against the loopback server, as if it were somebody's; the key is in nothing that comes out."""
    key = "sk-proj-canary-latency"
    out = tmp_path / "latency.json"
    options = [f"openai:{MODEL}", "--concurrency", "1,2", "--requests", "6", "--privacy", "open"]

    async def measured() -> str:
        async with harness.loopback_server(QUICK) as url:
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            monkeypatch.setenv("OPENAI_API_KEY", key)
            ran = await asyncio.to_thread(
                CliRunner().invoke, latency, [*options, "--slo", "total=30s", "--out", str(out)]
            )
            assert ran.exit_code == 0, ran.output
            return ran.output

    shown = asyncio.run(measured())
    for words in ("harness's own error", "concurrency 2 (closed loop)", "too few, needs 368"):
        assert words in shown
    assert "goodput: 100.0%" in shown
    report = load_report(out)
    assert [level.load.concurrency for level in report.targets[0].levels] == [1, 2]
    assert [error.concurrency for error in report.harness] == [1, 2]
    first = report.targets[0].levels[0].measures[0].percentiles[0]
    assert first.value >= QUICK.first_token_s
    assert report.targets[0].cold == ()
    assert key not in shown + out.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name a TARGET"),
        (["ollama:x", "--profile", "p.json"], "leave the others out"),
        (["ollama:x", "--suite", "s.jsonl"], "give --agent"),
        (["ollama:x", "--rate", "2", "--concurrency", "2"], "give one"),
        (["ollama:x", "--concurrency", "0"], "each must be from 1"),
        (["ollama:x", "--concurrency", "1,two"], "no list of numbers"),
        (["ollama:x", "--slo", "fast"], "is no limit"),
        (["nobody:x"], "unknown provider"),
        (["openai:gpt-5.2"], "leaves this machine"),
        (["llamacpp:x", "--agent", "radiologist", "--suite", "none.jsonl"], "none.jsonl"),
    ],
)
def test_wrong_use_is_refused_in_words(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(latency, options)
    assert ran.exit_code != 0
    assert words in f"{ran.output}{ran.exception}"


def test_a_profile_is_measured_agent_by_agent_at_its_concurrency(monkeypatch, tmp_path):
    """What is to be measured, without measuring it: each agent's primary on the agent's cases."""
    content = profile_content(pipeline="parallel")
    content["providers"] = {"llamacpp": {"enabled": True}}
    content["routing"] = {
        agent: {
            "primary": f"llamacpp:{PUBLISHED}",
            "fallback": None,
            "privacy": "local_only",
            "reason": "",
        }
        for agent in AGENTS
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    planned: list[Job] = []

    async def plan(jobs, **_):
        planned.extend(jobs)
        return Report(measured_at="", environment={}, harness=(), targets=())

    monkeypatch.setattr("soma_bench.cli.latency.measure", plan)
    ran = CliRunner().invoke(latency, ["--profile", str(path), "--json", "--analyses", "2"])
    assert ran.exit_code == 0, ran.output
    assert [job.work.agent for job in planned] == list(AGENTS)
    clients = {job.work.agent: job.loads[0].concurrency for job in planned}
    assert clients == {**dict.fromkeys(AGENTS, 2), "radiologist": 4, "pathologist": 4}
    assert planned[0].work.request(0).schema == AGENT_BY_NAME["alignment"].schema
    assert {job.cold_starts for job in planned} == {1}


def test_help_has_an_example():
    assert "Example: soma-bench latency" in CliRunner().invoke(latency, ["--help"]).output


@pytest.mark.model
def test_the_embedded_model_is_measured_cold_and_warm(embedded_models: Path, quick_harness):
    options = ["--requests", "1", "--warm-up", "1", "--prompt-tokens", "1", "--output-tokens", "2"]
    ran = CliRunner().invoke(latency, [f"llamacpp:{PUBLISHED}", *options, "--json"])
    assert ran.exit_code == 0, ran.output
    (target,) = json.loads(ran.stdout)["targets"]
    (cold,) = target["cold"]
    (warm,) = target["levels"][0]["samples"]
    assert cold["load_s"] > 0
    assert cold["total_s"] > cold["load_s"]
    assert warm["load_s"] == 0
    assert warm["output_tokens"] == 2
    assert warm["cached_tokens"] == 0
