"""The exported forms: what Node, a shell and a reader of JSON make of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from routing_examples import profile_content, sealed_profile
from soma_bench.cli import cli
from soma_bench.cli.schemas import SCHEMAS, schema_text
from soma_bench.errors import ConfigError
from soma_bench.files import canonical_json
from soma_bench.routing.export import FORMATS, export_profile, format_of, write_export
from soma_bench.routing.export_check import check_export, differences
from soma_bench.routing.export_shape import config_schema
from soma_bench.routing.profile import Profile, load_profile, profile_schema, save_profile
from soma_bench.routing.signing import make_keys

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
    commonjs = tmp_path / "llm.cjs"
    commonjs.write_text(export_profile(profile(), "cjs"), encoding="utf-8")
    remote.write_text(export_profile(odd_profile(), "js"), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "MODULE": str(module),
        "COMMONJS": str(commonjs),
        "REMOTE_MODULE": str(remote),
        "REASON": ODD_REASON,
        "ODD_MODEL": ODD_MODEL,
    }
    folder = Path(__file__).parent / "node"
    scripts = [str(folder / name) for name in ("llm_config.test.mjs", "backend.test.mjs")]
    found = subprocess.run(
        ["node", "--test", *scripts],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "fail 0\n" in found.stdout


@pytest.mark.parametrize("form", FORMATS)
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


@pytest.mark.parametrize("form", ["js", "cjs"])
def test_header_names_digest_and_origin_on_comment_lines(form: Any) -> None:
    text = export_profile(sealed_profile(), form)
    digest = sealed_profile().provenance.digest
    assert digest is not None
    assert text.startswith("// SOMA routing profile hybrid, digest " + digest)
    assert '// Measured in runs "run-1"' in text


def test_js_is_ascii() -> None:
    assert export_profile(odd_profile(), "js").isascii()


def test_synthetic_profile_says_so_in_the_module() -> None:
    assert "FOR TESTS ONLY" in export_profile(profile(synthetic_evidence=True), "js")
    assert "FOR TESTS ONLY" not in export_profile(profile(), "js")


@pytest.mark.parametrize("form", FORMATS)
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


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("profile.json", "json"),
        ("llm.config.js", "js"),
        ("a.mjs", "js"),
        ("a.cjs", "cjs"),
        (".env", "env"),
        (".env.local", "env"),
        ("soma.env", "env"),
    ],
)
def test_a_files_name_says_its_format(name: str, form: str) -> None:
    assert format_of(Path("backend") / name) == form


def test_a_name_that_says_no_format_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a\.txt: .* --format json\|js\|cjs\|env"):
        format_of(Path("a.txt"))


@pytest.mark.parametrize("form", FORMATS)
def test_what_an_export_replaces_is_kept_beside_it(form: Any, tmp_path: Path) -> None:
    path, previous = tmp_path / "deployed", tmp_path / "deployed.previous"
    assert write_export(profile(), form, path)
    first = path.read_bytes()
    assert not write_export(profile(), form, path)
    assert not previous.exists(), "nothing was replaced yet"
    assert write_export(profile(latency_threshold_ms=9000), form, path)
    assert previous.read_bytes() == first
    assert not write_export(profile(latency_threshold_ms=9000), form, path)
    assert previous.read_bytes() == first, "the same export again must not lose the way back"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deployed", "deployed.previous"]


def test_a_hand_written_configuration_survives_its_first_replacement(tmp_path: Path) -> None:
    path = tmp_path / "llm.config.js"
    path.write_bytes(b"export default {};\r\n")
    write_export(profile(), "js", path)
    assert (tmp_path / "llm.config.js.previous").read_bytes() == b"export default {};\r\n"


def test_an_env_file_with_keys_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("ANTHROPIC_API_KEY=sk-secret-42\nOLLAMA_BASE_URL=http://localhost:1\n")
    with pytest.raises(ConfigError, match=r"sets ANTHROPIC_API_KEY, .* would lose") as refusal:
        write_export(profile(), "env", path)
    assert "sk-secret-42" not in str(refusal.value)
    assert "sk-secret-42" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_deployed_export_is_what_its_profile_says(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "deployed"
    path.write_bytes(export_profile(profile(), form).replace("\n", "\r\n").encode())
    assert check_export(profile(), form, path) == []


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ("json", "latency_threshold_ms: 9000, and not 30000"),
        ("js", "latencyThreshold: 9000, and not 30000"),
        ("cjs", "latencyThreshold: 9000, and not 30000"),
        ("env", 'LATENCY_THRESHOLD_MS: "9000", and not "30000"'),
    ],
)
def test_check_says_what_differs(form: Any, place: str, tmp_path: Path) -> None:
    path = tmp_path / "deployed"
    write_export(profile(latency_threshold_ms=9000), form, path)
    assert place in check_export(profile(), form, path)


def test_check_sees_an_edit_of_a_route_and_one_of_the_code(tmp_path: Path) -> None:
    path, text = tmp_path / "llm.mjs", export_profile(profile(), "js")
    path.write_text(text.replace('"name": "vision"', '"name": "fast"'))
    assert check_export(profile(), "js", path) == [
        'routing.radiologist.primary.name: "fast", and not "vision"'
    ]
    path.write_text(text.replace("privacy === 'local_only'", "false"))
    (found,) = check_export(profile(), "js", path)
    assert found.startswith("the code around the profile: line ")
    path.write_text("export default {};\n")
    assert check_export(profile(), "js", path) == [
        "it is no module that soma-bench export has written"
    ]


def test_check_of_an_env_file_tells_no_secret(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    keys = "ANTHROPIC_API_KEY=sk-secret-42\nLLM_PRIMARY_PROVIDER=claude\nOLLAMA_MODEL=other\n"
    path.write_text(export_profile(profile(), "env") + keys)
    assert check_export(profile(), "env", path) == [
        'LLM_PRIMARY_PROVIDER: "claude", and not nothing',
        'OLLAMA_MODEL: "other", and not nothing',
    ]


def soma_bench(*arguments: str | Path) -> int:
    """Exit code of a command that ends in order."""
    return int(cli([str(argument) for argument in arguments], standalone_mode=False) or 0)


def test_export_command_writes_checks_and_finds_what_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, deployed = tmp_path / "p.json", tmp_path / "llm.config.cjs"
    save_profile(sealed_profile(), saved)
    assert soma_bench("export", saved, "--out", deployed) == 0
    capsys.readouterr()
    assert soma_bench("export", saved, "--check", deployed, "--json") == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []
    deployed.write_text(deployed.read_text().replace('"enabled": true', '"enabled": false', 1))
    assert soma_bench("export", saved, "--check", deployed) == 1
    assert "providers.ollama.enabled: false, and not true" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"none\.cjs: cannot be read"):
        soma_bench("export", saved, "--check", tmp_path / "none.cjs")


def test_a_check_of_a_missing_file_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    save_profile(sealed_profile(), tmp_path / "p.json")
    arguments = ["export", str(tmp_path / "p.json"), "--check", str(tmp_path / "none.js")]
    done = subprocess.run(
        [sys.executable, "-m", "soma_bench", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_an_unsigned_profile_is_not_exported_where_a_signature_is_asked_for(tmp_path: Path) -> None:
    saved, out = tmp_path / "p.json", tmp_path / "llm.config.js"
    save_profile(sealed_profile(), saved)
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    with pytest.raises(ConfigError, match="signature: is missing"):
        soma_bench("export", saved, "--out", out, "--verify", tmp_path / "key.pub")
    assert not out.exists()


def test_published_schemas_are_those_of_the_code() -> None:
    folder = Path(__file__).parent.parent / "schemas"
    assert sorted(file.name for file in folder.iterdir()) == sorted(SCHEMAS)
    for name in SCHEMAS:
        assert (folder / name).read_text("utf-8") == schema_text(name), (
            f"run: soma-bench profile schemas schemas ({name} differs)"
        )


@pytest.mark.parametrize("name", ["soma-default", "local-only", "cloud-only"])
def test_a_shipped_profile_is_as_its_schema_says(name: str) -> None:
    root = Path(__file__).parent.parent
    validator = Draft202012Validator(profile_schema())
    content = json.loads((root / "routing_profiles" / f"{name}.json").read_text("utf-8"))
    validator.validate(content)
    assert not validator.is_valid({**content, "surprise": 1})
    assert validator.is_valid(json.loads(export_profile(sealed_profile(), "json")))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("kind", ["mjs", "cjs"])
def test_what_node_loads_is_as_its_schema_says(kind: str, tmp_path: Path) -> None:
    module = tmp_path / f"llm.{kind}"
    write_export(sealed_profile(), format_of(module), module)
    script = f"import({str(module)!r}).then(m => console.log(JSON.stringify(m.LLMConfig)))"
    found = subprocess.run(
        ["node", "-e", script],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    validator = Draft202012Validator(config_schema())
    loaded = json.loads(found.stdout)
    validator.validate(loaded)
    del loaded["routing"]["qcReviewer"]
    assert not validator.is_valid(loaded)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES, VALUES)
@settings(max_examples=40, deadline=None)
def test_two_values_differ_somewhere_exactly_where_their_json_does(one: Any, other: Any) -> None:
    assert bool(list(differences("", one, other))) == (canonical_json(one) != canonical_json(other))
