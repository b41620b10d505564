"""A notebook served by Voila, in a real browser."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from browser import chromium, open_page, voila
from test_lab import write_notebook

COUNTER = """\
import ipywidgets as widgets

button, told = widgets.Button(description="Count"), widgets.Label("counted 0")
counts = []


def count(_):
    counts.append(1)
    told.value = f"counted {len(counts)}"


button.on_click(count)
widgets.VBox([button, told])
"""


def test_a_widget_answers_and_nothing_is_served_without_the_token(tmp_path: Path) -> None:
    chromium()
    notebook = tmp_path / "counter.ipynb"
    write_notebook(notebook, COUNTER)
    with voila(notebook, tmp_path / "voila") as server:
        with open_page(tmp_path) as page:
            page.goto(server.address())
            page.get_by_role("button", name="Count").click()
            page.get_by_text("counted 1").wait_for()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/voila/static/", timeout=5)
        assert refused.value.code in (403, 404)
