"""Derived quantizations: right, marked, the same bytes each time, and made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, quants

from model_files import small_disk, write_model
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.files import file_digest
from soma_bench.providers import embedded, quantize, workspace
from soma_bench.providers.embedded import DERIVABLE, PUBLISHED, find, sidecar_path
from soma_bench.providers.quantize import derive

LEVELS = {"Q8_0": 254, "Q5_1": 31, "Q5_0": 31, "Q4_0": 15}
"""Steps between the smallest and the largest weight of a block."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder whose published file is a tiny one."""
    path = write_model(tmp_path / f"{PUBLISHED}.gguf")
    for module in (embedded, quantize):
        monkeypatch.setattr(module, "PUBLISHED_DIGEST", file_digest(path))
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.gguf")}


def weights(path: Path) -> dict[str, np.ndarray]:
    return {
        tensor.name: quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
    }


@pytest.mark.parametrize("name", DERIVABLE)
def test_a_derived_file_holds_the_weights_as_well_as_its_quantization_can(folder, name):
    source = folder / f"{PUBLISHED}.gguf"
    (outcome,) = quantize.quantize([name], folder)
    kinds = {t.name: t.tensor_type.name for t in GGUFReader(outcome.model.path).tensors}
    assert kinds == {
        "token_embd.weight": "F16" if name == "F16" else "Q8_0",
        "blk.0.attn_norm.weight": "F32",
        "blk.0.attn_q.weight": name,
        "blk.0.ffn_up.weight": name,
    }
    before, after = weights(source), weights(outcome.model.path)
    assert np.array_equal(before["blk.0.attn_norm.weight"], after["blk.0.attn_norm.weight"])
    for tensor, kind in kinds.items():
        worst = np.abs(before[tensor] - after[tensor]).max()
        span = np.abs(before[tensor]).max() * 2
        assert worst <= (span / LEVELS[kind] if kind in LEVELS else span * 2**-11)
    assert not np.array_equal(before["blk.0.attn_q.weight"], after["blk.0.attn_q.weight"])


def test_a_derived_file_says_what_it_is_and_what_it_came_from(folder):
    (outcome,) = quantize.quantize(["q5_1"], folder)
    model = outcome.model
    assert model.name == "smollm2-135m-instruct-q5_1"
    assert (model.quantization, model.synthetic) == ("Q5_1", True)
    assert model.chat_template == "chatml-think"
    assert find(PUBLISHED, folder).digest in model.source
    assert model == find(model.name, folder)
    header = {key: field.contents() for key, field in GGUFReader(model.path).fields.items()}
    source = {
        key: field.contents()
        for key, field in GGUFReader(folder / f"{PUBLISHED}.gguf").fields.items()
    }
    changed = {
        key for key in header if not key.startswith("GGUF.") and header[key] != source.get(key)
    }
    assert changed == {"general.file_type", "soma_bench.source", "soma_bench.synthetic"}
    assert source.keys() <= header.keys()


def test_the_same_source_gives_the_same_bytes_alone_and_together(tmp_path):
    source = write_model(tmp_path / "source")
    together = {name: tmp_path / f"together-{name}" for name in DERIVABLE}
    derive(source, together, origin="here")
    for name in DERIVABLE:
        alone = tmp_path / f"alone-{name}"
        derive(source, {name: alone}, origin="here")
        assert alone.read_bytes() == together[name].read_bytes()


def test_large_tensors_are_the_same_in_pieces(tmp_path, monkeypatch):
    source = write_model(tmp_path / "source")
    derive(source, {"Q4_0": tmp_path / "whole"}, origin="here")
    monkeypatch.setattr(quantize, "_ROWS", 7)
    derive(source, {"Q4_0": tmp_path / "pieces"}, origin="here")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_what_is_derived_already_is_left_alone(folder):
    first = quantize.quantize(["Q8_0"], folder)
    before = first[0].model.path.stat().st_mtime_ns
    again = quantize.quantize(["q4_0", "Q8_0", "Q4_0"], folder)
    assert [(o.model.quantization, o.written) for o in again] == [("Q4_0", True), ("Q8_0", False)]
    assert again[1].model.path.stat().st_mtime_ns == before


def test_a_lost_or_lying_sidecar_derives_nothing_anew(folder):
    (first,) = quantize.quantize(["Q8_0"], folder)
    sidecar_path(first.model.path).write_text('{"synthetic": false}')
    (again,) = quantize.quantize(["Q8_0"], folder)
    assert not again.written
    assert again.model == first.model


def test_another_source_is_derived_from_anew(folder, monkeypatch):
    (first,) = quantize.quantize(["Q8_0"], folder)
    write_model(folder / f"{PUBLISHED}.gguf", seed=1)
    monkeypatch.setattr(quantize, "PUBLISHED_DIGEST", file_digest(folder / f"{PUBLISHED}.gguf"))
    (again,) = quantize.quantize(["Q8_0"], folder)
    assert again.written
    assert again.model.digest != first.model.digest


@pytest.mark.parametrize("name", ["Q4_K_M", "IQ2_XS", "Q8", "", "../Q8_0", "Q8_0\n"])
def test_a_quantization_that_cannot_be_made_is_refused_with_those_that_can(folder, name):
    with pytest.raises(ConfigError, match=r"K- or IQ.*F16, Q8_0, Q5_1, Q5_0, Q4_0") as failure:
        quantize.quantize(["Q8_0", name], folder)
    assert "\n" not in str(failure.value)
    assert names(folder) == {f"{PUBLISHED}.gguf"}


