"""The sweep view and the inspector in a real JupyterLab: buttons, keys, what a reader of screens gets."""

from __future__ import annotations

from pathlib import Path

import nbformat

from browser import (
    ROOT,
    jupyterlab,
    open_notebook,
    open_page,
    run_all_cells,
    scrolls_sideways,
)
from soma_bench.sweeps.store import Store
from test_inspector import HOSTILE

SWEEP = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_inspector import SUITES, script
from test_sweep_view import declared, pool_of
from soma_bench.widgets import SweepView, TrialInspector

view = SweepView(
    declared(
        suites={{
            "alignment": str(SUITES / "alignment.jsonl"),
            "radiologist": str(SUITES / "radiologist-generated.jsonl"),
        }}
    ),
    store={store!r},
    providers=pool_of(lambda request: time.sleep(0.1) or script(request)),
)
view
"""
INSPECTOR = "outcome = view.wait(); TrialInspector(store={store!r})"


def test_a_sweep_is_paused_and_its_trials_looked_into_by_keys_alone(tmp_path: Path) -> None:
    folder, store = tmp_path / "notebooks", str(tmp_path / "runs.db")
    folder.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for name, cell in (("sweep", SWEEP), ("trials", None)):
        source = (cell or SWEEP.replace("\nview\n", "\n") + INSPECTOR).format(
            tests=str(ROOT / "tests"), store=store
        )
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source)], metadata=kernel
        )
        nbformat.write(notebook, folder / f"{name}.ipynb")
    with jupyterlab(folder, tmp_path / "lab") as lab, open_page(tmp_path) as page:
        open_notebook(page, lab, "sweep.ipynb")
        assert run_all_cells(page) == []
        page.get_by_role("button", name="Pause").press("Enter")
        page.get_by_text("Paused: the trial in flight").wait_for()
        page.get_by_role("button", name="Resume").press("Enter")
        page.get_by_text("24 of 24 trials").wait_for()
        page.get_by_text("Done", exact=True).wait_for()
        assert page.locator(".soma-sweep tbody tr").count() == 8
        assert not scrolls_sideways(page)

        open_notebook(page, lab, "trials.ipynb")
        assert run_all_cells(page) == []
        page.get_by_text("1 to 24 of 24 trials").wait_for()
        page.get_by_label("Answer, thinking or error contains").fill("onerror")
        page.keyboard.press("Enter")
        page.get_by_text("1 to 12 of 12 trials").wait_for()
        page.get_by_role("button", name="Open radiologist-g-").first.press("Enter")
        answer = page.get_by_label("answer", exact=True)
        answer.wait_for()
        assert answer.text_content() == HOSTILE
        page.get_by_role("img", name="image 1 of case radiologist-g-").wait_for()
        heading = page.locator(".trial h3")
        assert heading.evaluate("node => node === document.activeElement")
        page.get_by_label("Compare with another answer to this case").select_option(index=1)
        page.locator(".trial mark").first.wait_for()
        assert not scrolls_sideways(page)
    with Store(store) as opened:
        assert len(opened.finished_keys(opened.find_run("latest").id)) == 24
