"""Running a notebook without eyes, so that its outcome can be relied on.

papermill runs these notebooks too. What is different here: wrong names and types of parameters are
refused before a kernel starts; a file under the name that was asked for is a whole run; a run that
failed or was stopped is kept under another name and says so inside; nothing that it started is left.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from soma_bench.errors import ConfigError
from soma_bench.files import read_text, write_atomically
from soma_bench.notebooks.html import notebook_html
from soma_bench.notebooks.kernel import running_kernel, stopped_by_signals
from soma_bench.notebooks.parameters import (
    check_parameters,
    declared_parameters,
    set_parameters,
)
from soma_bench.notebooks.verdict import NotPassedError
from soma_bench.sweeps.store import StoreMissingError

DEFAULT_FOLDER = Path("reports")

OnCell = Callable[[int, int], None]
Status = Literal["done", "no", "refused", "failed"]

_EXIT_CODES: Mapping[Status, int] = {"done": 0, "no": 1, "refused": 2, "failed": 3}
_BAD_INPUT = frozenset({ConfigError.__name__, StoreMissingError.__name__})
_PASSWORD = re.compile(r"(://[^:/@\s\"']+:)[^@/\s\"']+@")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run of a notebook ended."""

    status: Status
    """``done``; ``no``: all cells ran and the last one says that the answer is no; ``refused``: a
    cell found its input bad; ``failed``: a cell raised any other error, or the kernel died."""
    notebook: Path
    """The executed notebook; under another name than was asked for where it is not whole."""
    html: Path | None
    """The same as a page, where one was asked for."""
    seconds: float
    error: str | None = None
    """Of a run that is not done: the error's last line."""
    cell: int | None = None
    """And the number of the code cell that raised it, as its ``In [n]`` has it."""

    @property
    def exit_code(self) -> int:
        """What a command ends with: 0 done, 1 no, 2 refused, 3 failed."""
        return _EXIT_CODES[self.status]


def run_notebook(
    path: str | Path,
    params: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    html: bool = False,
    cwd: str | Path | None = None,
    cell_timeout_s: float | None = None,
    on_cell: OnCell = lambda _, __: None,
) -> Outcome:
    """Execute a notebook with these parameters and keep it with its outputs.

    While it runs it stands at ``OUT.running.ipynb``. It moves to ``out`` when all cells have run; if
    it fails or is stopped, to ``OUT.failed.ipynb``. What stood at ``out`` before is
    ``OUT.previous.ipynb`` meanwhile, and goes when the run is whole.

    Args:
        path: the notebook.
        params: values by name; each must be declared in the cell tagged ``parameters``.
        out: where to keep it; in ``reports/`` under its own name by default.
        html: also write it as one HTML file beside ``out``.
        cwd: the kernel's working folder; this process's by default.
        cell_timeout_s: longest time of a cell; no limit by default.
        on_cell: told the number of each code cell as it begins, and how many there are.

    Raises:
        ConfigError: the notebook cannot be read, a parameter has an unknown name or another type, or
            a file cannot be written. No kernel was started, except for the last.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; no process is left.
    """
    source = Path(path)
    notebook = _prepared(source, params or {})
    files = _Files(Path(out) if out else DEFAULT_FOLDER / source.name, html=html)
    if files.out.resolve() == source.resolve():
        raise ConfigError(f"{source}: would be replaced by its own outputs; name another by --out")
    folder = Path(cwd or ".")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder to run in")
    files.begin(notebook)
    started = time.monotonic()
    try:
        with stopped_by_signals():
            status, error, cell = _execute(notebook, files, folder, cell_timeout_s, on_cell)
    except BaseException as stop:
        files.fail(notebook, f"was stopped: {type(stop).__name__}")
        raise
    if status in ("done", "no"):
        written = files.finish(notebook, status)
    else:
        written = files.fail(notebook, f"ended in cell {cell}: {error}")
    return Outcome(
        status=status,
        notebook=written,
        html=written.with_suffix(".html") if html else None,
        seconds=time.monotonic() - started,
        error=error,
        cell=cell,
    )


