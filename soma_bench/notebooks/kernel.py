"""A kernel that leaves nothing behind: no socket, no process, no child of a process."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import nbformat
    from nbclient import NotebookClient

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 3.0
"""How long processes that were told to end may take before they are killed."""


@contextmanager
def running_kernel(
    notebook: nbformat.NotebookNode, folder: Path, *, cell_timeout_s: float | None = None
) -> Iterator[NotebookClient]:
    """A client whose kernel runs and executes the notebook's cells.

    Kernel and client speak through sockets in a folder of their own, so that runs side by side
    cannot meet on a port. However the block is left, the kernel and every process that it started
    have ended: on an error or a signal at once, else after the kernel has been asked to end.

    Args:
        notebook: the notebook; its outputs are filled in.
        folder: the kernel's working folder.
        cell_timeout_s: longest time of a cell; None for no limit.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    sockets = Path(tempfile.mkdtemp(prefix="soma-"))
    client = NotebookClient(
        notebook,
        resources={"metadata": {"path": str(folder)}},
        timeout=cell_timeout_s,
        config=Config(
            {"KernelManager": {"transport": "ipc", "connection_file": str(sockets / "kernel.json")}}
        ),
    )
    started: set[psutil.Process] = set()
    try:
        with client.setup_kernel():
            try:
                yield client
            except BaseException:
                client.shutdown_kernel = "immediate"
                raise
            finally:
                started = _family(client)
                _ignore_signals()
    finally:
        _end(started)
        shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM unwind the block where nobody has said what it does, and put handlers back after.

    Left alone it would end this process on the spot, and the kernel's children would live on.

    Raises:
        SystemExit: SIGTERM came; its code is 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    if before[signal.SIGTERM] is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    """Let a second signal not cut the cleaning up short; `stopped_by_signals` ends this."""
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)


def _family(client: NotebookClient) -> set[psutil.Process]:
    """The kernel, its descendants and everything in its process group."""
    provisioner: Any = client.km.provisioner if client.km else None
    pid = getattr(provisioner, "pid", None)
    if pid is None:
        return set()
    family: set[psutil.Process] = set()
    with suppress(psutil.NoSuchProcess):
        kernel = psutil.Process(pid)
        family |= {kernel, *kernel.children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == pid:
                family.add(process)
    return family


def _end(processes: set[psutil.Process]) -> None:
    """End what is left of them: by a request, then by force."""
    alive = [process for process in processes if process.is_running()]
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(alive, timeout=_PATIENCE_S)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_PATIENCE_S)
