"""``soma-bench route``: says where a question goes and why, and asks no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from routing_examples import profile_content
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli.route import route
from soma_bench.errors import ConfigError, PrivacyError


@pytest.fixture
def profile(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.delenv("LLM_PRIMARY_PROVIDER", raising=False)
    monkeypatch.delenv("LLM_FALLBACK_PROVIDER", raising=False)
    monkeypatch.chdir(tmp_path)
    content = profile_content()
    content["routing"]["report_writer"]["order"] = "rules"
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    return path


def said(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(route, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def targets(answer: Any) -> list[str]:
    return [entry["target"] for entry in answer["targets"]]


def test_it_lists_the_targets_in_order_and_every_other_one_with_its_reason(profile):
    answer = said("pathologist", "--profile", str(profile))
    assert targets(answer) == ["ollama:qwen3:32b?thinking=256", "claude:claude-sonnet-5-5"]
    assert answer["privacy"] == "deidentified"
    assert all(entry["reason"] for entry in answer["targets"] + answer["left_out"])
    text = CliRunner().invoke(route, ["pathologist", "--profile", str(profile), "--explain"]).output
    for entry in answer["targets"] + answer["left_out"]:
        assert entry["target"] in text
        assert entry["reason"] in text


def test_complexity_need_and_privacy_count_where_the_route_leaves_the_order_to_the_rules(profile):
    def first(*arguments: str) -> str:
        found = said("report_writer", "--profile", str(profile), *arguments)
        return targets(found)[0].partition(":")[0]

    assert first("--complexity", "simple") == "ollama"
    assert first("--complexity", "complex") == "claude"
    assert first("--need", "batch") == "claude"
    assert first("--complexity", "complex", "--privacy", "deidentified") == "ollama"


def test_an_input_gives_the_complexity(profile, tmp_path):
    inputs = AGENT_BY_NAME["report_writer"].examples[0][0]
    path = tmp_path / "input.json"
    path.write_text(inputs.model_dump_json())
    asked = ("report_writer", "--profile", str(profile), "--input", str(path))
    assert said(*asked)["complexity"] == "simple"
    assert said(*asked, "--prior-studies", "9")["complexity"] == "complex"
    path.write_text('{"findings": []}')
    with pytest.raises(ConfigError, match=r"input\.json: is no input of report_writer"):
        said(*asked)
    result = CliRunner().invoke(route, [*asked, "--complexity", "simple"])
    assert result.exit_code == 2


def test_what_no_target_may_answer_is_a_no(profile):
    content = profile_content()
    content["routing"]["report_writer"]["fallback"] = None
    profile.write_text(json.dumps(content))
    answer = said("report_writer", "--profile", str(profile), "--privacy", "local_only", code=1)
    assert answer["targets"] == []
    assert answer["left_out"][0]["because"] == "privacy"


def test_the_rollback_switch_that_privacy_forbids_is_an_error(profile, monkeypatch):
    monkeypatch.setenv("LLM_PRIMARY_PROVIDER", "claude")
    found = targets(said("report_writer", "--profile", str(profile), "--complexity", "simple"))
    assert found == ["claude:claude-sonnet-5-5", "ollama:qwen2.5:14b"], "no rule turns it round"
    with pytest.raises(PrivacyError, match="LLM_PRIMARY_PROVIDER=claude: radiologist"):
        said("radiologist", "--profile", str(profile))
