"""The doctor: says what runs here, never hangs, never shows a key, and knows what to do next."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from model_files import write_model
from servers.base import Fault
from servers.ollama import Model, OllamaServer
from soma_bench import cli
from soma_bench.doctor import Report, examine, retirement_warnings
from soma_bench.errors import ConfigError
from soma_bench.providers import Backend
from soma_bench.providers import survey as survey_module
from soma_bench.providers.survey import survey
from soma_bench.types import AGENTS, Target

SUITES = Path(__file__).parent.parent / "data" / "suites"
CANARY = "sk-ant-canary-0123456789"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine with no models, no keys and no backends."""
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL",
                 "CLAUDE_MODEL", "OPENAI_MODEL"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_BASE_URL", NOBODY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ollama(monkeypatch):
    with OllamaServer(
        Model(name="qwen3:8b", size=5 << 30), Model(name="huge:400b", size=1 << 50)
    ) as server:
        monkeypatch.setenv("OLLAMA_BASE_URL", server.url)
        yield server


@pytest.fixture
def silent():
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def provider(report: Report, name: str):
    return next(one for one in report.providers if one.provider == name)


def sweep_file(folder: Path, *targets: dict) -> Path:
    shutil.copy(SUITES / "alignment.jsonl", folder)
    path = folder / "sweep.yaml"
    content = {
        "name": "s",
        "suites": {"alignment": "alignment.jsonl"},
        "targets": list(targets),
        "privacy": "open",
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def profile_file(folder: Path, primary: str, fallback: str | None = None, **changes) -> Path:
    route = {"primary": primary, "fallback": fallback, "privacy": "open", "reason": "by hand"}
    names = {text.partition(":")[0] for text in (primary, fallback) if text}
    content = {
        "schema_version": 1,
        "name": "by-hand",
        "providers": {name: {"enabled": True} for name in names},
        "routing": dict.fromkeys(AGENTS, route),
        **changes,
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(content))
    return path


def test_a_bare_machine_is_told_what_to_do():
    report = examine()
    assert report.runnable
    assert not any(one.usable for one in report.providers)
    assert all(one.reason for one in report.providers)
    steps = "\n".join(report.next_steps)
    for word in ("soma-bench models pull", "ollama serve", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        assert word in steps
    assert report.cores >= 1
    assert report.memory_bytes >= report.working_set_bytes > 0
    assert report.libraries["python"].startswith("3.")


def test_models_of_the_folder_and_of_ollama_are_listed_with_their_sizes(bare, ollama):
    folder = bare / "cache" / "models"
    folder.mkdir(parents=True)
    file = write_model(folder / "tiny-q4_1.gguf")
    report = examine()
    assert provider(report, "llamacpp").models == {"tiny-q4_1": file.stat().st_size}
    found = provider(report, "ollama")
    assert (found.usable, found.address, found.engine) == (True, ollama.url, "ollama 0.33.1")
    assert found.models == {"qwen3:8b": 5 << 30, "huge:400b": 1 << 50}
    assert report.too_large == ("ollama:huge:400b",)
    assert any("huge:400b" in step and "smaller" in step for step in report.next_steps)


def test_a_backend_that_hangs_is_given_up_in_time(monkeypatch, silent):
    monkeypatch.setenv("OLLAMA_BASE_URL", silent)
    examine()  # libraries are imported now: what is measured is the waiting
    began = time.monotonic()
    report = examine()
    assert time.monotonic() - began < survey_module.LIMIT_S + 1.0
    found = provider(report, "ollama")
    assert not found.usable
    assert found.reason


def test_all_backends_are_asked_at_once(silent):
    from pydantic import SecretStr

    key = SecretStr(CANARY)
    backends = {
        "ollama": Backend(base_url=silent),
        "claude": Backend(base_url=silent, api_key=key),
        "openai": Backend(base_url=silent, api_key=key),
    }
    survey(backends, limit_s=0.1)
    began = time.monotonic()
    reports = survey(backends, limit_s=0.6)
    assert 0.5 < time.monotonic() - began < 1.4
    assert [(one.provider, one.usable) for one in reports] == [
        ("ollama", False),
        ("claude", False),
        ("openai", False),
    ]


def test_a_name_server_that_never_answers_holds_nobody_up(monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: waiting.wait(30))
    began = time.monotonic()
    try:
        (report,) = survey({"ollama": Backend(base_url="http://ollama.invalid")}, limit_s=0.5)
        assert time.monotonic() - began < 2.0
        assert (report.usable, report.reason) == (False, "no answer within 0.5 s")
    finally:
        waiting.set()


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_key_is_ever_shown(monkeypatch, silent, form):
    for name in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{name}_API_KEY", CANARY)
        monkeypatch.setenv(f"{name}_BASE_URL", NOBODY if name == "OPENAI" else silent)
    result = CliRunner().invoke(cli.cli, ["doctor", *form])
    assert result.exit_code == 0, result.output
    assert CANARY not in result.output
    assert "canary" not in result.output
    if form:
        assert json.loads(result.stdout)["keys"] == {
            "ANTHROPIC_API_KEY": True,
            "OPENAI_API_KEY": True,
        }
    else:
        assert "ANTHROPIC_API_KEY set, OPENAI_API_KEY set" in result.stdout


def test_a_server_that_fails_is_a_finding(ollama):
    ollama.side_fault = Fault(status=500, body=b'{"error": "disk on fire"}')
    report = examine()
    assert not provider(report, "ollama").usable
    assert "disk on fire" in (provider(report, "ollama").reason or "")


def test_a_sweep_can_run_where_all_its_models_are(bare, ollama):
    path = sweep_file(bare, {"provider": "ollama", "model": "qwen3:8b", "thinking": ["off", 64]})
    report = examine(sweep_path=path)
    assert report.runnable
    assert [(one.target, one.runnable) for one in report.targets] == [("ollama:qwen3:8b", True)]
    result = CliRunner().invoke(cli.cli, ["doctor", "--sweep", str(path)])
    assert result.exit_code == 0
    assert "can run here" in result.output


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"provider": "ollama", "model": "qwen3:14b"}, "no model 'qwen3:14b'"),
        ({"provider": "ollama", "model": "huge:400b"}, "larger than the memory"),
        ({"provider": "ollama", "model": "qwen3"}, "no model 'qwen3'"),
        ({"provider": "llamacpp", "model": "x"}, "models pull"),
        ({"provider": "claude", "model": "claude-sonnet-5-5"}, "ANTHROPIC_API_KEY"),
    ],
)
def test_a_sweep_that_cannot_run_here_is_exit_code_1_with_its_reason(bare, ollama, target, reason):
    path = sweep_file(bare, {"provider": "ollama", "model": "qwen3:8b"}, target)
    report = examine(sweep_path=path)
    assert not report.runnable
    assert [one.runnable for one in report.targets] == [True, False]
    assert reason in (report.targets[1].reason or "")
    assert reason in "\n".join(report.next_steps)
    result = CliRunner().invoke(cli.cli, ["doctor", "--sweep", str(path), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["runnable"] is False


def test_a_profile_can_run_on_its_fallbacks(bare, ollama):
    ours, theirs = "ollama:qwen3:8b", "claude:claude-sonnet-5-5"
    assert examine(profile_file(bare, ours, theirs)).runnable
    report = examine(profile_file(bare, theirs, ours))
    assert report.runnable
    assert [(one.role, one.runnable) for one in report.targets[:2]] == [
        ("alignment primary", False),
        ("alignment fallback", True),
    ]
    assert not examine(profile_file(bare, theirs, ours, auto_fallback=False)).runnable


def test_ollamas_address_comes_from_the_environment_before_the_profile(bare, ollama, monkeypatch):
    path = profile_file(bare, "ollama:qwen3:8b")
    content = json.loads(path.read_text())
    content["providers"]["ollama"]["base_url"] = ollama.url
    path.write_text(json.dumps(content))
    monkeypatch.setenv("OLLAMA_BASE_URL", NOBODY)
    assert not examine(path).runnable
    monkeypatch.delenv("OLLAMA_BASE_URL")
    assert examine(path).runnable


def test_a_retired_model_is_spoken_of_with_its_successor(bare, monkeypatch):
    gone = "claude:claude-sonnet-4-20250514"
    (warning,) = retirement_warnings([Target.parse(gone), Target.parse("ollama:x")])
    assert "was retired on 2026-06-15" in warning
    assert "claude-sonnet-5-5" in warning
    path = profile_file(bare, gone, "claude:claude-sonnet-5-5")
    assert examine(path).warnings == (warning,)
    monkeypatch.setenv("CLAUDE_MODEL", "claude-sonnet-4-20250514")
    assert examine().warnings == (warning,)


def test_an_end_that_is_near_is_spoken_of_and_one_that_is_far_is_not():
    target = [Target.parse("openai:gpt-4o-mini")]
    (warning,) = retirement_warnings(target, date(2026, 12, 1))
    assert "will be retired on 2027-01-14" in warning
    assert retirement_warnings(target, date(2026, 6, 1)) == ()


def test_profile_and_sweep_commands_speak_of_a_retired_model_on_stderr(bare):
    profile = str(profile_file(bare, "claude:claude-sonnet-4-20250514"))
    targets = {"provider": "claude", "model": "claude-sonnet-4-20250514"}
    sweep = str(sweep_file(bare, targets))
    for command in (
        ("profile", "validate", profile, "--json"),
        ("profile", "show", profile, "--json"),
        ("sweep", sweep, "--dry-run", "--json"),
    ):
        result = CliRunner().invoke(cli.cli, command)
        assert result.exit_code == 0, result.output
        assert "was retired on 2026-06-15" in result.stderr
        assert json.loads(result.stdout), "stdout is for machines and stays clean"


def test_wrong_input_is_an_error_and_not_a_finding(bare, monkeypatch):
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        examine(bare / "nowhere.json")
    monkeypatch.setenv("OLLAMA_BASE_URL", "not a url")
    with pytest.raises(ConfigError, match="OLLAMA_BASE_URL"):
        examine()
