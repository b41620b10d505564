"""What is shipped: profiles that load, route legally and say that nobody measured them; sweeps that plan."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripted import ScriptedProvider
from soma_bench.cli.profile_lint import surroundings
from soma_bench.pipeline.graph import GRAPHS, addition_graph, revision_graph, rewrite_graph
from soma_bench.providers import claude_models, openai_models
from soma_bench.providers.base import Capabilities
from soma_bench.providers.lifecycle import retirement
from soma_bench.providers.ollama_models import known_not_to_exist, library_size
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.routing.context import strictest
from soma_bench.routing.lint import lint
from soma_bench.routing.profile import load_profile, resolve
from soma_bench.sweeps.runner import plan_sweep
from soma_bench.sweeps.spec import load_sweep
from soma_bench.types import AGENTS, Usage

ROOT = Path(__file__).parent.parent
PROFILES = ("soma-default", "local-only", "cloud-only")
TODAY = datetime(2026, 11, 25, tzinfo=UTC).date()


def shipped(name: str):
    return load_profile(ROOT / "routing_profiles" / f"{name}.json")


def targets(name: str):
    profile = shipped(name)
    routes = [resolve(profile, agent) for agent in AGENTS]
    return [target for route in routes for target in (route.primary, route.fallback) if target]


@pytest.mark.parametrize("name", PROFILES)
def test_a_shipped_profile_is_marked_as_unmeasured(name):
    profile = shipped(name)
    assert profile.name == name
    assert profile.evidence == ()
    assert all(route.reason.startswith("Unmeasured.") for route in profile.routing.values())


@pytest.mark.parametrize("name", PROFILES)
def test_every_model_of_a_shipped_profile_exists_and_is_not_retired(name):
    for target in targets(name):
        assert retirement(target, TODAY) is None, target
        if target.provider == "ollama":
            assert not known_not_to_exist(target.model), target
            assert library_size(target.model), target


@pytest.mark.parametrize("name", PROFILES)
def test_lint_finds_a_shipped_profile_unmeasured_and_nothing_else(name, monkeypatch):
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:9")
    profile = shipped(name)
    around = surroundings(profile, "m4max-36gb", least_cases=20, most_days=180)
    assert {finding.rule for finding in lint(profile, around)} == {"unmeasured"}
    assert len(lint(profile, around)) == len(targets(name))


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_stage_inherits_never_bars_a_primary(name):
    """On the analysis, the rewrite after a review, a doctor's revision and a further finding."""
    profile = shipped(name)
    level = {agent: profile.routing[agent].privacy for agent in AGENTS}
    graphs = [
        *GRAPHS.values(),
        rewrite_graph(),
        *(revision_graph("sequential", agent, "x") for agent in AGENTS if agent != "alignment"),
        addition_graph("sequential", "x"),
    ]
    for graph in graphs:
        effective = dict(level)
        for stage in graph:
            held = strictest([level[stage.agent], *(effective[read] for read in stage.reads)])
            effective[stage.agent] = held
            primary = resolve(profile, stage.agent).primary
            assert profile.is_local(primary) or held != "local_only", (name, stage.agent)


def test_the_local_profile_has_no_way_out():
    profile = shipped("local-only")
    assert {route.privacy for route in profile.routing.values()} == {"local_only"}
    assert all(profile.is_local(target) for target in targets("local-only"))
    assert not profile.providers.claude.enabled
    assert not profile.providers.openai.enabled


def test_the_rollback_sends_every_agent_to_claude():
    assert {target.provider for target in targets("cloud-only")} == {"claude"}


def test_the_default_keeps_the_plans_routes():
    routes = {agent: resolve(shipped("soma-default"), agent) for agent in AGENTS}
    local_first = {agent for agent in AGENTS if routes[agent].primary.provider == "ollama"}
    assert local_first == set(AGENTS) - {"report_writer"}
    assert routes["radiologist"].primary.model == "llama3.2-vision:11b"
    assert {agent for agent in AGENTS if routes[agent].fallback is None} == {
        "alignment",
        "qc_reviewer",
    }
    assert shipped("soma-default").latency_threshold_ms == 30_000


def test_each_correction_stands_in_the_readme_and_in_its_reason():
    readme = (ROOT / "routing_profiles" / "README.md").read_text()
    reasons = " ".join(route.reason for route in shipped("soma-default").routing.values())
    for wrong in ("Llama 3.2 70B", "Llama 3.2 8B", "claude-sonnet-4"):
        assert wrong in readme
        assert wrong in reasons
    assert "qwen2.5:32b" in reasons


class Stub(ScriptedProvider):
    """Identities from a script; what models can do from the vendors' tables."""

    def __init__(self, provider: str) -> None:
        super().__init__(lambda _: "x")
        self._provider = provider
        self.is_local = provider not in ("claude", "openai")

    async def capabilities(self, model: str) -> Capabilities:
        if self._provider == "claude":
            return claude_models.from_table(model).capabilities
        if self._provider == "openai":
            return openai_models.from_table(model).capabilities
        thinks = "qwen3" in model.lower()
        return Capabilities(
            vision="vision" in model,
            thinking_levels=("off",),
            thinking_budget=thinks,
            schema=True,
            context_tokens=8192,
            weights_bytes=1,
        )


@pytest.mark.parametrize("name", ["m4max", "ci"])
def test_a_shipped_sweep_makes_a_plan(name):
    """Identities come from a script; suites, prompts and keys are real."""
    sweep = load_sweep(ROOT / "sweeps" / f"{name}.yaml")

    async def go():
        async with ProviderPool(Stub) as pool:
            return await plan_sweep(sweep, ROOT / "sweeps", pool, None)

    plan = asyncio.run(go())
    assert {trial.agent for trial in plan.trials} == set(AGENTS)
    assert len({trial.key for trial in plan.trials}) == len(plan.trials)
    assert (name == "ci") == (len(plan.trials) <= 10)


def test_every_model_of_the_m4max_sweep_is_known_current_and_priced():
    sweep = load_sweep(ROOT / "sweeps" / "m4max.yaml")
    assert sweep.privacy == "open", "clouds are asked, and the suites hold no patient's data"
    prices = load_prices()
    for target in (target for group in sweep.targets for target in group.targets()):
        assert retirement(target, TODAY) is None, target
        if target.provider == "ollama":
            assert library_size(target.model), target
        if not target.is_local:
            cost = prices.cost(target, Usage(prompt_tokens=1000, output_tokens=100), None)
            assert cost.usd, f"{target}: {cost.source}"


def test_git_keeps_shipped_profiles_and_leaves_those_of_the_demo():
    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0

    assert ignored("routing_profiles/demo.json")
    assert not any(ignored(f"routing_profiles/{name}.json") for name in PROFILES)
