"""The pipeline and the router: the profile's targets in their order, and no report without answers."""

from __future__ import annotations

import asyncio

import pytest

from asking import EXAMPLE, Agents, example, review, reviews
from routing_examples import profile_content
from scripted import ScriptedProvider, completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli.run import load_analysis
from soma_bench.errors import (
    AnswerError,
    ConfigError,
    PrivacyError,
    ProviderError,
    RefusalError,
)
from soma_bench.pipeline import Analysis, AnalysisResult, analyse
from soma_bench.pipeline.events import RewriteFailed, RewriteStarted
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, Request


def profile(**changes) -> Profile:
    route = {
        "primary": "llamacpp:a",
        "fallback": "llamacpp:b",
        "privacy": "local_only",
        "reason": "",
    }
    return Profile.model_validate(
        profile_content(
            providers={"llamacpp": {"enabled": True}},
            models={},
            routing={agent: dict(route) for agent in AGENTS},
            **changes,
        )
    )


def agent_of(request: Request) -> str:
    return next(n for n, a in AGENT_BY_NAME.items() if a.system == request.messages[0].content)


def example_answer(request: Request) -> str:
    """What the agent's own first worked example answers."""
    agent = AGENT_BY_NAME[agent_of(request)]
    return agent.write(agent.examples[0][1])


def run(provider: ScriptedProvider, chosen: Profile | None = None) -> AnalysisResult:
    async def go() -> AnalysisResult:
        used = chosen or profile()
        async with ProviderPool(lambda _: provider) as pool:
            return await analyse(
                load_analysis(EXAMPLE), Router(used, pool).ask, order=used.pipeline
            )

    return asyncio.run(go())


def test_the_five_agents_run_in_order_on_their_primaries():
    provider = ScriptedProvider(example_answer)
    result = run(provider)
    assert [stage.agent for stage in result.stages] == list(AGENTS)
    assert {request.model for request in provider.requests} == {"a"}
    assert result.report.sections
    assert result.stages[0].completion.timings.total_s > 0


def test_the_pathologist_reads_the_findings_in_sequence_and_the_regions_in_parallel():
    for order in ("sequential", "parallel"):
        provider = ScriptedProvider(example_answer)
        result = run(provider, profile(pipeline=order))
        assert {stage.agent for stage in result.stages} == set(AGENTS)
        asked = next(r for r in provider.requests if agent_of(r) == "pathologist")
        says_region = "11 mm" in asked.messages[-1].content
        assert says_region == (order == "parallel")


@pytest.mark.parametrize(
    "failure",
    [
        ProviderError("llamacpp", "gone", kind="not_running"),
        "this is not JSON",
        "",
        completion('{"intent":"QUE', finish="length"),
    ],
)
def test_a_primary_without_a_usable_answer_is_followed_by_the_fallback(failure):
    def script(request):
        if request.model == "a" and agent_of(request) == "alignment":
            if isinstance(failure, ProviderError):
                raise failure
            return failure
        return example_answer(request)

    result = run(ScriptedProvider(script))
    first = result.stages[0]
    assert (str(first.target), len(first.passed_over)) == ("llamacpp:b", 1)
    assert str(result.stages[1].target) == "llamacpp:a"


def test_a_refusal_is_an_answer_and_ends_the_analysis():
    provider = ScriptedProvider(lambda _: completion("I cannot help with that.", finish="refusal"))
    with pytest.raises(RefusalError):
        run(provider)
    assert [request.model for request in provider.requests] == ["a"]


def test_without_any_usable_answer_there_is_no_report_and_the_error_says_what_was_tried():
    def script(request):
        return "no JSON" if agent_of(request) == "radiologist" else example_answer(request)

    for order in ("sequential", "parallel"):
        with pytest.raises(AnswerError, match=r"radiologist.*llamacpp:a.*llamacpp:b"):
            run(ScriptedProvider(script), profile(pipeline=order))


