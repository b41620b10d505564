"""The pipeline's clockwork: what runs at the same time, on which machine, until when, and what is told."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import Agents, example, review, reviews
from routing_examples import profile_content, row
from servers.base import Fault, wait_until
from servers.ollama import Model, OllamaServer
from soma_bench.errors import AnswerError
from soma_bench.pipeline import AnalysisResult, Machines, analyse
from soma_bench.pipeline.deadline import budget_s, stage_weights
from soma_bench.pipeline.events import RewriteStarted, StageEnded, StageFailed, StageStarted
from soma_bench.pipeline.graph import GRAPHS
from soma_bench.pipeline.machines import THIS_MACHINE, first_machines, machine_of
from soma_bench.providers.ollama import Ollama
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, Target

IMAGES = {"radiologist": 0.2, "pathologist": 0.2}


def analysed(agents: Agents, **settings) -> AnalysisResult:
    async def go() -> AnalysisResult:
        return await analyse(example(), agents, **settings)

    return asyncio.run(go())


def shared(*agents: str, capacity: int = 1) -> Machines:
    """A machine that the stages of ``agents`` share."""
    return Machines(lambda agent, *_: "gpu" if agent in agents else None, capacity=capacity)


# --- at the same time --------------------------------------------------------------------------


def test_independent_stages_run_at_the_same_time():
    agents = Agents(seconds=IMAGES)
    begun = time.perf_counter()
    analysed(agents, order="parallel")
    assert time.perf_counter() - begun < 0.35
    asked = {question.agent: question.at for question in agents.asked}
    assert abs(asked["radiologist"] - asked["pathologist"]) < 0.1


def test_in_sequence_the_pathologist_waits_for_the_findings():
    agents = Agents(seconds=IMAGES)
    analysed(agents, order="sequential")
    asked = {question.agent: question.at for question in agents.asked}
    assert asked["pathologist"] - asked["radiologist"] >= 0.2


def test_stages_on_one_machine_wait_for_one_another_and_the_wait_is_not_their_time():
    result = analysed(
        Agents(seconds=IMAGES), order="parallel", machines=shared("radiologist", "pathologist")
    )
    first, second = sorted(
        (s for s in result.stages if s.agent in IMAGES), key=lambda stage: stage.queued_s
    )
    assert first.queued_s == 0
    assert second.queued_s == pytest.approx(0.2, abs=0.1)
    assert second.seconds == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    "machines",
    [shared("radiologist"), shared("radiologist", "pathologist", capacity=2)],
    ids=["one is remote", "room for two"],
)
def test_stages_do_not_wait_where_they_do_not_get_in_each_others_way(machines):
    result = analysed(Agents(seconds=IMAGES), order="parallel", machines=machines)
    assert {stage.queued_s for stage in result.stages} == {0}


def test_two_analyses_at_once_share_the_machine():
    async def go() -> float:
        machines = shared(*AGENTS)
        begun = time.perf_counter()
        await asyncio.gather(
            *(analyse(example(), Agents(seconds=IMAGES), machines=machines) for _ in range(2))
        )
        return time.perf_counter() - begun

    assert asyncio.run(go()) >= 0.8


def test_waiting_for_the_machine_does_not_count_toward_the_stages_own_deadline():
    agents = Agents(seconds=IMAGES)
    result = analysed(
        agents,
        order="parallel",
        deadline_s=10,
        machines=shared("radiologist", "pathologist"),
    )
    queued = next(stage for stage in result.stages if stage.queued_s > 0)
    asked = agents.of(queued.agent)[0]
    # A third of what was left when it got the machine, not of what was left when it began to wait.
    left = 10 - queued.queued_s
    assert asked.context.deadline - asked.at == pytest.approx(left / 3, abs=0.1)


def test_a_failed_stage_frees_the_machine():
    def fails(_):
        raise AnswerError("no")

    async def go() -> AnalysisResult:
        machines = shared(*AGENTS)
        with pytest.raises(AnswerError):
            await analyse(example(), Agents({"radiologist": fails}), machines=machines)
        return await analyse(example(), Agents(), machines=machines)

    assert len(asyncio.run(go()).stages) == 5


def test_a_target_runs_on_this_machine_on_a_trusted_host_or_elsewhere():
    hybrid = Profile.model_validate(profile_content())
    studio = Profile.model_validate(
        profile_content(
            providers={
                "ollama": {"enabled": True, "base_url": "http://studio.lan:11434"},
                "llamacpp": {"enabled": True},
                "claude": {"enabled": True},
            },
            trusted_hosts=["studio.lan"],
        )
    )
    assert machine_of(hybrid, Target.parse("ollama:qwen3:8b")) == THIS_MACHINE
    assert machine_of(studio, Target.parse("ollama:qwen3:8b")) == "studio.lan"
    assert machine_of(studio, Target.parse("llamacpp:x")) == THIS_MACHINE
    assert machine_of(studio, Target.parse("claude:x")) is None


# --- the deadline ------------------------------------------------------------------------------

WEIGHTS = st.fixed_dictionaries({agent: st.floats(0.001, 1000) for agent in AGENTS})


def test_a_stage_leaves_the_stages_after_it_their_share():
    stages = GRAPHS["sequential"]
    assert budget_s(100, "alignment", stages, {}) == pytest.approx(20)
    assert budget_s(100, "report_writer", stages, {}) == pytest.approx(50)
    assert budget_s(100, "qc_reviewer", stages, {}) == 100
    assert budget_s(90, "report_writer", stages, {"report_writer": 2.0}) == pytest.approx(60)


def test_side_by_side_only_the_slower_way_is_kept_in_reserve():
    weights = {"radiologist": 5.0, "pathologist": 1.0}
    assert budget_s(80, "alignment", GRAPHS["parallel"], weights) == pytest.approx(10)
    assert budget_s(90, "alignment", GRAPHS["sequential"], weights) == pytest.approx(10)


@given(weights=WEIGHTS, left=st.floats(0, 1e5), order=st.sampled_from(["sequential", "parallel"]))
def test_stages_that_use_all_their_time_end_at_the_deadline_and_not_later(weights, left, order):
    stages = GRAPHS[order]
    ends: dict[str, float] = {}
    for stage in stages:
        begun = max((ends[agent] for agent in stage.waits_for(stages)), default=0.0)
        budget = budget_s(left - begun, stage.agent, stages, weights)
        assert budget >= 0
        ends[stage.agent] = begun + budget
    assert max(ends.values()) == pytest.approx(left, rel=1e-6, abs=1e-6)


def test_nothing_is_left_after_the_deadline():
    assert budget_s(-3, "radiologist", GRAPHS["sequential"], {}) == 0


def test_weights_are_the_primaries_measured_times_and_the_mean_where_there_is_none():
    evidence = [
        row("radiologist", "ollama:llama3.2-vision:11b", latency_p50_s=8.0),
        row("radiologist", "ollama:qwen2.5:14b", latency_p50_s=99.0),
        row("report_writer", "claude:claude-sonnet-5-5", latency_p50_s=2.0, memory_bytes=None),
    ]
    measured = stage_weights(Profile.model_validate(profile_content(evidence=evidence)))
    assert (measured["radiologist"], measured["report_writer"]) == (8.0, 2.0)
    assert measured["alignment"] == measured["qc_reviewer"] == 5.0
    assert set(stage_weights(Profile.model_validate(profile_content())).values()) == {1.0}


def test_a_hang_costs_the_deadline_and_names_the_stage():
    agents = Agents(seconds={"pathologist": 60})
    begun = time.perf_counter()
    with pytest.raises(AnswerError, match=r"deadline passed before pathologist"):
        analysed(agents, deadline_s=0.3)
    assert time.perf_counter() - begun < 1
    assert agents.cancelled == ["pathologist"]


def test_a_rewriting_that_does_not_fit_the_deadline_keeps_the_draft():
    agents = Agents({"qc_reviewer": reviews(review("critical"))})
    usual = agents.scripts["qc_reviewer"]

    def slow_from_now(inputs):
        agents.seconds["report_writer"] = 60
        return usual(inputs)

    agents.scripts["qc_reviewer"] = slow_from_now
    result = analysed(agents, deadline_s=0.3)
    assert len(result.drafts) == 1
    assert "deadline" in result.rewrite_error


def test_without_a_deadline_no_call_has_one():
    agents = Agents()
    analysed(agents)
    assert {asked.context.deadline for asked in agents.asked} == {None}


# --- what is told ------------------------------------------------------------------------------


def test_every_stage_is_told_as_it_starts_and_ends():
    events = []
    analysed(Agents(), on_event=events.append)
    told = [(type(event), getattr(event, "agent", None) or event.result.agent) for event in events]
    assert told == [(kind, agent) for agent in AGENTS for kind in (StageStarted, StageEnded)]


def test_a_failure_is_told_by_its_kind_and_never_by_its_text():
    def fails(_):
        raise AnswerError("Ann Example has a nodule")

    events = []
    with pytest.raises(AnswerError):
        analysed(Agents({"radiologist": fails}), on_event=events.append)
    assert events[-1] == StageFailed(agent="radiologist", round=1, kind="AnswerError")


def test_a_rewriting_is_told_with_its_number_of_critical_issues():
    events = []
    agents = Agents({"qc_reviewer": reviews(review("critical", "critical"), review())})
    analysed(agents, on_event=events.append)
    assert RewriteStarted(critical=2) in events


def test_nothing_of_the_case_is_logged(caplog):
    caplog.set_level("DEBUG", logger="soma_bench")
    analysed(Agents({"qc_reviewer": reviews(review("critical"), review())}))
    assert "stage radiologist" in caplog.text
    for text in ("Synthetic", "nodule", "Screening", "critical number"):
        assert text not in caplog.text


# --- cancellation ------------------------------------------------------------------------------


def test_one_failed_stage_cancels_the_one_beside_it():
    def fails(_):
        raise AnswerError("radiologist: unreadable")

    agents = Agents({"radiologist": fails}, seconds={"pathologist": 60})
    with pytest.raises(AnswerError, match="unreadable"):
        analysed(agents, order="parallel")
    assert agents.cancelled == ["pathologist"]


def test_cancelling_the_analysis_cancels_every_running_stage():
    agents = Agents(seconds={"radiologist": 60, "pathologist": 60})

    async def go() -> None:
        task = asyncio.create_task(analyse(example(), agents, order="parallel"))
        await asyncio.sleep(0.1)
        assert len(agents.asked) == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert sorted(agents.cancelled) == ["pathologist", "radiologist"]


def test_cancelling_the_analysis_closes_the_connection_to_the_model():
    model = Model(name="qwen3:8b")
    route = {"primary": "ollama:qwen3:8b", "fallback": None, "privacy": "local_only", "reason": ""}
    with OllamaServer(model) as server:
        server.fault = Fault(then="hang")
        profile = Profile.model_validate(
            profile_content(
                providers={"ollama": {"enabled": True, "base_url": server.url}},
                models={},
                routing={agent: dict(route) for agent in AGENTS},
            )
        )

        async def go() -> None:
            async with ProviderPool(lambda _: Ollama(base_url=server.url)) as pool:
                router = Router(profile, pool)
                machines = Machines(first_machines(router, profile))
                task = asyncio.create_task(analyse(example(), router.ask, machines=machines))
                begun = await asyncio.to_thread(wait_until, lambda: bool(server.asked("/api/chat")))
                assert begun
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                chat = server.asked("/api/chat")[0]
                assert await asyncio.to_thread(wait_until, chat.left_early.is_set)

        asyncio.run(go())
        assert len(server.asked("/api/chat")) == 1
