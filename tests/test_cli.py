"""The command line as a user meets it: quick, one line per error, exit codes that mean something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from soma_bench.cli import cli

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).with_name("soma-bench"))
SUITES = ROOT / "data" / "suites"


def call(
    *arguments: str | Path, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> bool:
    """Exit code 2, one line on stderr with these words, no traceback, nothing on stdout."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    return True


COMMANDS = [
    *("doctor", "models", "cases", "sweep", "score", "compare", "optimize", "confirm", "gate"),
    *("profile", "export", "route", "costs", "judge", "run", "replay", "serve", "report"),
    *("notebook", "store", "latency", "worker"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command):
    result = call(command, "--help")
    assert result.returncode == 0
    assert "Example" in result.stdout


def test_help_lists_every_command():
    result = call("--help")
    assert result.returncode == 0
    assert all(f"  {command} " in result.stdout for command in COMMANDS)
    assert set(COMMANDS) == set(cli.list_commands(click.Context(cli)))


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            below = command.get_command(context, part)
            assert below is not None
            yield from leaves(below, f"{name} {part}".strip())
    else:
        yield name, command


LEAVES = dict(leaves(cli, ""))


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_speaks_json_and_explains_its_options(name):
    command = LEAVES[name]
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert (command.epilog or "").startswith(f"Example: soma-bench {name} ")
    assert [option.name for option in options if not option.help] == []
    assert any("--json" in option.opts for option in options) == (name != "worker")


HEAVY = {"numpy", "pandas", "scipy", "matplotlib", "sqlalchemy", "pydantic", "xllamacpp"}


def test_importing_the_package_stays_light():
    listed = subprocess.run(
        [sys.executable, "-c", "import soma_bench, sys; print(*sys.modules)"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert "soma_bench" in listed
    assert not (HEAVY | {"anthropic", "openai"}) & set(listed)


def test_help_imports_nothing_heavy():
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "soma_bench", "--help"],
        check=True, capture_output=True, text=True,
    ).stderr  # fmt: skip
    listed = {line.rpartition(" ")[2] for line in told.splitlines()}
    assert "soma_bench.cli" in listed
    assert not (HEAVY | {"rich"}) & listed


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sweep"], "FILE"),
        (["sweep", "missing.yaml"], "missing.yaml"),
        (["swep", "x"], "swep"),
        (["sweep", "sweeps/demo.yaml", "--dry-rn"], "dry-rn"),
        (["compare", "demo", "--store", "missing.db"], "missing.db"),
        (["score", "demo", "--store", "missing.db"], "missing.db"),
        (["compare", "demo", "--store", "README.md"], "README.md"),
        (["compare", "demo", "--store", "nosuch://x/y"], "nosuch"),
        (["optimize", "demo", "--store", "missing.db"], "missing.db"),
        (["run", "missing.json", "--profile", "missing.json"], "missing.json"),
        (["profile", "validate", "missing.json"], "missing.json"),
        (["export", "missing.json", "--format", "js", "--out", "x.mjs"], "missing.json"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, word):
    assert refused(call(*arguments), word)


SWEEP = """\
name: small
suites:
  alignment: suite.jsonl
cases_per_agent: 1
targets:
  - provider: llamacpp
    model: {model}
"""


def small_sweep(
    folder: Path, *, model: str = "smollm2-135m-instruct-q4_1", suite: str | None = None
) -> Path:
    rows = (SUITES / "alignment.jsonl").read_text() if suite is None else suite
    (folder / "suite.jsonl").write_text(rows)
    path = folder / "sweep.yaml"
    path.write_text(SWEEP.format(model=model))
    return path


FIRST = (SUITES / "alignment.jsonl").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("", ["suite.jsonl"]),
        (FIRST[:60], ["suite.jsonl:1"]),
        (FIRST + "\n" + FIRST, ["suite.jsonl:2", "id"]),
        (FIRST.replace('"agent": "alignment"', '"agent": "janitor"'), ["suite.jsonl:1", "agent"]),
        (FIRST.replace('"message"', '"massage"'), ["suite.jsonl:1", "input"]),
        (FIRST + "\n{}", ["suite.jsonl:2"]),
        (FIRST + "\nnull", ["suite.jsonl:2"]),
    ],
)
def test_a_wrong_suite_is_named_by_file_and_line_and_leaves_no_store(tmp_path, suite, words):
    path = small_sweep(tmp_path, suite=suite)
    assert refused(call("sweep", path, "--store", tmp_path / "runs.db"), *words)
    assert not (tmp_path / "runs.db").exists()


def test_a_missing_model_says_how_to_get_it_and_leaves_no_store(tmp_path):
    path = small_sweep(tmp_path)
    result = call(
        "sweep", path, "--store", tmp_path / "runs.db", SOMA_BENCH_CACHE=str(tmp_path / "cache")
    )
    assert refused(result, "smollm2-135m-instruct-q4_1", "soma-bench models pull")
    assert not (tmp_path / "runs.db").exists()


def test_a_provider_that_cannot_be_called_is_refused_before_anything_runs(tmp_path):
    path = small_sweep(tmp_path)
    path.write_text(path.read_text().replace("llamacpp", "mlx"))
    assert refused(call("sweep", path, "--store", tmp_path / "runs.db"), "mlx")
    assert not (tmp_path / "runs.db").exists()