def _prepared(source: Path, params: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The notebook with its parameters and without the outputs of an earlier run."""
    notebook = load_notebook(source)
    declared = declared_parameters(notebook, str(source))
    values = check_parameters(declared, params, str(source))
    if values:
        set_parameters(notebook, values)
    _without_outputs(notebook)
    return notebook


def load_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook.

    Raises:
        ConfigError: it cannot be read or is none.
    """
    text = read_text(path)
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path}: is not a notebook: {reason}") from error
    return notebook


def _execute(
    notebook: nbformat.NotebookNode,
    files: _Files,
    folder: Path,
    cell_timeout_s: float | None,
    on_cell: OnCell,
) -> tuple[Status, str | None, int | None]:
    """Run all cells; how it ended, the error's last line, and the number of its cell."""
    code = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    number = 0
    try:
        with running_kernel(notebook, folder, cell_timeout_s=cell_timeout_s) as client:
            for number, place in enumerate(code, start=1):
                on_cell(number, len(code))
                client.execute_cell(notebook.cells[place], place)
                files.keep(notebook)
            client.set_widgets_metadata()
    except CellExecutionError as error:
        return _status(error, is_last=number == len(code)), _one_line(error), number
    except NoSuchKernel as error:
        return "refused", f"no kernel is called {error.name}; install ipykernel for it", number
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
        reason = _COLOUR.sub("", str(error)).strip().splitlines()
        return "failed", f"the kernel: {reason[0] if reason else 'died'}", number
    return "done", None, None


def _status(error: CellExecutionError, *, is_last: bool) -> Status:
    if error.ename == NotPassedError.__name__ and is_last:
        return "no"
    return "refused" if error.ename in _BAD_INPUT else "failed"


def _one_line(error: CellExecutionError) -> str:
    lines = _COLOUR.sub("", error.evalue).splitlines()
    return f"{error.ename}: {lines[0] if lines else ''}"


def _without_outputs(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


class _Files:
    """Where a run is kept as it goes on; nothing stands at ``out`` but a whole run."""

    def __init__(self, out: Path, *, html: bool) -> None:
        self.out = out
        self._failed = out.with_name(f"{out.stem}.failed.ipynb")
        self._running = out.with_name(f"{out.stem}.running.ipynb")
        self._previous = out.with_name(f"{out.stem}.previous.ipynb")
        self._html = html

    def begin(self, notebook: nbformat.NotebookNode) -> None:
        """Clear the names that this run may end under."""
        if self.out.suffix != ".ipynb":
            raise ConfigError(f"{self.out}: must end in .ipynb")
        self._mark(notebook, "running")
        self.keep(notebook)
        _remove(self._failed)
        for old, kept in zip(_pair(self.out), _pair(self._previous), strict=True):
            if old.exists():
                old.replace(kept)

    def keep(self, notebook: nbformat.NotebookNode) -> None:
        """Write what has been run so far."""
        write_atomically(self._running, _text(notebook))

    def finish(self, notebook: nbformat.NotebookNode, status: Status) -> Path:
        """Keep a whole run, and say where."""
        self._mark(notebook, status)
        self._write(notebook, self.out)
        _remove(self._previous)
        return self.out

    def fail(self, notebook: nbformat.NotebookNode, reason: str) -> Path:
        """Keep a run that is not whole, where nobody takes it for one, and say where."""
        self._mark(notebook, "failed")
        notice = f"**This run is not whole.** It {reason}"
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(notice))
        self._write(notebook, self._failed)
        return self._failed

    def _write(self, notebook: nbformat.NotebookNode, path: Path) -> None:
        text = _text(notebook)
        if self._html:
            page = notebook_html(nbformat.reads(text, as_version=4), path.stem)
            write_atomically(path.with_suffix(".html"), page)
        write_atomically(path, text)
        self._running.unlink(missing_ok=True)

    @staticmethod
    def _mark(notebook: nbformat.NotebookNode, status: str) -> None:
        notebook.metadata["soma_bench"] = {"status": status}


def _pair(path: Path) -> tuple[Path, Path]:
    return path, path.with_suffix(".html")


def _remove(path: Path) -> None:
    for one in _pair(path):
        one.unlink(missing_ok=True)


def _text(notebook: nbformat.NotebookNode) -> str:
    """The notebook's JSON, without the passwords of database URLs that came as parameters."""
    return _PASSWORD.sub(r"\1***@", nbformat.writes(notebook)) + "\n"
