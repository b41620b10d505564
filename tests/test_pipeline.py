"""The pipeline and the router: the profile's targets in their order, and no report without answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from routing_examples import profile_content
from scripted import ScriptedProvider, completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli.run import load_analysis
from soma_bench.errors import AnswerError, ConfigError, PrivacyError, ProviderError
from soma_bench.pipeline import AnalysisResult, analyse
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, Request

EXAMPLE = Path(__file__).parent.parent / "data" / "examples" / "one_nodule.json"


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
        completion("I cannot help with that.", finish="refusal"),
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
