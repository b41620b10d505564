"""Notebooks opened by hand: a real JupyterLab in a real browser."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from browser import chromium, jupyterlab, open_notebook, open_page, run_all_cells
from soma_bench.scoring.judge import RubricItem
from soma_bench.scoring.labels import Candidate, draw_sample, load_labels, save_rows
from soma_bench.types import Target

LABELLING = """\
from soma_bench.widgets import LabellingWidget

LabellingWidget("labels.jsonl", "ab")
"""


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, path)


def test_a_page_that_asks_a_stranger_or_throws_fails_its_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failed, open_page(tmp_path) as page:
        page.set_content(
            "<img src='http://stranger.invalid/x.png'><script>throw Error('gone wrong')</script>"
        )
    assert "asked for http://stranger.invalid/x.png" in str(failed.value)
    assert "threw gone wrong" in str(failed.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a label file of three answers, and a notebook that labels it and then fails."""
    folder = tmp_path_factory.mktemp("notebooks")
    candidates = [
        Candidate(trial=f"sha256:{i}", target=Target.parse("ollama:qwen3:8b"), text=f"Answer {i}")
        for i in range(3)
    ]
    items = [RubricItem(id="side", question="Is a side named?")]
    rows, _ = draw_sample(candidates, items, 3, seed=1)
    save_rows(rows, folder / "labels.jsonl")
    write_notebook(folder / "labelling.ipynb", LABELLING, "raise ValueError('no such thing')")
    return folder


@pytest.fixture(scope="module")
def ran(folder, tmp_path_factory):
    """The notebook in JupyterLab, run to its end: the page, and what its cells raised."""
    chromium()
    scratch = tmp_path_factory.mktemp("lab")
    with jupyterlab(folder, scratch) as lab, open_page(scratch) as page:
        open_notebook(page, lab, "labelling.ipynb")
        yield page, run_all_cells(page)


def test_a_cell_that_fails_is_told_by_its_error(ran) -> None:
    assert ran[1] == ["ValueError: no such thing"]


def test_labels_given_by_clicks_are_in_the_file(folder: Path, ran) -> None:
    page = ran[0]
    page.get_by_text("0 of 3 questions answered").wait_for()
    page.get_by_role("button", name="Yes").click()
    page.get_by_text("1 of 3 questions answered").wait_for()
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_text("2 of 3 questions answered").wait_for()
    given = [row.label for row in load_labels(folder / "labels.jsonl") if row.labeller == "ab"]
    assert sorted(given) == [0, 1]
