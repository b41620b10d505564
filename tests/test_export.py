"""The exported forms: what Node, a shell and a reader of JSON make of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from routing_examples import profile_content, sealed_profile
from soma_bench.errors import ConfigError
from soma_bench.routing.export import export_profile
from soma_bench.routing.profile import Profile, load_profile, save_profile

ODD_REASON = "a \"b\" 'c' `${d}` \\n \u2028\u2029 </script> */ é 😀"
ODD_MODEL = "m'o`d\"e\\l${HOME}\u2603"


def profile(**changes: Any) -> Profile:
    return Profile.model_validate(profile_content(**changes))


def odd_profile() -> Profile:
    content = profile_content(
        trusted_hosts=["studio.lan"],
        provenance={"run_ids": ["*/ \u2028 /* @PROFILE@ */ null"]},
    )
    content["providers"]["ollama"]["base_url"] = "http://studio.lan:11434"
    content["models"]["ollama"]["fast"] = ODD_MODEL
    content["routing"]["alignment"]["reason"] = ODD_REASON
    return Profile.model_validate(content)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_loads_the_module_and_reads_every_route(tmp_path: Path) -> None:
    module, remote = tmp_path / "llm.mjs", tmp_path / "remote.mjs"
    module.write_text(export_profile(profile(), "js"), encoding="utf-8")
    remote.write_text(export_profile(odd_profile(), "js"), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "MODULE": str(module),
        "REMOTE_MODULE": str(remote),
        "REASON": ODD_REASON,
        "ODD_MODEL": ODD_MODEL,
    }
    script = Path(__file__).parent / "node" / "llm_config.test.mjs"
    found = subprocess.run(
        ["node", "--test", str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "fail 0\n" in found.stdout


@pytest.mark.parametrize("form", ["json", "js", "env"])
def test_same_profile_gives_same_bytes(form: Any) -> None:
    shuffled = profile_content()
    shuffled["routing"] = dict(reversed(shuffled["routing"].items()))
    shuffled["models"]["ollama"] = dict(reversed(shuffled["models"]["ollama"].items()))
    assert export_profile(profile(), form) == export_profile(Profile.model_validate(shuffled), form)


def test_json_export_is_the_saved_file(tmp_path: Path) -> None:
    saved = sealed_profile()
    save_profile(saved, tmp_path / "a.json")
    assert export_profile(saved, "json") == (tmp_path / "a.json").read_text(encoding="utf-8")
    (tmp_path / "b.json").write_text(export_profile(saved, "json"), encoding="utf-8")
    assert load_profile(tmp_path / "b.json") == saved


def test_header_names_digest_and_origin_on_comment_lines() -> None:
    text = export_profile(sealed_profile(), "js")
    digest = sealed_profile().provenance.digest
    assert digest is not None
    assert text.startswith("// SOMA routing profile hybrid, digest " + digest)
    assert '// Measured in runs "run-1"' in text


def test_js_is_ascii() -> None:
    assert export_profile(odd_profile(), "js").isascii()


def test_synthetic_profile_says_so_in_the_module() -> None:
    assert "FOR TESTS ONLY" in export_profile(profile(synthetic_evidence=True), "js")
    assert "FOR TESTS ONLY" not in export_profile(profile(), "js")


@pytest.mark.parametrize("form", ["json", "js", "env"])
def test_no_key_of_the_environment_is_exported(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-secret-42")
    assert "sk-secret-42" not in export_profile(profile(), form)


def env_of(text: str) -> dict[str, str]:
    """What a shell makes of the file."""
    script = f"set -a\n{text}\nenv -0"
    found = subprocess.run(
        ["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True
    )
    pairs = (entry.split("=", 1) for entry in found.stdout.split("\0") if "=" in entry)
    return {name: value for name, value in pairs if name not in ("PWD", "SHLVL", "_")}


def test_env_leaves_out_a_provider_that_would_change_a_route() -> None:
    found = env_of(export_profile(profile(), "env"))
    assert found == {
        "OLLAMA_BASE_URL": "http://localhost:11434",
        "OLLAMA_MODEL_FAST": "llama3.2:3b",
        "OLLAMA_MODEL_BALANCED": "qwen2.5:14b",
        "OLLAMA_MODEL_VISION": "llama3.2-vision:11b",
        "AUTO_FALLBACK": "true",
        "LATENCY_THRESHOLD_MS": "30000",
    }
    text = export_profile(profile(), "env")
    for name in ("LLM_PRIMARY_PROVIDER", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        assert f"\n# {name}=\n" in text


def test_env_names_the_provider_that_all_agents_share() -> None:
    content = profile_content()
    for agent, route in content["routing"].items():
        is_local = agent == "alignment"
        route.update(
            primary=f"ollama:{agent.replace('_', '-')}",
            fallback=None if is_local else "claude:claude-sonnet-5-5",
            privacy="local_only" if is_local else "open",
        )
    found = env_of(export_profile(Profile.model_validate(content), "env"))
    assert found["LLM_PRIMARY_PROVIDER"] == "ollama"
    assert found["LLM_FALLBACK_PROVIDER"] == "claude"
    content["routing"]["alignment"]["privacy"] = "open"
    found = env_of(export_profile(Profile.model_validate(content), "env"))
    assert "LLM_FALLBACK_PROVIDER" not in found


def test_env_value_with_shell_characters_stays_one_value() -> None:
    content = profile_content()
    content["models"]["ollama"]["fast"] = 'm$(id)`id`;&|"x'
    text = export_profile(Profile.model_validate(content), "env")
    assert env_of(text)["OLLAMA_MODEL_FAST"] == 'm$(id)`id`;&|"x'


@pytest.mark.parametrize("model", ["a'b", "a\\b", "a\u200bb"])
def test_env_refuses_what_readers_would_read_differently(model: str) -> None:
    content = profile_content()
    content["models"]["ollama"]["fast"] = model
    with pytest.raises(ConfigError, match=r"OLLAMA_MODEL_FAST: .* cannot be written safely"):
        export_profile(Profile.model_validate(content), "env")


def test_missing_alias_is_a_comment() -> None:
    content = profile_content()
    content["routing"]["radiologist"].update(primary="ollama:llava:7b")
    del content["models"]["ollama"]["vision"]
    text = export_profile(Profile.model_validate(content), "env")
    assert "# OLLAMA_MODEL_VISION=\n" in text
    assert json.loads(export_profile(Profile.model_validate(content), "json"))["name"] == "hybrid"