def test_the_published_quantization_is_pulled_not_derived(folder):
    with pytest.raises(ConfigError, match="soma-bench models pull"):
        quantize.quantize(["Q4_1"], folder)


def test_without_the_published_file_the_command_that_brings_it_is_named(tmp_path):
    with pytest.raises(ProviderError, match="Run: soma-bench models pull") as failure:
        quantize.quantize(["Q8_0"], tmp_path / "models")
    assert failure.value.kind == "model_missing"
    assert not (tmp_path / "models").exists()


def test_nothing_is_derived_from_bytes_that_are_not_the_published_ones(folder):
    write_model(folder / f"{PUBLISHED}.gguf", seed=2)
    with pytest.raises(ConfigError, match=r"not the published file.*models pull"):
        quantize.quantize(["Q8_0"], folder)
    assert names(folder) == {f"{PUBLISHED}.gguf"}


def test_a_file_that_somebody_else_put_there_is_not_overwritten(folder):
    path = write_model(folder / "smollm2-135m-instruct-q8_0.gguf", file_type="MOSTLY_Q8_0", seed=3)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="in the way"):
        quantize.quantize(["Q4_0", "Q8_0"], folder)
    assert path.read_bytes() == before
    assert names(folder) == {f"{PUBLISHED}.gguf", path.name}


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 96_000) as disk:
        path = write_model(disk / f"{PUBLISHED}.gguf")
        for module in (embedded, quantize):
            monkeypatch.setattr(module, "PUBLISHED_DIGEST", file_digest(path))
        for enough in (False, True):
            if enough:  # the check before the work is passed, and the disk fills up during it
                monkeypatch.setattr(workspace, "_require_space", lambda *_: None)
            with pytest.raises(
                ConfigError, match="disk is full" if enough else "are needed"
            ) as failure:
                quantize.quantize(DERIVABLE, disk)
            assert "\n" not in str(failure.value)
            assert {entry.name for entry in disk.iterdir()} <= {
                ".lock", f"{PUBLISHED}.gguf", f"{PUBLISHED}.json",
            }  # fmt: skip


def test_progress_ends_with_all_bytes_done(folder):
    steps = []
    quantize.quantize(["Q8_0"], folder, report=lambda *step: steps.append(step))
    assert steps[-1][1] == steps[-1][2] > 0
    assert [step[1] for step in steps] == sorted(step[1] for step in steps)


@pytest.mark.model
def test_a_real_derived_file_is_reproducible_loads_and_chats(embedded_models, tmp_path):
    import xllamacpp

    (outcome,) = quantize.quantize(["Q4_0"], embedded_models)
    anew = tmp_path / "anew"
    derive(find(PUBLISHED, embedded_models).path, {"Q4_0": anew}, origin=outcome.model.source)
    assert file_digest(anew) == outcome.model.digest

    params = xllamacpp.CommonParams()
    params.model.path = str(anew)
    params.n_ctx = 128
    params.n_parallel = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    answer = server.handle_chat_completions(
        {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 8,
            "temperature": 0,
        }
    )
    assert "Paris" in answer["choices"][0]["message"]["content"]


def command(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from soma_bench.cli import main; main()", "models", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "SOMA_BENCH_CACHE": str(cache)},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "no-such"), "soma-bench models pull"),
        (("quantize", "Q8_0"), "soma-bench models pull"),
        (("quantize", "Q4_K_M"), "possible: F16"),
        (("pull", "more"), "only ollama:NAME"),
    ],
)
def test_commands_refuse_with_one_line_and_exit_code_2(tmp_path, arguments, expected):
    done = command(*arguments, cache=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_list_and_show_speak_to_people_and_to_machines(tmp_path):
    folder = tmp_path / "models"
    assert "soma-bench models pull" in command("list", cache=tmp_path).stdout
    folder.mkdir()
    source = write_model(folder / "tiny.gguf")
    derive(source, {"Q8_0": folder / "tiny-q8_0.gguf"}, origin="derived from tiny")
    (folder / "broken.gguf").write_text("no model")

    listed = json.loads(command("list", "--json", cache=tmp_path).stdout)
    assert listed["folder"] == str(folder)
    assert [(m["name"], m["synthetic"]) for m in listed["models"]] == [
        ("tiny", False),
        ("tiny-q8_0", True),
    ]
    assert len(listed["problems"]) == 1
    table = command("list", cache=tmp_path)
    assert "synthetic" in table.stdout
    assert "broken.gguf" in table.stderr

    shown = json.loads(command("show", "tiny-q8_0", "--json", cache=tmp_path).stdout)
    assert shown == listed["models"][1]
    assert shown["digest"] == file_digest(folder / "tiny-q8_0.gguf")
    assert shown["digest"] in command("show", "tiny-q8_0", cache=tmp_path).stdout


@pytest.mark.model
def test_pull_and_quantize_say_what_was_there(embedded_models):
    cache = embedded_models.parent
    pulled = command("pull", cache=cache)
    assert pulled.returncode == 0
    assert pulled.stdout.startswith(f"already there: {PUBLISHED}")
    assert pulled.stderr == "", "no progress bar off a terminal"
    assert json.loads(command("pull", "--json", cache=cache).stdout)["written"] is False
    quantize.quantize(["Q4_0"], embedded_models)
    (outcome,) = json.loads(command("quantize", "Q4_0", "--json", cache=cache).stdout)
    assert outcome["written"] is False
    assert outcome["model"]["synthetic"] is True
