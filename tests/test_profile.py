"""Profiles: what is refused, what survives writing and reading, and what two of them differ in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from routing_examples import GIB, profile_content, row, sealed_profile
from soma_bench import cli
from soma_bench.errors import ConfigError
from soma_bench.providers.places import is_loopback
from soma_bench.routing.difference import diff
from soma_bench.routing.profile import (
    Profile,
    load_profile,
    profile_digest,
    profile_text,
    resolve,
    save_profile,
)
from soma_bench.types import AGENTS, Target

Change = Callable[[dict[str, Any]], object]


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "p.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert message.isprintable(), message
    return message.removeprefix(f"{path}:").strip()


def test_hand_written_profile_loads_and_resolves_its_aliases(tmp_path: Path) -> None:
    loaded = load_profile(written(tmp_path, profile_content()))
    assert tuple(loaded.routing) == AGENTS
    route = resolve(loaded, "radiologist")
    assert route.primary == Target("ollama", "llama3.2-vision:11b")
    assert route.fallback == Target("ollama", "qwen2.5:14b")
    assert resolve(loaded, "pathologist").primary.thinking == 256
    assert resolve(loaded, "alignment").fallback is None
    assert loaded.provenance.digest is None


def test_alias_keeps_the_thinking_it_is_called_with() -> None:
    loaded = Profile.model_validate(profile_content())
    assert str(loaded.target("ollama:fast?thinking=off")) == "ollama:llama3.2:3b?thinking=off"


def test_saving_and_loading_gives_the_same_profile_and_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.json"
    original = sealed_profile()
    assert save_profile(original, path)
    assert not save_profile(load_profile(path), path)
    assert load_profile(path) == original
    assert original.provenance.digest == profile_digest(original)


def test_reformatting_a_file_changes_nothing(tmp_path: Path) -> None:
    content = json.loads(profile_text(sealed_profile()))
    text = json.dumps(content, sort_keys=True).replace(": 30000", ":\n  30000 ")
    assert load_profile(written(tmp_path, text)) == sealed_profile()


def put(*path: str | int, value: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


EVIDENCE = row("alignment", "ollama:llama3.2:3b").model_dump(mode="json")
SEAL = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (drop("name"), "name: field required"),
        (drop("schema_version"), "schema_version: field required"),
        (drop("routing"), "routing: field required"),
        (drop("providers"), "providers: field required"),
        (drop("routing", "alignment"), "routing: no route for alignment"),
        (drop("routing", "alignment", "fallback"), "routing.alignment.fallback: field required"),
        (drop("routing", "alignment", "privacy"), "routing.alignment.privacy: field required"),
        (put("schema_version", value=2), "schema_version: 2 is not known"),
        (put("schema_version", value=1.0), "schema_version: "),
        (put("schema_version", value=True), "schema_version: "),
        (put("extra", value=1), "extra: extra inputs"),
        (put("line\nbreak \u2028", value=1), "line\\nbreak \\u2028: extra inputs"),
        (put("x" * 5000, value=1), "xxx"),
        (put("\ud800", value=1), "a valid string"),
        (put("routing", "alignment", "reason", value="\ud800"), "routing.alignment.reason: "),
        (put("routing", "alignment", "reason", value="a\nb"), "routing.alignment.reason: "),
        (put("routing", "alignment", "reason", value="x" * 501), "routing.alignment.reason: "),
        (put("routing", "surgeon", value={}), "routing.surgeon"),
        (put("routing", "alignment", "primry", value="x"), "routing.alignment.primry: extra"),
        (put("routing", "alignment", value=[]), "routing.alignment: "),
        (put("routing", value=[]), "routing: "),
        (put("name", value="../up"), "name: "),
        (put("name", value="a\n"), "name: "),
        (put("name", value=""), "name: "),
        (put("name", value=7), "name: "),
        (put("auto_fallback", value="true"), "auto_fallback: "),
        (put("auto_fallback", value=1), "auto_fallback: "),
        (put("latency_threshold_ms", value=0), "latency_threshold_ms: "),
        (put("latency_threshold_ms", value=10**400), "latency_threshold_ms: "),
        (put("latency_threshold_ms", value=3e4), "latency_threshold_ms: "),
        (put("pipeline", value="diagonal"), "pipeline: "),
        (put("objective", value="cheap"), "objective: "),
        (put("providers", "ollama", "timeout_s", value=10**400), "providers.ollama.timeout_s: "),
        (put("providers", "ollama", "timeout_s", value=-1), "providers.ollama.timeout_s: "),
        (put("providers", "ollama", "timeout_s", value=True), "providers.ollama.timeout_s: "),
        (put("providers", "ollama", "api_key", value="sk-1"), "providers.ollama.api_key: extra"),
        (put("providers", "gemini", value={}), "providers.gemini: extra"),
        (put("providers", "ollama", "base_url", value="http://u:p@localhost"), "base_url"),
        (put("providers", "ollama", "base_url", value="http://localhost:99999"), "base_url"),
        (
            put("providers", "ollama", "base_url", value="http://localhost\\@evil.example"),
            "base_url",
        ),
        (put("providers", "ollama", "base_url", value="ftp://localhost"), "base_url"),
        (put("providers", "ollama", "options", value={"temperature": 3}), "options.temperature"),
        (put("models", "ollama", "fast", value="two words"), "models.ollama.fast: "),
        (put("models", "ollama", "fast", value="a?thinking=off"), "models.ollama.fast: "),
        (
            put("models", "ollama", "fast", value="vision"),
            "models.ollama.fast: 'vision' is an alias",
        ),
        (put("models", "ollama", "__proto__", value="x"), "models.ollama.__proto__"),
        (put("models", "gemini", value={}), "models.gemini"),
        (put("trusted_hosts", value=["a b"]), "trusted_hosts[0]: "),
        (put("constraints", value={"max_latency_s": 0}), "constraints.max_latency_s: "),
        (
            put("constraints", value={"quality_floors": {"alignment": 1.1}}),
            "quality_floors.alignment",
        ),
        (put("constraints", value={"privacy": {"alignment": "secret"}}), "privacy.alignment"),
        (put("provenance", value={"date": "yesterday"}), "provenance.date: "),
        (put("provenance", value={"run_ids": [1]}), "provenance.run_ids[0]: "),
        (
            put("provenance", value={"suite_digests": {"a": "md5:1"}}),
            "provenance.suite_digests.a: ",
        ),
        (put("provenance", value={"digest": SEAL}), "provenance.digest: does not match"),
        (put("evidence", value=[EVIDENCE]), "provenance.digest: is missing"),
        (put("evidence", value=[EVIDENCE, EVIDENCE]), "evidence[1].target: "),
        (put("evidence", value=[{**EVIDENCE, "quality": 2}]), "evidence[0].quality: "),
        (put("evidence", value=[{**EVIDENCE, "target": "ollama"}]), "evidence[0].target: "),
        (put("evidence", value=[{**EVIDENCE, "synthetic": True}]), "evidence[0].synthetic: "),
        (put("evidence", value={"a": 1}), "evidence: "),
    ],
)
def test_wrong_field_is_one_line_that_names_it(tmp_path: Path, change: Change, place: str) -> None:
    content = profile_content()
    change(content)
    message = refusal(written(tmp_path, content))
    assert place in message
    assert len(message) < 600


@pytest.mark.parametrize(
    ("role", "target", "why"),
    [
        ("primary", "ollama", "is not provider:model"),
        ("primary", "gemini:pro", "unknown provider 'gemini'"),
        ("primary", "ollama:", "is not provider:model"),
        ("primary", "ollama:a b", "a character that no model's name has"),
        ("primary", "ollama:fast?thinking=lots", "thinking must be"),
        ("primary", "ollama:fast?temperature=1", "takes ?thinking=... and nothing else"),
        ("primary", "openai:gpt-6-luna", "provider openai, which is disabled"),
        ("fallback", "mlx:m", "provider mlx, which is disabled"),
        ("fallback", "ollama:vision", "is the primary itself"),
        ("fallback", "ollama:llama3.2-vision:11b", "is the primary itself"),
        (
            "primary",
            "claude:claude-sonnet-5-5",
            "leaves this machine, and radiologist is local_only",
        ),
        ("fallback", "claude:claude-sonnet-5-5", "leaves this machine"),
    ],
)
def test_wrong_target_is_refused(tmp_path: Path, role: str, target: str, why: str) -> None:
    content = profile_content()
    content["routing"]["radiologist"].update({"fallback": None, role: target})
    message = refusal(written(tmp_path, content))
    assert message.startswith(f"routing.radiologist.{role}: ")
    assert why in message


def test_same_model_with_other_thinking_is_another_target(tmp_path: Path) -> None:
    content = profile_content()
    content["routing"]["radiologist"]["fallback"] = "ollama:vision?thinking=off"
    route = resolve(load_profile(written(tmp_path, content)), "radiologist")
    assert route.fallback == replace(route.primary, thinking="off") != route.primary


@pytest.mark.parametrize(
    ("url", "trusted", "is_local"),
    [
        ("http://localhost:11434", [], True),
        ("http://127.3.2.1", [], True),
        ("http://[::1]:11434", [], True),
        ("http://LOCALHOST", [], True),
        ("http://10.0.0.5:11434", [], False),
        ("http://10.0.0.5:11434", ["10.0.0.5"], True),
        ("http://Studio.lan:11434", ["studio.lan"], True),
        ("http://studio.lan.evil.example", ["studio.lan"], False),
        ("http://localhost.evil.example", [], False),
        ("http://0.0.0.0:11434", [], False),
    ],
)
def test_ollama_elsewhere_is_local_only_where_its_host_is_trusted(
    tmp_path: Path, url: str, trusted: list[str], is_local: bool
) -> None:
    content = profile_content(trusted_hosts=trusted)
    content["providers"]["ollama"]["base_url"] = url
    path = written(tmp_path, content)
    if is_local:
        assert load_profile(path).is_local(Target("ollama", "x"))
    else:
        assert "leaves this machine" in refusal(path)


def test_loopback_is_judged_by_address_and_not_by_look() -> None:
    for host in ("localhost", "LocalHost:1", "127.0.0.1", "127.9.8.7:11434", "[::1]"):
        assert is_loopback(f"http://{host}"), host
    for host in ("", "127.0.0.1.example", "localhost.", "10.0.0.1", "[::2]", "127.0.0.256"):
        assert not is_loopback(f"http://{host}"), host
    assert not is_loopback("http://localhost@10.0.0.1")


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "qwen3-coder:480b-cloud", "kimi-k2:cloud"])
def test_ollamas_cloud_models_are_not_local_wherever_the_server_is(
    tmp_path: Path, model: str
) -> None:
    content = profile_content(trusted_hosts=["studio.lan"])
    content["routing"]["radiologist"]["fallback"] = f"ollama:{model}"
    said = refusal(written(tmp_path, content))
    assert "leaves this machine" in said
    assert "trusted_hosts" not in said
    content["routing"]["radiologist"]["privacy"] = "open"
    assert not load_profile(written(tmp_path, content)).is_local(Target("ollama", model))


def test_profiles_keep_their_digest_while_images_stay(tmp_path: Path) -> None:
    stay = Profile.model_validate(profile_content())
    may = Profile.model_validate(profile_content(images_may_leave=True))
    assert "images_may_leave" not in profile_text(stay)
    assert '"images_may_leave": true' in profile_text(may)
    assert profile_digest(stay) != profile_digest(may)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "is not JSON"),
        (b"[]", "a JSON object is expected"),
        (b"null", "a JSON object is expected"),
        (b'"text"', "a JSON object is expected"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 100_000, "is not usable JSON"),
        (b'{"a":' * 100_000, "is not usable JSON"),
        (b"1" * 5000, "is not usable JSON"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"name": NaN}', "NaN is not a JSON number"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "field required"),
    ],
)
def test_what_is_no_profile_at_all_is_one_line(tmp_path: Path, raw: bytes, what: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(raw)
    assert what in refusal(path)


def test_missing_file_and_folder_are_one_line(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.json")
    assert "cannot be read" in refusal(tmp_path)


def test_infinite_figures_are_refused(tmp_path: Path) -> None:
    text = json.dumps(profile_content()).replace('"enabled": true', '"timeout_s": 1e999', 1)
    assert "timeout_s" in refusal(written(tmp_path, text))


def test_synthetic_evidence_is_there_only_when_asked_for_by_name(tmp_path: Path) -> None:
    synthetic = row("alignment", "ollama:llama3.2:3b", synthetic=True)
    with pytest.raises(ValidationError, match="set synthetic_evidence to true"):
        Profile.model_validate(profile_content(evidence=[synthetic]))
    asked = Profile.model_validate(profile_content(evidence=[synthetic], synthetic_evidence=True))
    save_profile(asked, tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json").synthetic_evidence


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of everything inside a JSON value, containers too."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += leaves(inner, (*path, index))
    return found


SEALED = sealed_profile()
CONTENT = json.loads(profile_text(SEALED))
PATHS = leaves(CONTENT)
RAW = profile_text(SEALED).encode()
LETTERS = [index for index, byte in enumerate(RAW) if chr(byte).isalnum()]
PIECES = st.sampled_from([b'"', b"{", b"}", b",", b"9", b"-", b"1e999"])

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**320)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["local_only", "open", "claude:claude-sonnet-5-5", "ollama:fast", SEAL]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def assert_refused_or_unchanged(path: Path) -> None:
    """A file that was sealed and altered is refused in one line, or says what it said."""
    try:
        loaded = load_profile(path)
    except ConfigError as error:
        message = str(error)
    else:
        assert loaded == SEALED
        return
    assert message.isprintable(), message


fuzz = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(
    where=st.sampled_from(PATHS),
    how=st.sampled_from(["replace", "delete", "add", "rename"]),
    value=json_values,
)
def test_no_change_of_structure_is_loaded_silently(
    tmp_path: Path, where: tuple[str | int, ...], how: str, value: Any
) -> None:
    content = copy.deepcopy(CONTENT)
    inner: Any = content
    for key in where[:-1]:
        inner = inner[key]
    last = where[-1]
    if how == "delete":
        del inner[last]
    elif how == "add" and isinstance(inner, dict):
        inner[f"{last}x"] = value
    elif how == "add":
        inner.append(value)
    elif how == "rename" and isinstance(inner, dict):
        inner[f"{value}"] = inner.pop(last)
    else:
        inner[last] = value
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    assert_refused_or_unchanged(tmp_path / "p.json")


@fuzz
@given(
    edits=st.lists(
        st.tuples(st.sampled_from(LETTERS), st.just(1), st.sampled_from([b"7", b"0", b"a", b"e"]))
        | st.tuples(st.integers(0, len(RAW)), st.integers(0, 12), st.binary(max_size=6) | PIECES),
        min_size=1,
        max_size=3,
    )
)
def test_no_change_of_bytes_is_loaded_silently(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    raw = RAW
    for start, length, new in edits:
        raw = raw[:start] + new + raw[start + length :]
    (tmp_path / "p.json").write_bytes(raw)
    assert_refused_or_unchanged(tmp_path / "p.json")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(RAW[: int(len(RAW) * share)])
    assert "is not JSON" in refusal(path)


def test_single_digit_of_evidence_changed_is_refused(tmp_path: Path) -> None:
    text = profile_text(SEALED).replace('"quality": 0.62', '"quality": 0.63', 1)
    assert "provenance.digest: does not match" in refusal(written(tmp_path, text))


def test_same_profiles_have_no_difference() -> None:
    assert diff(SEALED, SEALED) == []
    unsealed = Profile.model_validate(profile_content())
    assert diff(unsealed, unsealed.sealed()) == []


def test_difference_names_agent_targets_and_evidence() -> None:
    content = json.loads(profile_text(SEALED))
    content["provenance"]["digest"] = None
    content["routing"]["radiologist"].update(
        primary="ollama:balanced", fallback=None, privacy="open"
    )
    content["constraints"]["max_latency_s"] = 30
    content["latency_threshold_ms"] = 20_000
    content["models"]["ollama"]["fast"] = "qwen3:4b"
    content["evidence"][0]["latency_p50_s"] = 1.0
    content["provenance"]["run_ids"] = ["run-2"]
    lines = diff(SEALED, Profile.model_validate(content))
    assert lines == [
        "radiologist primary: ollama:vision (quality 0.62 [0.52, 0.72], p50 2.0 s, p95 3.0 s)"
        " -> ollama:balanced (quality 0.40 [0.30, 0.50], p50 2.0 s, p95 3.0 s)",
        "radiologist fallback: ollama:balanced (quality 0.40 [0.30, 0.50], p50 2.0 s, p95 3.0 s)"
        " -> none",
        'radiologist privacy: "local_only" -> "open"',
        "constraints.max_latency_s: none -> 30.0",
        "latency_threshold_ms: 30000 -> 20000",
        'models.ollama.fast: "llama3.2:3b" -> "qwen3:4b"',
        'provenance.run_ids: ["run-1"] -> ["run-2"]',
        "evidence: 1 rows changed, 0 gone, 0 new",
    ]


def run_cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, through the real entry point."""
    result = CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, ConfigError):
        return 2, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_validate_show_and_diff_commands(tmp_path: Path) -> None:
    good, other, bad = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    save_profile(SEALED, good)
    save_profile(SEALED.model_copy(update={"latency_threshold_ms": 9}), other)
    bad.write_text(good.read_text().replace("0.62", "0.63"))

    code, out, _ = run_cli("profile", "validate", good)
    assert (code, "valid; 4 rows of evidence" in out) == (0, True)
    code, out, _ = run_cli("profile", "validate", good, "--json")
    assert json.loads(out)["digest"] == SEALED.provenance.digest
    code, out, error = run_cli("profile", "validate", bad)
    assert (code, out) == (2, "")
    assert "provenance.digest" in error

    code, out, _ = run_cli("profile", "show", good)
    assert code == 0
    assert "ollama:qwen3:32b?thinking=256" in out
    assert json.loads(run_cli("profile", "show", good, "--json")[1])["name"] == "hybrid"

    assert run_cli("profile", "diff", good, good)[:2] == (0, "no differences\n")
    code, out, _ = run_cli("profile", "diff", good, other)
    assert (code, out) == (1, "latency_threshold_ms: 30000 -> 9\n")
    code, out, _ = run_cli("profile", "diff", good, other, "--json")
    assert (code, json.loads(out)) == (1, {"differences": ["latency_threshold_ms: 30000 -> 9"]})


