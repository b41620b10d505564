"""A notebook served by Voila as ``make tuner`` serves it, in a real browser."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from browser import chromium, open_page, scrolls_sideways, voila
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


def test_widgets_answer_in_the_readers_colours_and_to_nobody_without_the_token(
    tmp_path: Path,
) -> None:
    chromium()
    notebook = tmp_path / "counter.ipynb"
    write_notebook(notebook, COUNTER)
    with voila(notebook, tmp_path / "voila") as server:
        with open_page(tmp_path, dark=True) as page:
            page.goto(server.address())
            page.get_by_role("button", name="Count").click()
            page.get_by_text("counted 1").wait_for()
            assert not scrolls_sideways(page)
            background = "() => getComputedStyle(document.querySelector('#main')).backgroundColor"
            dark = page.evaluate(background)
            page.emulate_media(color_scheme="light")
            assert (dark, page.evaluate(background)) == ("rgb(33, 33, 33)", "rgb(255, 255, 255)")

        for path in ("", "api/kernels", "voila/render/counter.ipynb"):
            address = f"http://127.0.0.1:{server.port}/{path}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                assert "/login" in answer.url
