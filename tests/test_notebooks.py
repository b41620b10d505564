"""The notebooks, run as papermill runs them, on a small sweep of the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
NAMES = ("01_sweep", "02_compare", "03_tune_and_export")
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
options: {{seed: 1, context_tokens: 2048, cache_prompt: true}}
"""


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.model
def test_the_notebooks_run_in_order_and_write_the_profile(tmp_path: Path, embedded_models) -> None:
    sweep = tmp_path / "small.yaml"
    sweep.write_text(SWEEP)
    store = str(tmp_path / "runs.db")
    first = execute("01_sweep", tmp_path, sweep_file=str(sweep), store=store)
    assert "10 were run now, of which 0 failed" in printed(first)
    again = execute("01_sweep", tmp_path, sweep_file=str(sweep), store=store)
    assert "0 were run now, of which 0 failed" in printed(again)

    compared = execute("02_compare", tmp_path, run="small", store=store)
    assert "10 of 10 trials have ended" in printed(compared)
    assert pictures(compared) == 2

    tuned = execute(
        "03_tune_and_export",
        tmp_path,
        run="small",
        store=store,
        profile_name="small",
        profiles_folder=str(tmp_path / "profiles"),
        exports_folder=str(tmp_path / "exports"),
    )
    assert pictures(tuned) == 3
    profile = json.loads((tmp_path / "profiles" / "small.json").read_text())
    assert profile["name"] == "small"
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == [
        "small.config.mjs",
        "small.env",
        "small.json",
    ]

    with pytest.raises(papermill.PapermillExecutionError, match="parameters: sample_agent"):
        execute("02_compare", tmp_path, run="small", store=store, sample_agent="surgeon")


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
