"""``soma-bench models`` with an Ollama server: listing, pulling, setting up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from routing_examples import GIB
from servers.base import Fault, closed_port
from servers.ollama import Model, OllamaServer
from soma_bench.cli import main
from soma_bench.providers.ollama_models import library_size
from soma_bench.types import AGENTS

QWEN = Model(name="qwen3:8b", capabilities=("completion", "thinking"))
LLAMA = Model(name="llama3.2:3b", size=2_019_393_189, digest="cc" * 32, family="llama")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer(replace(QWEN)) as running:
        running.pullable = {LLAMA.name: replace(LLAMA)}
        yield running


@pytest.fixture
def cli(server: OllamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("OLLAMA_BASE_URL", server.url)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 36 * GIB}))

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["soma-bench", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ended(code, captured.out, captured.err)

    return run


def profile(path: Path, *models: str) -> Path:
    """A profile whose agents use the given Ollama models in turn."""
    routes = {
        agent: {
            "primary": f"ollama:{models[number % len(models)]}",
            "fallback": None,
            "privacy": "local_only",
            "reason": "a test",
        }
        for number, agent in enumerate(AGENTS)
    }
    content = {
        "schema_version": 1,
        "name": "test",
        "providers": {"ollama": {"enabled": True}},
        "models": {"ollama": {"fast": "llama3.2:3b"}},
        "routing": routes,
    }
    file = path / "profile.json"
    file.write_text(json.dumps(content))
    return file


def sweep(path: Path, *models: str) -> Path:
    lines = [f"  - {{provider: ollama, model: '{model}'}}" for model in models]
    file = path / "sweep.yaml"
    suites = "suites: {alignment: a.jsonl}"
    file.write_text("\n".join(["name: test", suites, "targets:", *lines, ""]))
    return file


# --- list and show -----------------------------------------------------------------------------


def test_list_shows_the_servers_models_beside_the_files(cli: Cli, server: OllamaServer) -> None:
    listed = cli("models", "list")
    assert listed.code == 0
    assert f"ollama at {server.url}" in listed.out
    assert "qwen3:8b" in listed.out
    assert "5.2 GB" in listed.out
    seen = cli("models", "list", "--json").json["ollama"]
    assert seen["models"][0]["digest"] == f"sha256:{QWEN.digest}"
    assert seen["reason"] is None


def test_list_works_without_a_server_and_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    listed = cli("models", "list")
    assert listed.code == 0
    assert "nothing answers at" in listed.err
    assert "no models in" in listed.out


def test_show_tells_what_a_model_can_do_without_loading_it(cli: Cli, server: OllamaServer) -> None:
    shown = cli("models", "show", "ollama:qwen3:8b", "--json").json
    assert shown["thinking"] == "off, a number of tokens"
    assert (shown["quantization"], shown["context_tokens"]) == ("Q4_K_M", 40_960)
    assert not server.loaded


def test_show_of_a_missing_model_names_the_nearest_and_the_remedy(cli: Cli) -> None:
    ended = cli("models", "show", "ollama:qwen3:32b")
    assert ended.code == 2
    assert "installed: qwen3:8b. Run: soma-bench models pull ollama:qwen3:32b" in ended.err


# --- pull --------------------------------------------------------------------------------------


def test_pull_has_the_server_fetch_a_model(cli: Cli, server: OllamaServer) -> None:
    ended = cli("models", "pull", "ollama:llama3.2:3b", "--json")
    assert ended.code == 0
    assert ended.json["written"] is True
    assert ended.json["model"]["size_bytes"] == LLAMA.size
    assert server.find("llama3.2:3b")


def test_pull_reports_the_bytes_as_they_come(
    server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from soma_bench.providers.ollama_models import Shelf

    steps: list[tuple[str, int, int]] = []

    async def pull() -> None:
        shelf = Shelf(server.url)
        await shelf.pull("llama3.2:3b", lambda *step: steps.append(step))
        await shelf.close()

    asyncio.run(pull())
    fractions = [done / total for _, done, total in steps if total]
    assert fractions[:5] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0], abs=1e-6)
    assert steps[-1][0] == "llama3.2:3b: success"


def test_pull_leaves_alone_what_is_there(cli: Cli, server: OllamaServer) -> None:
    ended = cli("models", "pull", "ollama:qwen3:8b")
    assert ended.code == 0
    assert ended.out.startswith("already there: qwen3:8b (5.2 GB)")
    assert not server.asked("/api/pull")


def test_pull_of_a_name_that_does_not_exist_says_which_do(cli: Cli) -> None:
    ended = cli("models", "pull", "ollama:llama3.2:8b")
    assert ended.code == 2
    assert "no model 'llama3.2:8b'" in ended.err
    assert "there are llama3.2:1b, llama3.2:3b" in ended.err
    assert "nearest: llama3.1:8b" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("then", ["reset", "end", "error", "garbage"])
def test_a_pull_that_breaks_off_fails_and_goes_on_at_the_next_try(
    cli: Cli, server: OllamaServer, then: Any
) -> None:
    server.fault = Fault(then=then, after=4)
    ended = cli("models", "pull", "ollama:llama3.2:3b")
    assert ended.code == 2
    assert "The same command goes on where it stopped" in ended.err
    server.fault = None
    assert cli("models", "pull", "ollama:llama3.2:3b").code == 0


def test_pull_refuses_a_model_in_a_cloud(cli: Cli, server: OllamaServer) -> None:
    ended = cli("models", "pull", "ollama:gpt-oss:120b-cloud")
    assert ended.code == 2
    assert "cloud" in ended.err
    assert not server.requests


def test_pull_takes_no_other_names(cli: Cli) -> None:
    ended = cli("models", "pull", "smollm2-135m-instruct-q8_0")
    assert ended.code == 2
    assert "models quantize" in ended.err


# --- setup -------------------------------------------------------------------------------------


def test_setup_shows_the_plan_and_fetches_nothing(
    cli: Cli, server: OllamaServer, tmp_path: Path
) -> None:
    ended = cli("models", "setup", str(profile(tmp_path, "qwen3:8b", "fast")))
    assert ended.code == 1
    assert "llama3.2:3b" in ended.out
    assert "library, 2026-11" in ended.out
    assert "7.2 GB, fit together into the 29.0 GB" in ended.out
    assert "--yes" in ended.out
    assert not server.asked("/api/pull")


def test_setup_with_yes_fetches_what_is_missing(
    cli: Cli, server: OllamaServer, tmp_path: Path
) -> None:
    file = profile(tmp_path, "qwen3:8b", "fast")
    ended = cli("models", "setup", str(file), "--yes", "--json")
    assert ended.code == 0
    states = {item["model"]: item["state"] for item in ended.json["models"]}
    assert states == {"qwen3:8b": "present", "llama3.2:3b": "present"}
    assert len(server.asked("/api/pull")) == 1
    assert cli("models", "setup", str(file)).code == 0


def test_setup_reads_a_sweep_too_and_knows_what_cannot_be(
    cli: Cli, server: OllamaServer, tmp_path: Path
) -> None:
    file = sweep(tmp_path, "qwen3:8b", "llama3.2:8b", "llama3.3:70b", "gpt-oss:120b-cloud", "own")
    ended = cli("models", "setup", str(file), "--yes", "--json")
    assert ended.code == 1
    models = {item["model"]: item for item in ended.json["models"]}
    assert models["llama3.2:8b"]["state"] == "unknown"
    assert "llama3.1:8b" in models["llama3.2:8b"]["note"]
    assert models["llama3.3:70b"]["fits"] is False
    assert models["gpt-oss:120b-cloud"]["state"] == "cloud"
    assert models["own:latest"]["size_bytes"] is None
    assert "no model 'own:latest'" in models["own:latest"]["note"]
    assert [json.loads(r.body)["model"] for r in server.asked("/api/pull")] == ["own:latest"]


def test_setup_of_a_file_without_ollama_is_done_at_once(
    cli: Cli, server: OllamaServer, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "name: test\nsuites: {alignment: a.jsonl}\ntargets:\n  - {provider: llamacpp, model: m}\n"
    )
    ended = cli("models", "setup", str(file))
    assert (ended.code, ended.out.strip()) == (0, f"{file} needs no Ollama model")
    assert not server.requests


def test_setup_refuses_a_file_that_is_neither(cli: Cli, tmp_path: Path) -> None:
    ended = cli("models", "setup", str(tmp_path / "notes.txt"))
    assert ended.code == 2
    assert "neither a profile (.json) nor a sweep (.yaml)" in ended.err


def test_every_size_in_the_table_has_its_date() -> None:
    known = library_size("qwen3:32b-q4_K_M")
    assert known is not None
    assert (known.size_bytes, known.as_of) == (20_000_000_000, "2026-11")
    assert library_size("qwen3:7b") is None
    assert library_size("nobody/knows:it") is None
