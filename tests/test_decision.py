"""The decision: explicit routes win, rules order what they leave open, and nothing is left unsaid."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from routing_examples import profile_content, row
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.radiologist import Finding
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.complexity import (
    Complexity,
    Measures,
    Scale,
    complexity,
    conflicts,
    measure,
    score,
)
from soma_bench.routing.context import CallContext, Need
from soma_bench.routing.decision import Candidate, Decision, Task, decide
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, PRIVACY_LEVELS, Target

LOCAL, CLOUD = Target("ollama", "qwen3:8b"), Target("claude", "claude-sonnet-5-5")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    """No variable and no ``.env`` file of whoever runs the tests."""
    for name in (
        "LLM_PRIMARY_PROVIDER",
        "LLM_FALLBACK_PROVIDER",
        "OLLAMA_BASE_URL",
        "OLLAMA_MODEL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def task(**changes: Any) -> Task:
    usual: dict[str, Any] = {
        "agent": "pathologist",
        "privacy": "open",
        "complexity": "moderate",
        "need": "interactive",
    }
    return Task(**{**usual, **changes})


def both(acceptable: bool | None = None) -> list[Candidate]:
    return [
        Candidate(target=LOCAL, is_local=True, place="primary", acceptable=acceptable),
        Candidate(target=CLOUD, is_local=False, place="fallback"),
    ]


def order_of(decision: Decision) -> list[Target]:
    return [choice.target for choice in decision.targets]


@pytest.mark.parametrize(
    ("changes", "acceptable", "first", "reason"),
    [
        ({"complexity": "simple"}, None, LOCAL, "the case is simple"),
        ({"complexity": "complex"}, None, CLOUD, "the case is complex"),
        ({"complexity": "complex", "privacy": "deidentified"}, None, LOCAL, "deidentified"),
        ({"privacy": "deidentified", "need": "batch"}, False, LOCAL, "deidentified"),
        ({"need": "interactive"}, None, LOCAL, "the need is interactive"),
        ({"need": "batch"}, None, CLOUD, "the need is batch"),
        ({"need": "batch"}, True, LOCAL, "measured and is acceptable"),
        ({"complexity": "simple"}, False, CLOUD, "below the floor"),
        ({"complexity": "complex"}, True, CLOUD, "the case is complex"),
    ],
)
def test_the_rules_order_what_the_route_leaves_to_them(changes, acceptable, first, reason):
    for candidates in (both(acceptable), both(acceptable)[::-1]):
        decision = decide(task(**changes), candidates, order="rules")
        assert order_of(decision)[0] == first
        assert len(decision.targets) == 2
        assert all(reason in choice.reason for choice in decision.targets)


@pytest.mark.parametrize("level", get_args(Complexity))
@pytest.mark.parametrize("need", get_args(Need))
def test_an_explicit_route_wins_over_every_rule(level, need):
    candidates = [
        Candidate(target=CLOUD, is_local=False, place="primary"),
        Candidate(target=LOCAL, is_local=True, place="fallback", acceptable=True),
    ]
    for acceptable in ("open", "deidentified"):
        asked = task(complexity=level, need=need, privacy=acceptable)
        decision = decide(asked, candidates, why="measured best")
        assert order_of(decision) == [CLOUD, LOCAL]
        assert decision.targets[0].reason == "primary of the route of pathologist: measured best"


@pytest.mark.parametrize(
    ("changes", "of_task", "because"),
    [
        ({"enabled": False}, {}, "disabled"),
        ({"place": None}, {}, "not_on_route"),
        ({"vision": False}, {"images": True}, "images"),
        ({"window_tokens": 2048}, {"tokens": 2049}, "length"),
        ({"resting": "failed 3 times in a row"}, {}, "resting"),
        ({"is_local": False}, {"privacy": "local_only"}, "privacy"),
    ],
)
def test_what_cannot_be_asked_is_left_out_with_its_reason(changes, of_task, because):
    usual = {"target": LOCAL, "is_local": True, "place": "primary"}
    decision = decide(task(**of_task), [Candidate(**{**usual, **changes})])
    assert [left.because for left in decision.left_out] == [because]
    assert decision.left_out[0].reason
    assert decision.targets == ()


def test_without_auto_fallback_the_first_target_alone_is_asked_even_where_it_rests():
    candidates = both()
    decision = decide(task(), candidates, auto_fallback=False)
    assert order_of(decision) == [LOCAL]
    assert [left.because for left in decision.left_out] == ["no_auto_fallback"]
    resting = [Candidate(target=LOCAL, is_local=True, place="primary", resting="r"), candidates[1]]
    assert decide(task(), resting, auto_fallback=False).targets == ()


targets = st.builds(
    Target,
    st.sampled_from(["ollama", "claude", "openai", "llamacpp", "mlx"]),
    st.sampled_from(["a", "b", "c"]),
)
candidates_ = st.lists(
    st.builds(
        Candidate,
        target=targets,
        is_local=st.booleans(),
        enabled=st.booleans(),
        place=st.sampled_from(["primary", "fallback", None]),
        acceptable=st.sampled_from([True, False, None]),
        vision=st.sampled_from([True, False, None]),
        window_tokens=st.sampled_from([None, 100, 5000]),
        resting=st.sampled_from([None, "rests"]),
    ),
    max_size=8,
    unique_by=lambda candidate: candidate.target,
)
tasks = st.builds(
    Task,
    agent=st.sampled_from(AGENTS),
    privacy=st.sampled_from(PRIVACY_LEVELS),
    complexity=st.sampled_from(get_args(Complexity)),
    need=st.sampled_from(get_args(Need)),
    images=st.booleans(),
    tokens=st.sampled_from([None, 50, 1000]),
)


@settings(max_examples=400, deadline=None)
@given(tasks, candidates_, st.sampled_from(["explicit", "rules"]), st.booleans())
def test_nothing_forbidden_is_asked_and_every_target_is_accounted_for(asked, given_, order, auto):
    decision = decide(asked, given_, order=order, auto_fallback=auto)
    by_target = {candidate.target: candidate for candidate in given_}
    accounted = order_of(decision) + [left.target for left in decision.left_out]
    assert sorted(accounted) == sorted(by_target)
    assert all(entry.reason for entry in (*decision.targets, *decision.left_out))
    for target in order_of(decision):
        candidate = by_target[target]
        assert candidate.is_local or asked.privacy != "local_only"
        assert candidate.enabled
        assert candidate.place is not None
        assert candidate.resting is None
    if order == "explicit":
        written = [c.target for c in given_ if c.target in order_of(decision)]
        assert order_of(decision) == written
    if not auto:
        assert len(decision.targets) <= 1


def finding(**changes: Any) -> Finding:
    usual: dict[str, Any] = {
        "id": "F1",
        "kind": "nodule",
        "laterality": "left",
        "location": "lower lobe",
        "size_mm": 8,
        "characteristics": ("solid",),
        "severity": "moderate",
        "confidence": 90,
    }
    return Finding(**{**usual, **changes})


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ({}, 0),
        ({"laterality": "right"}, 1),
        ({"id": "F2", "laterality": "right"}, 0),
        ({"id": "F2", "characteristics": ("ground-glass",)}, 1),
        ({"id": "F2", "characteristics": ("ground-glass",), "size_mm": 20}, 0),
        ({"id": "F2", "size_mm": 9}, 0),
    ],
)
def test_findings_conflict_where_they_say_of_one_lesion_what_cannot_both_be_true(other, count):
    assert conflicts([finding(), finding(**other)]) == count


def test_every_part_of_the_score_counts_and_a_profile_can_weigh_it():
    nothing = Measures(characters=0, findings=0, prior_studies=0, conflicts=0)
    assert (score(nothing, Scale()), complexity(nothing, Scale())) == (0, "simple")
    for part in ("characters", "findings", "prior_studies", "conflicts"):
        more = Measures(**{**dict.fromkeys(Measures.__slots__, 0), part: 10})
        assert score(more, Scale()) > 0
        scale = Scale(**{f"per_{_singular(part)}": 1000.0})
        assert complexity(more, scale) == "complex"
    with pytest.raises(ValidationError, match="moderate_from is above complex_from"):
        Scale(moderate_from=5)


def _singular(part: str) -> str:
    return {
        "characters": "1000_characters",
        "findings": "finding",
        "prior_studies": "prior_study",
        "conflicts": "conflict",
    }[part]


def test_the_worked_examples_are_simple_and_contradictions_make_a_case_complex():
    for agent in AGENT_BY_NAME.values():
        inputs = agent.examples[0][0]
        found = measure(inputs, len(agent.render(inputs)), prior_studies=0)
        assert complexity(found, Scale()) == "simple", agent.name
    inputs = AGENT_BY_NAME["pathologist"].examples[0][0]
    two = inputs.model_copy(update={"findings": (finding(), finding(laterality="right"))})
    assert complexity(measure(two, 300, prior_studies=0), Scale()) == "complex"


def decided(agent: str, changes: dict[str, Any] | None = None, **asked: Any) -> Decision:
    profile = Profile.model_validate(profile_content(**(changes or {})))
    context = CallContext(**{n: asked.pop(n) for n in ("privacy", "need") if n in asked})
    return Router(profile, ProviderPool()).decide(agent, context, **asked)


def by_rules(agent: str, **changes: Any) -> dict[str, Any]:
    content = profile_content()
    content["routing"][agent] |= {"order": "rules", **changes}
    return {"routing": content["routing"]}


def test_every_target_of_a_profile_is_listed_or_left_out():
    evidence = [row("radiologist", "ollama:elsewhere:1b")]
    decision = decided("radiologist", {"evidence": evidence})
    assert [str(t) for t in order_of(decision)] == [
        "ollama:llama3.2-vision:11b",
        "ollama:qwen2.5:14b",
    ]
    left = {str(entry.target): entry.because for entry in decision.left_out}
    assert left["claude:claude-sonnet-5-5"] == "privacy"
    assert left["ollama:llama3.2:3b"] == "not_on_route"
    assert left["ollama:qwen3:32b?thinking=256"] == "not_on_route"
    assert left["ollama:elsewhere:1b"] == "not_on_route"


def test_stricter_data_than_the_route_leave_the_cloud_out():
    decision = decided("report_writer", privacy="local_only")
    assert [str(t) for t in order_of(decision)] == ["ollama:qwen2.5:14b"]
    assert ("claude", "privacy") in {(e.target.provider, e.because) for e in decision.left_out}


def test_a_profile_can_leave_the_order_of_a_route_to_the_rules():
    changes = by_rules("report_writer")
    for level, first in (("simple", "ollama"), ("complex", "claude")):
        decision = decided("report_writer", changes, level=level)
        assert decision.targets[0].target.provider == first
    floor = {"quality_floors": {"report_writer": 0.6}}
    for quality, first in ((0.9, "ollama"), (0.3, "claude")):
        evidence = [row("report_writer", "ollama:qwen2.5:14b", quality=quality)]
        more = {**changes, "constraints": floor, "evidence": evidence}
        assert decided("report_writer", more).targets[0].target.provider == first


def test_a_case_gives_its_own_complexity():
    agent = AGENT_BY_NAME["report_writer"]
    inputs = agent.examples[0][0]
    changes = by_rules("report_writer")
    assert decided("report_writer", changes, inputs=inputs).task.complexity == "simple"
    torn = inputs.model_copy(update={"findings": (finding(), finding(laterality="right"))})
    decision = decided("report_writer", changes, inputs=torn)
    assert decision.task.complexity == "complex"
    assert decision.targets[0].target == CLOUD


def test_order_and_complexity_leave_no_mark_on_profiles_that_do_not_use_them():
    usual = Profile.model_validate(profile_content()).model_dump(mode="json")
    assert "complexity" not in usual
    assert "order" not in usual["routing"]["radiologist"]
    changed = Profile.model_validate(
        profile_content(**by_rules("radiologist"), complexity={"per_finding": 2.0})
    )
    again = Profile.model_validate_json(changed.model_dump_json())
    assert again == changed
    assert again.routing["radiologist"].order == "rules"


class TestEnvironment:
    """The environment before the profile, as the exported module has it."""

    @pytest.fixture(autouse=True)
    def _variables(self, monkeypatch):
        self.set = monkeypatch.setenv

    def test_the_rollback_switch_moves_every_agent_that_may_leave(self):
        self.set("LLM_PRIMARY_PROVIDER", "claude")
        for agent in ("pathologist", "report_writer", "qc_reviewer"):
            assert decided(agent).targets[0].target.provider == "claude"
        decision = decided("pathologist")
        assert decision.targets[0].reason.endswith("LLM_PRIMARY_PROVIDER=claude")
        assert len(decision.targets) == 1, "who is moved loses the fallback"

    def test_privacy_wins_over_the_rollback_switch_and_says_so(self):
        self.set("LLM_PRIMARY_PROVIDER", "claude")
        message = r"LLM_PRIMARY_PROVIDER=claude: radiologist is local_only"
        with pytest.raises(PrivacyError, match=message):
            decided("radiologist")
        with pytest.raises(PrivacyError, match="LLM_PRIMARY_PROVIDER=claude"):
            decided("report_writer", privacy="local_only")

    def test_a_moved_agent_is_not_turned_round_by_rules(self):
        self.set("LLM_PRIMARY_PROVIDER", "claude")
        self.set("LLM_FALLBACK_PROVIDER", "ollama")
        decision = decided("qc_reviewer", by_rules("qc_reviewer"), level="simple")
        assert [t.provider for t in order_of(decision)] == ["claude", "ollama"]

    def test_a_forced_fallback_never_leaves_where_the_agent_may_not(self):
        self.set("LLM_FALLBACK_PROVIDER", "openai")
        assert order_of(decided("qc_reviewer"))[1].provider == "openai"
        assert [t.provider for t in order_of(decided("radiologist"))] == ["ollama", "ollama"]
        assert [t.provider for t in order_of(decided("alignment"))] == ["ollama"]

    def test_models_behind_aliases_and_default_models_are_replaced(self):
        self.set("OLLAMA_MODEL_FAST", "llama3.1:8b")
        self.set("CLAUDE_MODEL", "claude-opus-5-5")
        assert str(order_of(decided("alignment"))[0]) == "ollama:llama3.1:8b"
        assert str(order_of(decided("report_writer"))[0]) == "claude:claude-opus-5-5"

    def test_auto_fallback_off_leaves_one_target(self):
        self.set("AUTO_FALLBACK", "false")
        assert len(decided("report_writer").targets) == 1

    def test_an_address_elsewhere_is_an_error_where_nothing_may_leave(self):
        self.set("OLLAMA_BASE_URL", "http://gpu.example:11434")
        with pytest.raises(PrivacyError, match=r"radiologist is local_only.*gpu\.example"):
            decided("radiologist")
        trusted = {"trusted_hosts": ["gpu.example"]}
        assert len(decided("radiologist", trusted).targets) == 2

    def test_a_provider_without_a_default_model_is_an_error_that_names_the_variable(self):
        self.set("LLM_PRIMARY_PROVIDER", "mlx")
        with pytest.raises(ConfigError, match="LLM_PRIMARY_PROVIDER=mlx: there is no default"):
            decided("radiologist")

    def test_an_argument_comes_before_the_variables(self):
        self.set("LLM_PRIMARY_PROVIDER", "claude")
        given_ = read_environment(None).model_copy(update={"primary_provider": None})
        profile = Profile.model_validate(profile_content())
        router = Router(profile, ProviderPool(), environment=given_)
        assert router.decide("radiologist").targets[0].target.provider == "ollama"


def test_health_matches_the_exact_name_of_a_model():
    from scripted import ScriptedProvider
    from soma_bench.routing.health import check

    provider = ScriptedProvider(lambda _: "")
    wanted = [Target("llamacpp", name) for name in ("scripted", "script", "scripted:latest")]

    async def go():
        async with ProviderPool(lambda _: provider) as pool:
            return await check(wanted, pool)

    found = asyncio.run(go())
    assert [health.reason is None for health in found] == [True, False, False]
    assert "there is no model 'script'" in (found[1].reason or "")
