"""The notebooks, run as papermill runs them, on a small sweep of the embedded model."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from soma_bench.comparison import compare_run
from soma_bench.notebooks.run import run_notebook
from soma_bench.providers.quantize import quantize
from soma_bench.routing.constraints import Constraints
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.strict_yaml import parse_yaml
from soma_bench.sweeps.execute import execute_sweep
from soma_bench.sweeps.spec import PlacedSweep, sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.tuning import tune

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("0*.ipynb"))
SUITES = ROOT / "data" / "suites"
SWEEP = f"""\
name: small
suites:
  alignment: {SUITES}/alignment.jsonl
  radiologist: {SUITES}/radiologist.jsonl
  pathologist: {SUITES}/pathologist.jsonl
  report_writer: {SUITES}/report_writer.jsonl
  qc_reviewer: {SUITES}/qc_reviewer.jsonl
cases_per_agent: 1
targets:
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_1
    thinking: [off, 8]
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_0
    thinking: [off]
    agents: [alignment]
options: {{seed: 1, context_tokens: 2048, cache_prompt: true}}
"""
KILLED = f"""\
name: killed
suites: {{alignment: {SUITES}/alignment.jsonl}}
cases_per_agent: 5
targets:
  - {{provider: llamacpp, model: smollm2-135m-instruct-q4_1, thinking: [off]}}
