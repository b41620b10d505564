"""Sweep files: what is wrong is named by its place, and nothing is written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soma_bench.errors import ConfigError
from soma_bench.sweeps.spec import Sweep, load_sweep, sweep_from

ROOT = Path(__file__).parent.parent
GOOD = """\
name: small
suites:
  alignment: alignment.jsonl
targets:
  - provider: llamacpp
    model: smollm2-135m-instruct
    quantizations: [q8_0]
    thinking: [off, 16]
"""


def load(tmp_path: Path, text: str | bytes) -> Sweep:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_sweep(path)


def test_off_is_a_word_and_not_false(tmp_path):
    (group,) = load(tmp_path, GOOD).targets
    assert [str(target) for target in group.targets()] == [
        "llamacpp:smollm2-135m-instruct-q8_0?thinking=off",
        "llamacpp:smollm2-135m-instruct-q8_0?thinking=16",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("name: small\n", "", "name: field required"),
        ("name: small", "name: Small Name", "name"),
        ("name: small", "name: [small]", "name"),
        ("suites:\n  alignment: alignment.jsonl\n", "", "suites: field required"),
        ("alignment: alignment.jsonl", "janitor: x.jsonl", "suites.janitor"),
        ("alignment: alignment.jsonl", "alignment: 3", "suites.alignment"),
        ("provider: llamacpp", "provider: lamacpp", "targets[0].provider"),
        ("model: smollm2-135m-instruct", "model: a b", "targets[0]: "),
        ("[off, 16]", "[off, maybe]", "targets[0].thinking"),
        ("[off, 16]", "[off, -3]", "targets[0].thinking"),
        ("[off, 16]", "[off, 1e9]", "targets[0].thinking"),
        ("[off, 16]", "[off, 999999999]", "targets[0].thinking"),
        ("[off, 16]", "[off, true]", "targets[0].thinking"),
        ("[off, 16]", "[off, off]", "declared twice"),
        ("[off, 16]", "[]", "targets[0].thinking"),
        ("[q8_0]", "q8_0", "targets[0].quantizations"),
        ("thinking:", "thinkng:", "targets[0].thinkng"),
        ("name: small", "name: small\nrepeats: 0", "repeats"),
        ("name: small", "name: small\nrepeats: 1.5", "repeats"),
        ("name: small", "name: small\nrepeats: 99999999999", "repeats"),
        ("name: small", "name: small\noptions: {temperature: .nan}", "options.temperature"),
        ("name: small", "name: small\noptions: {temperature: -1}", "options.temperature"),
        ("name: small", "name: small\noptions: {context_tokens: 10}", "options.context_tokens"),
        ("name: small", "name: small\nname: other", "duplicate key"),
        ("name: small", "name: small\ncases_per_agent: yes", "cases_per_agent"),
        ("name: small", "name: small\n\tx: 1", ":2: is not YAML"),
        ("    model:", "    agents: [radiologist]\n    model:", "no suite"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, old, new, place):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert place in str(caught.value)
    assert "sweep.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "name", "{", "- - -", "\x00", b"\xff\xfe", "&a [*a, *a]", "a: &x [1]\nb: *x",
        "!!python/object:os.system {}", "[" * 1000, "{a: " * 1000, "? : ?", "%YAML 9.9\n---\na: 1",
    ],
)  # fmt: skip
def test_what_is_no_sweep_is_refused_in_one_line(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value).strip()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutilated_sweep_file_never_gives_another_error(tmp_path_factory, data):
    raw = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=4))
        if not raw:
            break
    folder = tmp_path_factory.mktemp("mutilated")
    sweep = None
    with contextlib.suppress(ConfigError):
        sweep = load(folder, bytes(raw))
    assert sweep is None or sweep_from(sweep.model_dump(), "again") == sweep


def test_the_shipped_sweeps_are_sound():
    files = sorted((ROOT / "sweeps").glob("*.yaml"))
    assert files
    for file in files:
        sweep = load_sweep(file)
        for path in sweep.suites.values():
            assert (file.parent / path).is_file()
