"""The committed notebooks: without outputs and logic, and killed in the middle of a sweep."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest

from notebook_outputs import NOTEBOOKS, QUIET, execute, printed
from soma_bench.sweeps.spec import Sweep

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("0*.ipynb"))
SUITES = ROOT / "data" / "suites"
KILLED = f"""\
name: killed
suites: {{alignment: {SUITES}/alignment.jsonl}}
cases_per_agent: 4
targets:
  - {{provider: llamacpp, model: smollm2-135m-instruct-q4_1, thinking: [off]}}
options: {{seed: 2, context_tokens: 1024}}
"""


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
    assert "is complete: 4 trials" in shown
    assert stored(tmp_path) == 4
    rows = sqlite3.connect(tmp_path / "runs.db")
    counts = rows.execute("SELECT count(*), count(DISTINCT key) FROM run_trials").fetchone()
    rows.close()
    assert counts == (4, 4)


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


def test_a_sweep_may_be_declared_field_by_field_in_parameters() -> None:
    notebook = nbformat.read(NOTEBOOKS / "01_sweep.ipynb", as_version=4)
    parameters = next(
        c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])
    )
    assert all(f"\n{field}: " in parameters for field in Sweep.model_fields)
    passed_on = next(cell.source for cell in notebook.cells if "declared=" in cell.source)
    for field in Sweep.model_fields:
        assert f'"{field}": {field},' in passed_on


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
