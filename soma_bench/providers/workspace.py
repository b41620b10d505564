"""A place inside the models folder where files are made before they are moved to their names.

One writer at a time; whatever ends the work (an error, Ctrl-C, SIGTERM) takes the half-made files
with it, and what a SIGKILL leaves behind is swept away by the next writer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from soma_bench.errors import ConfigError
from soma_bench.providers.embedded import ModelFile
from soma_bench.settings import CACHE_VARIABLE

Report = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many bytes of it are done."""

_PREFIX = ".work-"
_LOCK = ".lock"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A model file that was asked for, and whether it had to be written."""

    model: ModelFile
    written: bool


def no_report(step: str, done_bytes: int, total_bytes: int) -> None:
    """The `Report` of one who does not want to know."""


@contextmanager
def workspace(folder: Path, needed_bytes: int, report: Report = no_report) -> Iterator[Path]:
    """An empty folder on the disk of ``folder``, for one writer, gone when the block ends.

    Args:
        folder: the models folder; made if it is not there.
        needed_bytes: free space that the work will take.
        report: told when another writer has to be waited for.

    Raises:
        ConfigError: the folder cannot be written, or the disk is or becomes full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, report), _ended_by_sigterm():
            for leftover in folder.glob(f"{_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            _require_space(folder, needed_bytes)
            work = Path(tempfile.mkdtemp(dir=folder, prefix=_PREFIX))
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _explained(folder, error) from error


def put_in_place(made: Path, target: Path) -> None:
    """Move a finished file to its name in one step, once its bytes are on the disk."""
    with made.open("rb+") as stream:
        os.fsync(stream.fileno())
    made.replace(target)


def disk_full(folder: Path) -> ConfigError:
    """The error that says that the disk of ``folder`` filled up."""
    return ConfigError(
        f"{folder}: the disk is full; free some space, or set {CACHE_VARIABLE} to a folder on another disk"
    )


def _require_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ConfigError(
            f"{folder}: {needed_bytes / 1e6:.0f} MB are needed there and {free_bytes / 1e6:.0f} MB are free; "
            f"free some space, or set {CACHE_VARIABLE} to a folder on another disk"
        )


def _explained(folder: Path, error: OSError) -> ConfigError:
    if error.errno in _FULL:
        return disk_full(folder)
    place = error.filename or folder
    if error.errno in _FORBIDDEN:
        return ConfigError(
            f"{place}: cannot be written ({error.strerror}); set {CACHE_VARIABLE} to a folder of your own"
        )
    return ConfigError(
        f"{place}: {error.strerror or error}; set {CACHE_VARIABLE} to another folder"
    )


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it however the process ends."""
    with (folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another soma-bench that writes to {folder}", 0, 0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does; Python's own way is to die on the spot."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; what is left behind, the next writer sweeps away.
        yield
        return

    def end(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
