"""The hardware notebook: runs without any model, is thin, and labels what it shows as predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "07_hardware_plan.ipynb"


def execute(folder: Path, **parameters: Any) -> nbformat.NotebookNode:
    return papermill.execute_notebook(
        NOTEBOOK,
        folder / NOTEBOOK.name,
        parameters=parameters,
        cwd=NOTEBOOK.parent,
        progress_bar=False,
        log_output=False,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_predicts_the_shipped_sweep_without_a_model(tmp_path):
    done = execute(tmp_path)
    outputs = [out for cell in done.cells for out in cell.get("outputs", [])]
    shown = "\n".join(out.get("data", {}).get("text/html", "") for out in outputs)
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 1
    for word in ("predicted", "too slow", "inconsistent with the others", "96.1", "71.5", "plan"):
        assert word in shown, word
    assert "full local" in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_wrong_parameter_is_named(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="parameters: local"):
        execute(tmp_path, local="qwen3")


def test_it_is_committed_without_outputs_and_holds_no_logic():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.metadata.get("tags") for cell in code].count(["parameters"]) == 1
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None
        assert not any(word in cell.source for word in ("def ", "class ", "lambda"))
