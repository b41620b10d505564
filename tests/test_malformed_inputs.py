"""Malformed input through the whole command line: exit code 2, one line, and nothing is touched.

What each file's reader refuses is tested beside it (sweep files, profiles, suites). Here the real
commands meet thousands of broken files, other people's databases and places that cannot be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from routing_examples import sealed_profile
from scripted import ScriptedProvider
from soma_bench import cli
from soma_bench.errors import ProviderError
from soma_bench.providers import pool
from soma_bench.routing.profile import load_profile, save_profile
from soma_bench.sweeps.store import Store

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("soma-bench")
ANSWER = '{"intent":"QUESTION","handler":"self","asked":"x","confidence":80}'
SWEEP = """\
name: small
description: "two targets: one model"
suites: {alignment: suite.jsonl}
cases_per_agent: 2
targets:
  - provider: llamacpp
    model: a
    quantizations: [q8_0]
    thinking: [off, 16]
    agents: [alignment]
repeats: 1
options: {temperature: 0, seed: 3, context_tokens: 512}
"""
Snapshot = dict[str, tuple[int, str]]
Result = tuple[int, str, str]


def snapshot(folder: Path) -> Snapshot:
    """Everything in a folder: names, and the bytes and the date of each file."""
    return {
        str(path.relative_to(folder)): (
            (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            if path.is_file()
            else (0, "")
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """The command line's entry point in this process, with a scripted provider behind it."""
    monkeypatch.setattr(pool, "create_provider", lambda _: ScriptedProvider(lambda _: ANSWER))
    monkeypatch.setattr(
        pool.ProviderPool.__init__, "__defaults__", (lambda _: ScriptedProvider(lambda _: ANSWER),)
    )
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["soma-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good file of each kind."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    lines = (ROOT / "data/suites/alignment.jsonl").read_text().splitlines()[:2]
    (tmp_path / "suite.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "case.json").write_text((ROOT / "data/examples/one_nodule.json").read_text())
    save_profile(sealed_profile(), tmp_path / "p.json")
    return tmp_path


def assert_refused(result: Result, *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, ""), result
    assert err.startswith("error: "), err
    assert err.endswith("\n")
    assert err[:-1].isprintable(), "one line without control characters"
    assert len(err) < 1300
    assert all(word in err for word in words), err


PIECES = [
    b"", b"\x00", b"\xff", b"\n", b"\t", b":", b": ", b"- ", b"{", b"}", b"[", b"]", b'"', b"'", b",",
    b"&a ", b"*a", b"!!bool x", b"!!int ''", b"!!python/name:os.system ", b"%YAML 1.1\n---\n", b"---\n",
    b"<<: ", b"? ", b"| ", b"> ", b"#", b"@", b"`", b".nan", b".inf", b"-1", b"1e999", b"9" * 5000,
    b"0x" + b"f" * 5000, b"~", b"null", b"true", b"NaN", b"-Infinity", b"\\ud800", b"\\u0000", b"2001-99-99",
    b"{a: " * 60, b"[" * 3000, b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"../", b"/dev/null", b"janitor", b"\r",
]  # fmt: skip


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three pieces cut out, doubled, or put in."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(raw))
        length = chance.choice([0, 0, 1, 2, 8, 60])
        how = chance.random()
        if how < 0.1:
            raw = raw[:at]
        elif how < 0.2:
            raw = raw[:at] + raw[max(0, at - length) :]
        else:
            raw = raw[:at] + chance.choice(PIECES) + raw[at + length :]
    return raw


def with_other_values(text: str, chance: random.Random) -> bytes:
    """JSON (or lines of it) with a value, a key or a whole branch replaced, dropped or added."""
    lines = text.splitlines() if text.count("\n{") else [text]
    at = chance.randrange(len(lines))
    content = json.loads(lines[at])
    holders: list[Any] = [content]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in inner if isinstance(value, dict | list) and value]
    holder = chance.choice(holders)
    key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    value = chance.choice(
        [None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "\x00", "é" * 3000, [], {}, [[]], {"a": 1}]
    )
    how = chance.choice(["replace", "drop", "add"])
    if how == "drop":
        del holder[key]
    elif how == "add" and isinstance(holder, dict):
        holder[f"{key}x"] = value
    else:
        holder[key] = value
    lines[at] = json.dumps(content, indent=2 if len(lines) == 1 else None)
    return "\n".join(lines).encode()


COMMANDS: dict[str, list[str]] = {
    "sweep.yaml": ["sweep", "{}/sweep.yaml", "--dry-run", "--store", "{}/new/runs.db"],
    "suite.jsonl": ["sweep", "{}/sweep.yaml", "--dry-run", "--store", "{}/new/runs.db"],
    "case.json": ["run", "{}/case.json", "--profile", "{}/p.json"],
    "p.json": ["export", "{}/p.json", "--format", "js", "--out", "{}/new/llm.mjs"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_mutation_of_a_file_gets_past_the_command_line(
    folder: Path, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def nothing(*_: object, **__: object) -> int:
        return 0  # an analysis that is still whole would be sent to Ollama

    monkeypatch.setattr("soma_bench.cli.run._run_all", nothing)
    chance = random.Random(name)
    arguments = [argument.format(folder) for argument in COMMANDS[name]]
    good = (folder / name).read_bytes()
    refused = 0
    for _ in range(250):
        bad = mutated(good, chance)
        if name.endswith(("json", "jsonl")) and chance.random() < 0.5:
            bad = with_other_values(good.decode(), chance)
        (folder / name).write_bytes(bad)
        before = snapshot(folder)
        result = call(*arguments)
        if result[0] == 0:  # the mutation may have left a good file
            assert name != "p.json" or load_profile(folder / name) == sealed_profile()
            (folder / "new/llm.mjs").unlink(missing_ok=True)
            if (folder / "new").exists():
                (folder / "new").rmdir()
            continue
        refused += 1
        assert_refused(result, str(folder))
        assert snapshot(folder) == before
    assert refused > 100


def foreign(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def places(folder: Path) -> Path:
    """Everything that is no store."""
    (folder / "text.db").write_text("hello, I am no database" * 300)
    (folder / "short.db").write_text("hi")
    (folder / "folder.db").mkdir()
    foreign(folder / "people.db", "CREATE TABLE people (x)", "INSERT INTO people VALUES (1)")
    foreign(folder / "wal.db", "PRAGMA journal_mode = WAL", "CREATE TABLE people (x)")
    foreign(
        folder / "namesakes.db",
        *(
            f"CREATE TABLE {name} (x)"
            for name in ["runs", "cases", "run_trials", "trials", "scores"]
        ),
    )
    whole = (folder / "people.db").read_bytes()
    (folder / "damaged.db").write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    return folder


STORES = [
    "text.db", "short.db", "folder.db", "people.db", "wal.db", "namesakes.db", "damaged.db",
    "text.db/runs.db", "x" * 300,
]  # fmt: skip
USES = [
    ["compare", "small"],
    ["score", "small"],
    ["optimize", "small", "--out", "{}/new/profile.json"],
    ["sweep", "{}/sweep.yaml", "--fresh"],
    ["sweep", "{}/sweep.yaml"],
]


@pytest.mark.parametrize("use", USES, ids=lambda use: " ".join(use[::2]))
@pytest.mark.parametrize("form", ["{}/{}", "sqlite:///{}/{}"])
def test_what_is_no_store_is_refused_and_left_as_it_is(
    places: Path, call: Callable[..., Result], use: list[str], form: str
) -> None:
    before = snapshot(places)
    for name in STORES:
        arguments = [argument.format(places) for argument in use]
        assert_refused(
            call(*arguments, "--store", form.format(places, name)), name.split("/")[0][:30]
        )
        assert snapshot(places) == before, name


@pytest.mark.parametrize(
    "location",
    [
        "sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?uri=true", "://", "x://", "http://x/y",
        "postgresql://me:hunter2@127.0.0.1:port/x", "mysql://me:hunter2@127.0.0.1:1/x",
        "sqlite:///missing.db", "sqlite:///missing.db?nosuch=1",
    ],
)  # fmt: skip
def test_a_wrong_store_url_is_one_line_without_its_password(
    folder: Path, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    result = call("compare", "small", "--store", location)
    assert_refused(result)
    assert "hunter2" not in result[2]
    assert snapshot(folder) == before


def test_a_store_may_have_any_name_a_file_may_have(
    folder: Path, call: Callable[..., Result]
) -> None:
    for name in ("a?b.db", "a#b%20.db", "ü b.db"):
        assert call("sweep", folder / "sweep.yaml", "--store", folder / name)[0] == 0
        assert call("compare", "small", "--store", folder / name)[0] == 0
        assert (folder / name).is_file()
    assert not list(folder.glob("*-wal"))


def test_a_store_that_was_killed_while_it_was_made_is_completed(
    folder: Path, call: Callable[..., Result]
) -> None:
    Store(str(folder / "half.db"), create=True).close()
    foreign(folder / "half.db", "DROP TABLE scores", "DROP TABLE trials")
    assert_refused(call("compare", "small", "--store", folder / "half.db"), "holds no runs")
    assert call("sweep", folder / "sweep.yaml", "--store", folder / "half.db")[0] == 0


def test_no_damaged_field_of_a_store_gets_past_the_command_line(
    folder: Path, call: Callable[..., Result]
) -> None:
    store = folder / "runs.db"
    assert call("sweep", folder / "sweep.yaml", "--store", store)[0] == 0
    whole = store.read_bytes()
    chance = random.Random(8)
    values = [None, "", "x", "{", "[]", "null", "NaN", -1, 2.5, 10**15, b"\xff", float("inf")]
    tables = ["runs", "cases", "trials", "scores"]
    refused = 0
    for _ in range(80):
        store.write_bytes(whole)
        table, connection = chance.choice(tables), sqlite3.connect(store)
        fields = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        fields.remove("parts") if table == "scores" else None
        try:
            connection.execute(
                f"UPDATE {table} SET {chance.choice(fields)} = ? WHERE rowid = 1",
                (chance.choice(values),),
            )
            connection.commit()
        except sqlite3.IntegrityError:
            continue
        finally:
            connection.close()
        for command in (
            ["compare", "small"],
            ["score", "small", "--again"],
            ["sweep", folder / "sweep.yaml", "--dry-run"],
        ):
            result = call(*command, "--store", store)
            if result[0] != 0:
                assert_refused(result)
                refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("repeats: 1", "repeats: 1000\ncases_per_agent: 1000000", "duplicate key"),
        ("suite.jsonl", '"a\\0b"', "suites.alignment"),
        ("suite.jsonl", "nowhere/suite.jsonl", "cannot be read"),
        ("suite.jsonl", ".", "Is a directory"),
        ("suite.jsonl", "/dev/zero", "is longer than"),
        ("small", "!!str small", ":1: tags are not allowed"),
        ("name", "%YAML 1.1\n---\nname", ":1: directives are not allowed"),
        ("small", "[" * 200_000, "nested too deeply"),
        ("off, 16", "off, high", "thinking=high: the model has no such thinking level"),
        ("    model: a", "    model: a b", "targets[0]"),
    ],
)
def test_a_sweep_that_cannot_be_run_leaves_no_store(
    folder: Path, call: Callable[..., Result], old: str, new: str, words: str
) -> None:
    assert old in SWEEP
    (folder / "sweep.yaml").write_text(SWEEP.replace(old, new, 1))
    before = snapshot(folder)
    started = time.monotonic()
    assert_refused(call("sweep", folder / "sweep.yaml", "--store", folder / "new/runs.db"), words)
    assert time.monotonic() - started < 5
    assert snapshot(folder) == before


def test_a_sweep_of_more_trials_than_anyone_would_run_is_refused_at_once(
    folder: Path, call: Callable[..., Result]
) -> None:
    budgets = ", ".join(str(number) for number in range(1, 51))
    models = "".join(
        f"  - {{provider: llamacpp, model: m{number}, thinking: [{budgets}]}}\n"
        for number in range(60)
    )
    head, _, tail = SWEEP.partition("  - provider")
    tail = tail[tail.index("repeats") :].replace("repeats: 1", "repeats: 1000")
    (folder / "sweep.yaml").write_text(head + models + tail)
    result = call("sweep", folder / "sweep.yaml", "--store", folder / "runs.db")
    assert_refused(result, "6000000 trials", "lower repeats")
    assert not (folder / "runs.db").exists()


@pytest.mark.parametrize("out", ["taken", "p.json/x.mjs", "", "/dev/full", "/proc/nowhere/x.mjs"])
def test_an_output_that_cannot_be_written_leaves_everything_as_it_was(
    folder: Path, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "taken").mkdir()
    before = snapshot(folder)
    result = call("export", "p.json", "--format", "js", "--out", out)
    assert_refused(result, out or ".", "cannot be written")
    assert snapshot(folder) == before
    assert Path("/dev/full").is_char_device()


def test_an_output_that_is_a_link_is_written_through(
    folder: Path, call: Callable[..., Result]
) -> None:
    (folder / "real.mjs").write_text("old")
    (folder / "link.mjs").symlink_to("real.mjs")
    export = ("export", folder / "p.json", "--format", "js", "--out", folder / "link.mjs")
    assert call(*export)[0] == 0
    assert (folder / "link.mjs").is_symlink()
    assert "export" in (folder / "real.mjs").read_text()


@pytest.mark.parametrize("group", [[], ["models"], ["profile"]])
def test_a_missing_command_is_one_line_that_names_those_there_are(
    call: Callable[..., Result], group: list[str]
) -> None:
    assert_refused(call(*group), "a command is missing; there are: ", "--help")


def test_text_from_outside_cannot_write_to_the_terminal(call: Callable[..., Result]) -> None:
    assert_refused(call("profile", "validate", "\x1b[31m\udcff.json"), "\\x1b[31m\\udcff.json")
    assert_refused(call("models", "show", "x" * 100_000), "...")


def test_a_refusal_of_the_backend_leaves_no_store(
    folder: Path, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(self: ScriptedProvider, model: str) -> None:
        raise ProviderError("llamacpp", f"model {model!r} is\nnot there", kind="model_missing")

    monkeypatch.setattr(ScriptedProvider, "identity", missing)
    before = snapshot(folder)
    assert_refused(call("sweep", folder / "sweep.yaml", "--store", folder / "new/runs.db"))
    assert snapshot(folder) == before


def real(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, **options
    )


def test_the_installed_command_refuses_as_the_function_does(places: Path) -> None:
    (places / "bad.yaml").write_text(SWEEP.replace("small", "!!bool x"))
    (places / "bad.json").write_bytes(b'{"message": 1e999')
    (places / "blank.jsonl").write_bytes(b"\n")
    before = snapshot(places)
    for arguments in (
        ["sweep", "bad.yaml", "--store", "new.db"],
        ["sweep", "blank.jsonl", "--store", "new.db"],
        ["run", "bad.json", "--profile", "p.json"],
        ["run", "case.json", "--profile", "bad.json"],
        ["profile", "show", os.fsdecode(b"\xff.json")],
        ["profile", "diff", "p.json", "case.json"],
        ["compare", "small", "--store", "wal.db"],
        ["optimize", "small", "--store", "people.db"],
    ):
        done = real(*arguments, cwd=places)
        assert_refused((done.returncode, done.stdout.decode(), done.stderr.decode()))
    assert snapshot(places) == before


@pytest.fixture
def powerless() -> Callable[[], AbstractContextManager[None]]:
    """A context without root's right to write anywhere."""

    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        before = os.geteuid()
        os.seteuid(65534 if before == 0 else before)
        try:
            yield
        finally:
            os.seteuid(before)

    return enter


def test_a_store_that_may_not_be_written_is_one_line(
    folder: Path,
    call: Callable[..., Result],
    powerless: Callable[[], AbstractContextManager[None]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        locked = Path(name) / "locked"
        store = locked / "runs.db"
        assert call("sweep", folder / "sweep.yaml", "--store", store)[0] == 0
        assert call("compare", "small", "--store", store)[0] == 0
        save_profile(sealed_profile(), locked / "p.json")
        Path(name).chmod(0o755)
        store.chmod(0o444)
        locked.chmod(0o555)
        before = snapshot(locked)
        for arguments in (
            ["compare", "small", "--store", store],
            ["score", "small", "--again", "--store", store],
            ["export", locked / "p.json", "--format", "js", "--out", locked / "x.mjs"],
        ):
            with powerless():
                result = call(*arguments)
            assert_refused(result, "locked")
        assert snapshot(locked) == before
        locked.chmod(0o755)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(
    folder: Path, call: Callable[..., Result], form: list[str]
) -> None:
    store = folder / "runs.db"
    assert call("sweep", folder / "sweep.yaml", "--store", store)[0] == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        command = [COMMAND, "compare", "small", "--store", store, *form]
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_behind_the_output_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("wb") as stream:
        command = [COMMAND, "profile", "show", "p.json"]
        done = subprocess.run(
            command, cwd=folder, stdout=stream, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert_refused((done.returncode, "", done.stderr.decode()), "No space left")


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_says_so_and_can_be_resumed(
    folder: Path, embedded_models: Path, number: signal.Signals
) -> None:
    sweep = SWEEP.replace(
        "model: a\n    quantizations: [q8_0]", "model: smollm2-135m-instruct-q4_1"
    )
    (folder / "sweep.yaml").write_text(
        sweep.replace("512", "1536").replace("repeats: 1", "repeats: 3")
    )
    store = folder / "runs.db"
    command = [COMMAND, "sweep", folder / "sweep.yaml", "--store", store, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = 0
    while not ended and process.poll() is None:
        time.sleep(0.1)
        ended = count(store)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, b"")
    assert err.endswith(b"stopped\n")
    assert b"Traceback" not in err
    assert not list(folder.glob("*-wal")), "the store was closed"
    kept = count(store)
    rest = subprocess.run([*command, "--dry-run"], capture_output=True, check=True, timeout=120)
    (model,) = json.loads(rest.stdout)["models"]
    assert kept
    assert (model["trials"], model["missing"]) == (12, 12 - kept)


def count(store: Path) -> int:
    if not store.exists():
        return 0
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # the tables are being made
    finally:
        connection.close()
