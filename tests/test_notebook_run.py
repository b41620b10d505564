"""Running a notebook without eyes: what is refused, what is kept under which name, what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from soma_bench.cli.notebook import notebook as command
from soma_bench.errors import ConfigError
from soma_bench.notebooks.html import notebook_html
from soma_bench.notebooks.parameters import declared_parameters, read_parameters, set_parameters
from soma_bench.notebooks.places import found_from_here, store_from_here
from soma_bench.notebooks.run import run_notebook

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

ROOT = Path(__file__).parent.parent
PARAMETERS = """\
run: str = "demo"
count: int = 1
rate: float = 0.5
fresh: bool = False
floors: dict[str, float] = {}
limit: float | None = None
note: str | None = None
order: Literal["sequential", "parallel"] = "sequential"
"""


def make(folder: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook with these cells behind its parameters."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    if "Literal" in parameters:
        first.source = f"from typing import Literal\n{parameters}"
    written = nbformat.v4.new_notebook(
        cells=[first, *map(nbformat.v4.new_code_cell, cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    path = folder / "study.ipynb"
    nbformat.write(written, path)
    return path


@pytest.fixture
def no_kernel(monkeypatch):
    """Fails the test if a kernel would be started."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("soma_bench.notebooks.run.running_kernel", refuse)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"rum": "demo"}, "has no parameter 'rum'; it has: run, count"),
        ({"run": 7}, "parameter run: must be str, not 7"),
        ({"count": 1.5}, "parameter count: must be int"),
        ({"count": True}, "parameter count: must be int"),
        ({"count": "3"}, "parameter count: must be int"),
        ({"rate": float("nan")}, "parameter rate: must be float"),
        ({"rate": "1e-3"}, "parameter rate: must be float"),
        ({"fresh": "yes"}, "parameter fresh: must be bool"),
        ({"floors": {"radiologist": "high"}}, "parameter floors: must be dict"),
        ({"limit": "none"}, "parameter limit: must be float"),
        ({"order": "sideways"}, "parameter order: must be Literal"),
    ],
)
def test_a_wrong_name_or_type_is_refused_before_a_kernel_starts(
    tmp_path, no_kernel, given, problem
):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        run_notebook(make(tmp_path), given, out=tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("1e-3", "rate", 0.001),
        ("2", "rate", 2.0),
        ("yes", "run", "yes"),
        ("1e-3", "run", "1e-3"),
        ("null", "note", None),
        ("0o7", "note", "0o7"),
        ("true", "fresh", True),
        ("{radiologist: 0.5}", "floors", {"radiologist": 0.5}),
        ("null", "limit", None),
        ("parallel", "order", "parallel"),
    ],
)
def test_a_value_on_the_command_line_is_what_it_looks_like(tmp_path, text, name, value):
    declared = declared_parameters(nbformat.read(make(tmp_path), as_version=4), "study")
    assert read_parameters(declared, [(name, text)], None, "study") == {name: value}


@settings(deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8")),
    number=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_text_and_any_number_reach_the_notebook_as_they_are(text, number):
    first = nbformat.v4.new_code_cell("text = number = both = 0", metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell("done = True")])
    values = {"text": text, "number": number, "both": {"a": [text, number, None, True]}}
    set_parameters(book, values)
    scope: dict[str, Any] = {}
    for cell in book.cells:
        exec(cell.source, scope)
    assert {name: scope[name] for name in values} == values
    assert scope["done"]


def test_a_parameters_file_is_yaml_1_2_and_the_command_line_wins(tmp_path):
    declared = declared_parameters(nbformat.read(make(tmp_path), as_version=4), "study")
    file = tmp_path / "p.yaml"
    file.write_text("run: off\nrate: 1e-3\ncount: 2\n")
    values = read_parameters(declared, [("count", "3")], file, "study")
    assert values == {"run": "off", "rate": 0.001, "count": 3}
    file.write_text("run: 12\n")
    with pytest.raises(ConfigError, match="in quotes"):
        read_parameters(declared, [], file, "study")
    with pytest.raises(ConfigError, match="given twice"):
        read_parameters(declared, [("count", "1"), ("count", "2")], None, "study")


def test_an_annotation_that_cannot_be_checked_is_named(tmp_path):
    path = make(tmp_path, parameters="target: Target = None")
    with pytest.raises(ConfigError, match="parameter target: its annotation Target cannot"):
        run_notebook(path, {}, out=tmp_path / "out.ipynb")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"cells": 3, "nbformat": 4}', "not json"])
def test_a_file_that_is_no_notebook_is_bad_input(tmp_path, text):
    path = tmp_path / "study.ipynb"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a notebook"):
        run_notebook(path, out=tmp_path / "out.ipynb")


