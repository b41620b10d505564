"""The tuner as people meet it: in JupyterLab and Voila, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Server, chromium, jupyterlab, open_notebook, open_page, run_all_cells, voila
from browser import scrolls_sideways as page_scrolls_sideways
from soma_bench.routing.profile import load_profile, resolve
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS
from stored_runs import store_run

ROOT = Path(__file__).parent.parent
SHOTS = os.environ.get("SOMA_BENCH_SCREENSHOTS")
"""A folder to keep pictures in, to be looked at."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks beside a store with a drawn run, as in a checkout."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("notebooks", "routing_profiles"):
        (root / name).mkdir()
    shutil.copy(ROOT / "notebooks" / "tuner.ipynb", root / "notebooks")
    notebook = json.loads((ROOT / "notebooks" / "03_tune_and_export.ipynb").read_text())
    cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ()))
    cell["source"] = (
        "".join(cell["source"]).replace('"demo"', '"drawn"').replace(', "memory_gib": 4.0', "")
    )
    (root / "notebooks" / "03_tune_and_export.ipynb").write_text(json.dumps(notebook))
    with Store(str(root / "reports" / "runs.db"), create=True) as store:
        store_run(store, models=17, cases=2)
    return root


@pytest.fixture(scope="module")
def lab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    chromium()
    with jupyterlab(folder, tmp_path_factory.mktemp("lab")) as server:
        yield server


def ready(page: Any) -> Any:
    """The tuner, once it shows an answer to what its form says."""
    tuner = page.locator(".soma-tuner")
    tuner.get_by_text("up to date").wait_for()
    return tuner


def keep(tuner: Any, name: str) -> None:
    if SHOTS:
        tuner.screenshot(path=Path(SHOTS) / f"{name}.png")


def primaries(tuner: Any) -> list[str]:
    cells = tuner.locator("tr.st-primary td:nth-child(2)")
    return [cells.nth(place).get_attribute("title") for place in range(cells.count())]


def overflowing(tuner: Any) -> list[str]:
    """Texts that are wider than their place."""
    found: list[str] = tuner.evaluate(
        """tuner => [...tuner.querySelectorAll('th, td, legend, label, button, summary, caption')]
            .filter(node => node.scrollWidth > node.clientWidth + 1 && node.clientWidth)
            .map(node => node.textContent)"""
    )
    return found


def unlabelled(tuner: Any) -> list[str]:
    """Controls without a name that a screen reader reads."""
    found: list[str] = tuner.evaluate(
        """tuner => [...tuner.querySelectorAll('input, select, button, progress')]
            .filter(node => !(node.getAttribute('aria-label') || node.labels?.length
                || node.textContent.trim()))
            .map(node => node.outerHTML)"""
    )
    return found


def test_sliders_change_the_table_and_the_export_is_what_was_shown(
    lab: Server, folder: Path, tmp_path: Path
) -> None:
    with open_page(tmp_path, height=2200) as page:
        open_notebook(page, lab, "notebooks/03_tune_and_export.ipynb")
        assert run_all_cells(page) == []
        tuner = ready(page)
        before = primaries(tuner)
        assert len(before) == len(AGENTS)

        slider = tuner.get_by_role("slider", name="Latency limit in s")
        slider.focus()
        page.keyboard.press("Home")
        ready(page)
        assert "Nothing fits" in tuner.locator(".st-verdict").inner_text()
        tuner.get_by_label("Latency limit in s, exact").fill("9")
        ready(page)
        tuner.get_by_text("Chosen: quality").wait_for()
        after = primaries(tuner)
        assert after != before
        assert float(slider.input_value()) == pytest.approx(9, abs=0.5)

        tuner.get_by_label("Profile's name").fill("by-hand")
        tuner.get_by_role("button", name="Export").click()
        tuner.get_by_text("by-hand.json: written").wait_for()
        profile = load_profile(folder / "routing_profiles" / "by-hand.json")
        assert [str(resolve(profile, agent).primary) for agent in AGENTS] == after
        assert profile.constraints.max_latency_s == 9

        tuner.locator(".st-on-edge").first.wait_for()
        assert unlabelled(tuner) == []
        for width in (1280, 1920):
            page.set_viewport_size({"width": width, "height": 2200})
            page.wait_for_timeout(300)
            assert overflowing(tuner) == []
            assert not page_scrolls_sideways(page)
            assert tuner.evaluate("tuner => tuner.scrollWidth <= tuner.clientWidth")
            keep(tuner, f"lab-{width}")


def test_voila_serves_the_same_tuner_and_the_last_move_is_what_stays(
    folder: Path, tmp_path: Path
) -> None:
    chromium()
    with (
        voila(folder / "notebooks" / "tuner.ipynb", tmp_path / "voila") as server,
        open_page(tmp_path, height=1800, dark=True) as page,
    ):
        page.goto(server.address())
        tuner = ready(page)
        ink, paper = tuner.evaluate(
            "tuner => [getComputedStyle(tuner).color, getComputedStyle(tuner).backgroundColor]"
        )
        assert brightness(ink) > brightness(paper)

        tuner.get_by_role("checkbox", name="Set a limit: Latency limit").check()
        number = tuner.get_by_label("Latency limit in s, exact")
        for limit in range(30, 11, -1):
            number.fill(str(limit))
        ready(page)
        assert "p95 latency 12 s" in tuner.locator(".st-verdict").inner_text()
        moves = page.evaluate(
            "() => performance.getEntriesByName('soma-tuner:move').map(move => move.duration)"
        )
        assert moves
        assert all(duration > 0 for duration in moves)

        tuner.get_by_role("button", name="Fastest").click()
        page.wait_for_function(
            "document.querySelector('.st-wide:has(option[value=weights]) select').value"
            " === 'latency,quality,cost'"
        )
        ready(page)
        assert not page_scrolls_sideways(page)
        keep(tuner, "voila-dark")


def brightness(colour: str) -> float:
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")]
    return sum(parts[:3])