def test_export_command_writes_once_and_nothing_for_a_bad_profile(tmp_path: Path) -> None:
    path, out = tmp_path / "a.json", tmp_path / "llm.mjs"
    save_profile(SEALED, path)
    assert run_cli("export", path, "--format", "js", "--out", out)[:2] == (0, f"{out}: written\n")
    assert run_cli("export", path, "--format", "js", "--out", out)[:2] == (0, f"{out}: unchanged\n")
    code, text, _ = run_cli("export", path, "--format", "json")
    assert (code, text) == (0, path.read_text())
    path.write_text("{}")
    code, _, error = run_cli("export", path, "--format", "js", "--out", tmp_path / "new.mjs")
    assert code == 2
    assert "field required" in error
    assert not (tmp_path / "new.mjs").exists()


@pytest.mark.parametrize("command", [["profile"], ["profile", "diff"], ["export"], ["optimize"]])
def test_help_ends_with_an_example(command: list[str]) -> None:
    code, out, _ = run_cli(*command, "--help")
    assert code == 0
    assert "Example: soma-bench" in out.strip().splitlines()[-1]


def test_evidence_memory_survives_beyond_32_bits(tmp_path: Path) -> None:
    large = row("alignment", "ollama:llama3.2:3b", memory_bytes=43 * GIB)
    profile = Profile.model_validate(profile_content(evidence=[large]))
    save_profile(profile, tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json").evidence[0].memory_bytes == 43 * GIB


def test_saving_never_replaces_a_file_that_is_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(b"SQLite format 3\0and someone's measurements")
    with pytest.raises(ConfigError, match="is not a profile; name another file"):
        save_profile(sealed_profile(), path)
    assert path.read_bytes().startswith(b"SQLite")
    path.write_text('{"schema_version": 0}')
    assert save_profile(sealed_profile(), path)
