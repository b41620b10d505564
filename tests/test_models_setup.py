"""``soma-bench models``: setting up for a profile by its option, and models in MLX's form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routers import profile
from soma_bench.cli import cli
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import mlx_models
from soma_bench.routing.profile import save_profile


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def models(*arguments: str) -> int:
    return int(cli(["models", *arguments], standalone_mode=False) or 0)


def mlx_model(name: str) -> Path:
    folder = mlx_models.mlx_dir() / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"quantization": {"bits": 4}}))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    return folder


@pytest.mark.parametrize("arguments", [("p.json",), ("--profile", "p.json")])
def test_setup_takes_a_profile_by_name_or_by_option(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    save_profile(profile("llamacpp:a", None), Path("p.json"))
    assert models("setup", *arguments) == 0
    assert "p.json needs no Ollama model" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("p.json", "--profile", "p.json")])
def test_setup_takes_one_file(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="name one file"):
        models("setup", *arguments)


def test_setup_refuses_a_sweep_as_a_profile() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.yaml: is no profile"):
        models("setup", "--profile", "sweep.yaml")


def test_an_mlx_model_that_is_there_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    folder = mlx_model("organisation/tiny-4bit")
    assert models("pull", "mlx:organisation/tiny-4bit", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] is False
    assert told["model"]["folder"] == str(folder)
    assert models("show", "mlx:organisation/tiny-4bit") == 0
    assert "4bit" in capsys.readouterr().out


def test_an_mlx_model_is_asked_of_the_hub_under_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def pull(name: str, report: object) -> mlx_models.MlxModel:
        asked.append(name)
        mlx_model(name)
        return mlx_models.find(name)

    monkeypatch.setattr(mlx_models, "pull", pull)
    assert models("pull", "mlx:mlx-community/tiny") == 0
    assert asked == ["mlx-community/tiny"]
    assert "fetched: mlx-community/tiny" in capsys.readouterr().out


def test_an_unknown_mlx_model_names_the_command_that_fetches_it() -> None:
    with pytest.raises(ProviderError, match="soma-bench models pull mlx:none/such"):
        models("show", "mlx:none/such")