options: {{seed: 2, context_tokens: 1024}}
"""
ALIGNMENT = {"alignment": str(SUITES / "alignment.jsonl")}
QUIET = ("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, embedded_models: Path) -> Path:
    """A folder with a small sweep, measured, and its store."""
    quantize(["Q4_0"], embedded_models)
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yaml").write_text(SWEEP)
    outcome = asyncio.run(execute_sweep(folder / "small.yaml", str(folder / "runs.db")))
    assert (outcome.called, outcome.failed) == (11, 0)
    return folder


def execute(name: str, folder: Path, **parameters: Any) -> nbformat.NotebookNode:
    return papermill.execute_notebook(
        NOTEBOOKS / f"{name}.ipynb",
        folder / f"{name}.ipynb",
        parameters=parameters,
        cwd=NOTEBOOKS,
        progress_bar=False,
        log_output=False,
    )


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    texts = [out.get("text", "") or out.get("data", {}).get("text/html", "") for out in outputs]
    return "\n".join(texts)


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return sum("image/png" in out.get("data", {}) for out in outputs)


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.model
def test_the_notebooks_run_in_order_and_write_the_profile(measured: Path) -> None:
    store = str(measured / "runs.db")
    again = execute("01_sweep", measured, sweep_file=str(measured / "small.yaml"), store=store)
    assert "0 were run now, of which 0 failed" in printed(again)
    assert "is complete: 11 trials" in printed(again)
    assert "Ended: 11 of 11 trials" in printed(again), "the view is left as the sweep ended"
    states = again.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    panels = [one["state"]["state"] for one in states.values() if "state" in one["state"]]
    assert [(panel["stage"], panel["ended"]) for panel in panels] == [("done", 11)]

    compared = execute("02_compare", measured, run="small", store=store)
    assert "11 of 11 trials have ended" in printed(compared)
    assert "The 11 trials of run <code>small-" in printed(compared)
    assert pictures(compared) == 2

    tuned = execute(
        "03_tune_and_export",
        measured,
        run="small",
        store=store,
        profile_name="small",
        profiles_folder=str(measured / "profiles"),
        exports_folder=str(measured / "exports"),
    )
    assert pictures(tuned) == 3
    profile = json.loads((measured / "profiles" / "small.json").read_text())
    assert profile["name"] == "small"
    assert sorted(path.name for path in (measured / "exports").iterdir()) == [
        "small.config.mjs",
        "small.env",
        "small.json",
    ]


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.model
def test_the_gates_notebook_says_yes_and_no(measured: Path) -> None:
    """The run against its own profile passes; a run without most agents does not."""
    store = str(measured / "runs.db")
    with Store(store) as opened:
        routing = tune(
            compare_run(opened, "small"),
            Constraints(allow_synthetic=True),
            pipeline="sequential",
            name="held",
        ).routing
    assert isinstance(routing, Profile)
    save_profile(routing, measured / "held.json")
    asked = {"store": store, "baseline": str(measured / "held.json")}
    passed = execute("08_ci_gate", measured, run="small", **asked)
    assert "The gate is passed" in printed(passed)

    part = sweep_from({**parse_yaml(SWEEP, "small"), "name": "part", "suites": ALIGNMENT}, "part")
    ended = asyncio.run(execute_sweep(PlacedSweep(part, measured), store))
    assert ended.called == 0, "its trials are those of the whole sweep"
    outcome = run_notebook(
        NOTEBOOKS / "08_ci_gate.ipynb", {"run": "part", **asked}, out=measured / "no.ipynb"
    )
    assert (outcome.status, outcome.exit_code) == ("no", 1)
    assert "the gate is not passed" in (outcome.error or "")


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "parameters", "figures", "words"),
    [
        ("00_quickstart", {"sweep_file": "small.yaml"}, 1, ["0 were run now", "llamacpp"]),
        ("04_latency", {"run": "small", "analyses": 0}, 3, ["prefill (s)", "not measured"]),
        ("05_thinking", {"run": "small"}, 1, ["quality for 100 tokens", "thinking 8"]),
        (
            "06_quantization",
            {"run": "small"},
            2,
            ["bits per weight", "q4_0?thinking=off\N{NO-BREAK SPACE}*"],
        ),
    ],
)
def test_a_notebook_shows_what_was_measured(
    measured: Path, name: str, parameters: dict[str, Any], figures: int, words: list[str]
) -> None:
    given = {
        key: str(measured / value) if key == "sweep_file" else value
        for key, value in parameters.items()
    }
    outcome = run_notebook(
        NOTEBOOKS / f"{name}.ipynb",
        {"store": str(measured / "runs.db"), **given},
        out=measured / f"{name}.ipynb",
        cwd=NOTEBOOKS,
    )
    assert outcome.error is None
    shown = nbformat.read(outcome.notebook, as_version=4)
    assert pictures(shown) == figures
    for word in words:
        assert word in printed(shown)


@pytest.mark.filterwarnings(*QUIET)
def test_a_name_that_the_notebook_does_not_have_is_refused_by_plain_papermill_too(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="there is no repeat; there are"):
        execute("01_sweep", tmp_path, repeat=5)


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.model
def test_a_sweep_killed_in_papermill_is_completed_from_its_file_and_nothing_is_twice(
    tmp_path: Path, embedded_models: Path
) -> None:
    """Killed once in papermill (SIGKILL) and once in soma-bench (SIGTERM), from the project's folder."""
    file, store = tmp_path / "killed.yaml", str(tmp_path / "runs.db")
    file.write_text(KILLED)
    whole = ["-f", str(file), "-p", "store", store]
    here = Path(sys.executable).parent
    sweep = str(NOTEBOOKS.relative_to(ROOT) / "01_sweep.ipynb")
    out = str(tmp_path / "out.ipynb")
    by_papermill = [str(here / "papermill"), sweep, out, *whole, "--no-progress-bar"]
    by_us = [sys.executable, "-m", "soma_bench", "notebook", sweep, "--out", out, *whole]
    seen = [0]
    for command, number in ((by_papermill, signal.SIGKILL), (by_us, signal.SIGTERM)):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while stored(tmp_path) <= seen[-1]:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(number)
        process.wait(timeout=120)
        seen.append(stored(tmp_path))
    assert not (tmp_path / "out.ipynb").exists(), "what was stopped does not look done"
    finished = subprocess.run(
        [*by_us, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    shown = printed(nbformat.read(tmp_path / "out.ipynb", as_version=4))
    assert "killed" in shown
    assert "is complete: 5 trials" in shown
    assert stored(tmp_path) == 5
    rows = sqlite3.connect(tmp_path / "runs.db")
    counts = rows.execute("SELECT count(*), count(DISTINCT key) FROM run_trials").fetchone()
    rows.close()
    assert counts == (5, 5)


def stored(folder: Path) -> int:
    """Trials in the store; none while it is being made."""
    if not (folder / "runs.db").exists():
        return 0
    connection = sqlite3.connect(folder / "runs.db")
    try:
        return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_without_outputs_and_holds_no_logic(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    tags = [cell.metadata.get("tags") for cell in notebook.cells if cell.cell_type == "code"]
    assert tags.count(["parameters"]) == 1
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        if cell.cell_type == "code":
            assert "def " not in cell.source
            assert "class " not in cell.source


def test_outputs_in_a_committed_notebook_are_found_out(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "01_sweep.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="left behind")]
    dirty = tmp_path / "dirty.ipynb"
    nbformat.write(notebook, dirty)
    command = [str(Path(sys.executable).with_name("nbstripout")), "--verify"]
    clean = [str(NOTEBOOKS / f"{name}.ipynb") for name in NAMES]
    assert subprocess.run([*command, *clean], check=False).returncode == 0
    assert subprocess.run([*command, str(dirty)], capture_output=True, check=False).returncode == 1