def test_without_auto_fallback_the_primarys_failure_is_the_end():
    provider = ScriptedProvider(lambda _: "no JSON")
    with pytest.raises(AnswerError):
        run(provider, profile(auto_fallback=False))
    assert len(provider.requests) == 1


def test_a_local_only_request_never_reaches_a_provider_that_is_not_local():
    provider = ScriptedProvider(example_answer)
    provider.is_local = False
    with pytest.raises(PrivacyError):
        run(provider)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"message"', '"massage"', "m"),
        ('"diameter_mm": 11', '"diameter_mm": "11"', "imaging.regions[0].diameter_mm"),
        ('"sex": "female"', '"sex": "x"', "patient.sex"),
        ("}\n  ]", "}", "is not JSON"),
    ],
)
def test_a_wrong_analysis_file_is_named_by_its_field(tmp_path, old, new, place):
    text = EXAMPLE.read_text()
    path = tmp_path / "analysis.json"
    path.write_text(text.replace(old, new, 1) if old in text else text[: len(text) // 2])
    with pytest.raises(ConfigError, match=r"analysis\.json") as caught:
        load_analysis(path)
    assert place in str(caught.value)


# --- the review's way back ---------------------------------------------------------------------


def analysed(agents: Agents, analysis: Analysis | None = None, **settings) -> AnalysisResult:
    return asyncio.run(analyse(analysis or example(), agents, **settings))


def test_a_critical_issue_sends_the_report_back_once_with_the_draft_and_the_issues():
    agents = Agents({"qc_reviewer": reviews(review("critical", "minor"), review(verdict="pass"))})
    result = analysed(agents)
    assert agents.order == [*AGENTS, "report_writer", "qc_reviewer"]
    first, second = agents.of("report_writer")
    assert first.inputs.revision is None
    assert second.inputs.revision.draft == result.drafts[0].report.markdown
    for text in (result.drafts[0].report.markdown, "critical number 1", "minor number 2"):
        assert text in second.prompt
        assert text not in first.prompt
    assert [draft.review.verdict for draft in result.drafts] == ["fail", "pass"]
    assert result.review.verdict == "pass"
    assert [stage.round for stage in result.stages if stage.agent == "qc_reviewer"] == [1, 2]


def test_a_report_is_sent_back_once_and_not_again():
    agents = Agents({"qc_reviewer": reviews(review("critical"))})
    result = analysed(agents)
    assert len(agents.of("report_writer")) == 2
    assert [len(draft.review.critical) for draft in result.drafts] == [1, 1]


def test_a_pass_beside_a_critical_issue_counts_as_critical_and_stays_as_the_model_said():
    agents = Agents({"qc_reviewer": reviews(review("critical", verdict="pass"))})
    result = analysed(agents)
    assert len(result.drafts) == 2
    assert result.drafts[0].review.verdict == "pass"


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_report_without_critical_issues_is_not_sent_back(verdict):
    agents = Agents({"qc_reviewer": reviews(review("major", verdict=verdict))})
    result = analysed(agents)
    assert agents.order == list(AGENTS)
    assert len(result.drafts) == 1


@pytest.mark.parametrize("failing", ["report_writer", "qc_reviewer"])
def test_a_rewriting_that_fails_keeps_the_reviewed_draft_and_says_why(failing):
    agents = Agents({"qc_reviewer": reviews(review("critical"))})
    usual = agents.scripts.get(failing, lambda _: AGENT_BY_NAME[failing].examples[0][1])

    def second_fails(inputs):
        if len(agents.of(failing)) == 2:
            raise AnswerError("no target gave a usable answer")
        return usual(inputs)

    agents.scripts[failing] = second_fails
    events = []
    result = analysed(agents, on_event=events.append)
    assert len(result.drafts) == 1
    assert result.review.critical
    assert "usable answer" in result.rewrite_error
    assert [type(e) for e in events if isinstance(e, RewriteStarted | RewriteFailed)] == [
        RewriteStarted,
        RewriteFailed,
    ]
    # What was never reviewed is told apart, and paid for all the same.
    assert [stage.agent for stage in result.stages] == list(AGENTS)
    assert len(result.unused) == (failing == "qc_reviewer")
    assert result.cost_usd == pytest.approx(0.001 * (5 + len(result.unused)))


def test_a_prompt_without_a_revision_says_nothing_of_one():
    for agent in AGENT_BY_NAME.values():
        for inputs, _ in agent.examples:
            assert "earlier answer" not in agent.messages(inputs)[-1].content
            assert "revision" not in inputs.model_dump()


def test_what_an_earlier_stage_said_and_the_next_cannot_read_is_an_answer_error():
    text = AGENT_BY_NAME["report_writer"].examples[0][1]
    too_long = text.model_copy(update={"markdown": text.markdown + "x" * 9000})
    with pytest.raises(AnswerError, match="qc_reviewer: what it should read"):
        analysed(Agents({"report_writer": lambda _: too_long}))


# --- privacy along the graph -------------------------------------------------------------------


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_a_stage_inherits_the_strictest_privacy_of_what_it_reads(order):
    agents = Agents(levels={"radiologist": "local_only"})
    result = analysed(agents, order=order)
    levels = {asked.agent: asked.context.privacy for asked in agents.asked}
    assert levels["alignment"] is None
    assert levels["report_writer"] == levels["qc_reviewer"] == "local_only"
    # Side by side the Pathologist reads the segmentation and not the findings.
    assert levels["pathologist"] == ("local_only" if order == "sequential" else None)
    assert result.latest["qc_reviewer"].privacy == "local_only"


def test_alignment_is_read_by_nobody_and_makes_nobody_stricter():
    agents = Agents(levels={"alignment": "local_only"})
    analysed(agents)
    assert {a.context.privacy for a in agents.asked if a.agent != "alignment"} <= {None, "open"}


def test_the_review_makes_the_rewriting_as_strict_as_itself():
    agents = Agents(
        {"qc_reviewer": reviews(review("critical"))}, levels={"qc_reviewer": "local_only"}
    )
    analysed(agents)
    assert [asked.context.privacy for asked in agents.of("report_writer")] == ["open", "local_only"]


def test_the_cases_own_privacy_holds_for_every_stage():
    agents = Agents()
    analysed(agents, example().model_copy(update={"privacy": "deidentified"}))
    assert {asked.context.privacy for asked in agents.asked} == {"deidentified"}


def test_what_identifies_the_patient_goes_with_every_call_and_shows_nowhere():
    agents = Agents()
    patient = {"name": "Ann Example", "mrn": "MRN-774411", "date_of_birth": "1961-03-05"}
    content = {**example().model_dump(), "patient": patient}
    analysed(agents, Analysis.model_validate(content))
    for asked in agents.asked:
        assert asked.context.identifiers.values == set(patient.values())
        assert "774411" not in repr(asked.context)


def test_a_case_that_may_not_leave_is_never_sent_to_a_cloud_by_the_router():
    cloud = ScriptedProvider(example_answer)
    cloud.name, cloud.is_local = "claude", False
    local = ScriptedProvider(example_answer)
    route = {"primary": "claude:c", "fallback": "llamacpp:b", "privacy": "open", "reason": ""}
    hybrid = Profile.model_validate(
        profile_content(
            providers={"llamacpp": {"enabled": True}, "claude": {"enabled": True}},
            models={},
            routing={agent: dict(route) for agent in AGENTS},
        )
    )

    async def go() -> AnalysisResult:
        async with ProviderPool(lambda name: cloud if name == "claude" else local) as pool:
            case = example().model_copy(update={"privacy": "local_only"})
            return await analyse(case, Router(hybrid, pool).ask)

    result = asyncio.run(go())
    assert cloud.requests == []
    assert {str(stage.target) for stage in result.stages} == {"llamacpp:b"}