def test_a_whole_run_is_kept_with_its_outputs_as_notebook_and_page(tmp_path):
    path = make(
        tmp_path,
        "import os\nprint(run, rate, floors, os.getcwd() == folder)",
        "from IPython.display import HTML\nHTML('<b>bold</b>')",
        parameters=f"{PARAMETERS}folder: str = ''\nstore: str = ''\n",
    )
    outcome = run_notebook(
        path,
        {
            "run": "off",
            "rate": 1,
            "floors": {"a": 0.5},
            "folder": str(tmp_path),
            "store": "postgresql+psycopg://me:geheim@host/db",
        },
        out=tmp_path / "kept" / "out.ipynb",
        html=True,
        cwd=tmp_path,
    )
    assert (outcome.status, outcome.exit_code, outcome.error) == ("done", 0, None)
    text = outcome.notebook.read_text()
    kept = nbformat.reads(text, as_version=4)
    assert kept.cells[2].outputs[0].text == "off 1.0 {'a': 0.5} True\n"
    assert kept.metadata.soma_bench.status == "done"
    page = outcome.html.read_text()
    assert "<b>bold</b>" in page
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=|@import|url\(\s*['\"]?http", page)
    assert "geheim" not in text + page
    assert sorted(p.name for p in outcome.notebook.parent.iterdir()) == ["out.html", "out.ipynb"]


@pytest.mark.parametrize(
    ("cell", "status", "code", "error"),
    [
        ("1/0", "failed", 3, "ZeroDivisionError: division by zero"),
        (
            "class ConfigError(Exception): ...\nraise ConfigError('no run')",
            "refused",
            2,
            "ConfigError: no run",
        ),
        ("import os\nos._exit(3)", "failed", 3, "the kernel: Kernel died"),
    ],
)
def test_a_run_that_is_not_whole_cannot_look_done(tmp_path, cell, status, code, error):
    out = tmp_path / "out.ipynb"
    out.write_text("an earlier run")
    path = make(tmp_path, "print('first')", cell, "print('never')")
    outcome = run_notebook(path, out=out, html=True)
    assert (outcome.status, outcome.exit_code, outcome.cell) == (status, code, 3)
    assert outcome.error == error
    assert not out.exists()
    assert (tmp_path / "out.previous.ipynb").read_text() == "an earlier run"
    assert outcome.notebook == tmp_path / "out.failed.ipynb"
    kept = nbformat.read(outcome.notebook, as_version=4)
    assert kept.metadata.soma_bench.status == "failed"
    assert kept.cells[0].source.startswith("**This run is not whole.**")
    assert kept.cells[2].outputs[0].text == "first\n"
    assert "This run is not whole." in outcome.html.read_text()

    assert run_notebook(make(tmp_path, "print('good')"), out=out).status == "done"
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.ipynb"], (
        "a whole run leaves nothing of the failed one, nor of those before"
    )


@pytest.mark.parametrize(
    ("cells", "code", "name"),
    [
        (["{no}"], 1, "out.ipynb"),
        (["{no}", "print('after')"], 3, "out.failed.ipynb"),
    ],
)
def test_a_no_of_the_last_cell_is_an_answer_and_no_failure(tmp_path, cells, code, name):
    no = "class NotPassedError(Exception): ...\nraise NotPassedError('1 worse')"
    path = make(tmp_path, *(cell.replace("{no}", no) for cell in cells))
    ended = CliRunner().invoke(command, [str(path), "--out", str(tmp_path / "out.ipynb"), "--json"])
    assert ended.exit_code == code
    told = json.loads(ended.stdout)
    assert Path(told["notebook"]).name == name
    assert told["error"] == "NotPassedError: 1 worse"


def started_children(marker: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if marker in _command_line(p)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_no_process_and_no_finished_notebook(tmp_path, number):
    marker = f"soma-test-{os.getpid()}-{number}"
    child = f"[sys.executable, '-c', 'import time; time.sleep(600)', '{marker}']"
    path = make(
        tmp_path,
        "import subprocess, sys\n"
        f"for apart in (False, True):\n"
        f"    subprocess.Popen({child}, stderr=subprocess.DEVNULL, start_new_session=apart)\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()",
        "import time\ntime.sleep(600)",
    )
    arguments = [sys.executable, "-m", "soma_bench", "notebook", str(path)]
    process = subprocess.Popen(
        [*arguments, "--out", str(tmp_path / "out.ipynb")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kernels = psutil.Process(process.pid).children(recursive=True)
    assert len(started_children(marker)) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    told = [f"study: cell {cell} of 3" for cell in (1, 2, 3)]
    assert [line for line in err.split("\n") if line] == [*told, "stopped"]
    assert not started_children(marker)
    assert not any(kernel.is_running() for kernel in kernels)
    assert not (tmp_path / "out.ipynb").exists()
    kept = nbformat.read(tmp_path / "out.failed.ipynb", as_version=4)
    assert "was stopped" in kept.cells[0].source


def test_a_kernel_that_is_not_there_is_named(tmp_path):
    path = make(tmp_path)
    book = nbformat.read(path, as_version=4)
    book.metadata.kernelspec.name = "julia-9"
    nbformat.write(book, path)
    outcome = run_notebook(path, out=tmp_path / "out.ipynb")
    assert (outcome.status, outcome.exit_code) == ("refused", 2)
    assert "no kernel is called julia-9" in (outcome.error or "")


def test_a_page_needs_nothing_from_elsewhere_even_with_a_widget():
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "w",
                outputs=[
                    nbformat.v4.new_output(
                        "display_data",
                        data={
                            "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                            "text/plain": "a slider",
                        },
                    )
                ],
            )
        ],
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}},
    )
    page = notebook_html(book, "study")
    assert "a slider" in page
    assert "<script" not in page


def test_a_path_is_found_from_the_notebooks_folder_and_from_the_one_above(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "there").touch()
    monkeypatch.chdir(tmp_path)
    assert found_from_here(Path("reports/there")) == Path("reports/there")
    assert store_from_here("reports/new.db") == "reports/new.db"
    monkeypatch.chdir(tmp_path / "notebooks")
    assert found_from_here(Path("reports/there")) == Path("../reports/there")
    assert store_from_here("reports/new.db") == "../reports/new.db"
    assert store_from_here("new.db") == "new.db"
    assert store_from_here("postgresql://host/db") == "postgresql://host/db"
    assert found_from_here(Path("nowhere/at/all")) == Path("nowhere/at/all")
