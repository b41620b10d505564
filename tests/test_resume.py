"""A sweep that is killed: nothing lost, nothing twice. The real model, the real command, SIGKILL."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

SUITES = Path(__file__).parent.parent / "data" / "suites"
COMMAND = Path(sys.executable).with_name("soma-bench")
KILLS = 2
SWEEP = f"""\
name: killed
suites:
  alignment: {SUITES}/alignment.jsonl
cases_per_agent: 3
targets:
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_1
    thinking: [off, 4]
options: {{seed: 3, context_tokens: 1536}}
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [
        str(COMMAND),
        "sweep",
        str(folder / "sweep.yaml"),
        "--store",
        str(folder / "runs.db"),
        "--json",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(folder: Path) -> dict:
    out, err = start(folder).communicate(timeout=240)
    assert out, err.decode()
    return json.loads(out)


def answers(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "runs.db") as connection:
        rows = connection.execute("SELECT key, answer FROM trials ORDER BY key").fetchall()
    connection.close()
    return rows


def stored(folder: Path) -> int:
    if not (folder / "runs.db").exists():
        return 0
    connection = sqlite3.connect(folder / "runs.db")
    try:
        return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # killed before the tables were made
    finally:
        connection.close()


def test_a_killed_sweep_ends_with_the_trials_of_an_undisturbed_one(tmp_path, embedded_models):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
        (folder / "sweep.yaml").write_text(SWEEP)
    whole = finish(undisturbed)
    assert (whole["total"], whole["called"], whole["failed"]) == (6, 6, 0)

    chance = random.Random(4)
    called = 0
    for _ in range(KILLS):
        before = stored(killed)
        process = start(killed)
        while stored(killed) == before:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 1.5))  # about as long as a trial takes
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert stored(killed) >= before, "what was stored stays stored"
        called += stored(killed) - before
    rest = finish(killed)
    assert called + rest["called"] == 6, "no trial was run to its end twice"
    assert rest["run_id"] == whole["run_id"]
    assert answers(killed) == answers(undisturbed), (
        "same trials, and in one slot without cache the same answers"
    )
    assert finish(killed)["called"] == 0
