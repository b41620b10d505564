"""A real browser on real servers: JupyterLab and Voila on loopback, driven by Playwright.

Everything is a context manager. Playwright's synchronous interface keeps an event loop in the calling
thread, so code inside `open_page` must not call ``asyncio.run``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

ROOT = Path(__file__).parent.parent
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine can be found, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
_LOCAL_SCHEMES = frozenset({"about", "blob", "data", "file"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_START_S, _STOP_S = 60.0, 20.0
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every cell is in the page, also those that are out of sight.
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs on this machine."""

    port: int
    token: str
    log: Path
    """What it prints."""
    pid: int

    def address(self, path: str = "") -> str:
        """The address of a path on the server, token included."""
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"


def chromium() -> str:
    """The system's browser; without one the test is skipped, and fails where ``CI`` is ``true``."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        reason = f"no browser found (looked for {', '.join(_NAMES)}); install Chromium"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def jupyterlab(
    folder: Path,
    scratch: Path,
    *,
    theme: str = "JupyterLab Light",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """JupyterLab with ``folder`` as its root.

    Args:
        folder: where the notebooks are; they are written to when they are saved.
        scratch: an empty folder for settings, runtime files and the log.
        theme: ``JupyterLab Light`` or ``JupyterLab Dark``.
        variables: environment variables for the server and its kernels.
    """
    settings = {**_SETTINGS, "apputils-extension/themes": {"theme": theme}}
    for name, content in settings.items():
        path = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    command = [
        *("-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
        *("--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}"),
    ]
    token = secrets.token_hex(16)
    with _served(command, token, scratch, {**(variables or {}), "JUPYTER_TOKEN": token}) as server:
        yield server


@contextmanager
def voila(
    notebook: Path,
    scratch: Path,
    *,
    theme: str = "light",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Voila serving one notebook in this project's template, as ``make tuner`` does.

    Args:
        notebook: which one.
        scratch: an empty folder for runtime files and the log.
        theme: ``light``, which is dark for readers who prefer it so, or ``dark`` for all.
        variables: environment variables for the server and its kernels.
    """
    token = secrets.token_hex(16)
    command = [
        *("-m", "voila", str(notebook), "--no-browser", "--Voila.ip=127.0.0.1", "--port=0"),
        *(f"--token={token}", "--template=soma", f"--theme={theme}"),
    ]
    template = {"JUPYTER_PATH": str(ROOT / "notebooks")}
    with _served(command, token, scratch, {**template, **(variables or {})}) as server:
        yield server


@contextmanager
def open_page(
    scratch: Path, *, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Any]:
    """A page (`playwright.sync_api.Page`) in a fresh profile of the system's Chromium.

    The test fails when the page asked for anything that is not on this machine, or threw an error.

    Args:
        scratch: a folder; the profile is made in it.
        width: of the window, in CSS pixels.
        height: of the window, in CSS pixels.
        dark: whether the reader prefers dark colours.
    """
    executable = chromium()
    from playwright.sync_api import sync_playwright

    strangers: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(scratch / f"profile-{secrets.token_hex(4)}"),
            executable_path=executable,
            headless=True,
            args=list(_FLAGS),
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        try:
            context.on("request", lambda request: _note_stranger(request.url, strangers))
            context.on("weberror", lambda event: errors.append(str(event.error)))
            page = context.pages[0] if context.pages else context.new_page()
            page.set_default_timeout(60_000)
            yield page
        finally:
            context.close()
    wrong = [f"asked for {address}, which is not on this machine" for address in strangers]
    wrong += [f"threw {error}" for error in errors]
    assert not wrong, f"the page {'; '.join(wrong)}"


def open_notebook(page: Any, lab: Server, path: str) -> None:
    """Show a notebook in JupyterLab and wait until its kernel is ready."""
    # A workspace of its own: what another page had open is not opened again.
    page.goto(lab.address(f"lab/workspaces/{secrets.token_hex(4)}/tree/{path}"))
    page.wait_for_function(
        "path => window.jupyterapp?.shell?.currentWidget?.context?.path === path", arg=path
    )
    page.evaluate(
        """async () => {
            const panel = window.jupyterapp.shell.currentWidget;
            await window.jupyterapp.restored;
            await panel.context.ready;
            await panel.sessionContext.ready;
        }"""
    )


def run_all_cells(page: Any) -> list[str]:
    """Run the notebook that is shown to its end; the errors of its cells, as ``Name: message``."""
    succeeded = page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    found: list[str] = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
            .flatMap(cell => cell.outputs ?? [])
            .filter(output => output.output_type === 'error')
            .map(output => `${output.ename}: ${output.evalue}`)"""
    )
    assert succeeded or found, "the cells did not run"
    return found


def scrolls_sideways(page: Any) -> bool:
    """Whether the page is wider than its window."""
    wide: bool = page.evaluate(
        "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    return wide


def _note_stranger(address: str, strangers: list[str]) -> None:
    parts = urlsplit(address)
    if parts.scheme not in _LOCAL_SCHEMES and parts.hostname not in _LOOPBACK:
        strangers.append(address)


@contextmanager
def _served(
    command: Sequence[str], token: str, scratch: Path, variables: Mapping[str, str]
) -> Iterator[Server]:
    """A server in a process group of its own, stopped with all that it started."""
    scratch.mkdir(parents=True, exist_ok=True)
    log = scratch / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **_own_folders(scratch), **variables},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _port_of(process, log)
        yield Server(port=port, token=token, log=log, pid=process.pid)
    finally:
        _stop(process)


def _own_folders(scratch: Path) -> dict[str, str]:
    """Variables that keep the reader's own Jupyter settings out, and this checkout's package in."""
    names = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    folders = {variable: str(scratch / name) for variable, name in names.items()}
    return {**folders, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"}


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the server listens on, which the system chose."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        for connection in psutil.Process(process.pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                port: int = connection.laddr.port
                return port
        time.sleep(0.05)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, and by their ids whatever it leaves behind: kernels have their own groups."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(children, timeout=3)
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=3)
