"""What else the machine was doing while a trial ran: a latency means little without it.

With other work on the same cores a small model runs several times slower, and so does any model in
macOS's low power mode. Each trial records both, and a trial is *busy* when more than
`BUSY_SHARE` of all CPU time went to processes that have no part in it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import psutil

from soma_bench.types import LOCAL_PROVIDERS, ProviderName

BUSY_SHARE = 0.15
"""Above this share of other processes a trial is busy: a desktop at rest stays well below it, and
one foreign thread on 6 cores is above it."""

_SHORTEST_S = 0.1
"""CPU time is counted in hundredths of a second: below this a share would be noise."""
_FRESH_S = 0.02
"""Calls to clouds that begin or end so soon after each other are given the same reading."""
_POWER_MODE_HOLDS_S = 10.0
"""How long a reading of the power mode, which takes a process, is taken for the present one."""
_PMSET = "/usr/bin/pmset"

PowerMode = Literal["automatic", "low", "high"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLoad:
    """The machine during one call; None is what could not be told."""

    other_cpu_share: float | None
    """Share of all CPU time, 0 to 1, that other processes used than this one, its children and the
    backend's own; None where the call was too short to tell."""
    busy: bool | None
    """Whether that is more than `BUSY_SHARE`."""
    power_mode: PowerMode | None
    """macOS's power mode; None elsewhere."""


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU seconds since some moment: of everybody, and of those who work on the trial."""

    clock_s: float
    machine_s: float
    used_s: float
    ours_s: float


class Watch:
    """Watches the machine from its making to `stop`.

    Args:
        provider: whose call is watched; the server of ``ollama`` is part of the call where it runs
            on this machine, though it is no child of ours. Of a call to a cloud this process alone
            is a part, and calls that are many and short share their readings.
    """

    def __init__(self, provider: ProviderName) -> None:
        self._provider = provider
        self._began_s = time.perf_counter()
        self._began = self._read()

    def stop(self) -> MachineLoad:
        """What the machine did since."""
        share = None
        if time.perf_counter() - self._began_s >= _SHORTEST_S:
            share = _other_share(self._began, self._read())
        mode = None
        if platform.system() == "Darwin":
            mode = _power_mode_lately(int(time.monotonic() / _POWER_MODE_HOLDS_S))
        return MachineLoad(
            other_cpu_share=share,
            busy=None if share is None else share > BUSY_SHARE,
            power_mode=mode,
        )

    def _read(self) -> _Spent:
        if self._provider in LOCAL_PROVIDERS:
            return _spent("ollama" if self._provider == "ollama" else None)
        return _spent_alone(int(time.perf_counter() / _FRESH_S))


def _other_share(began: _Spent, ended: _Spent) -> float | None:
    machine = ended.machine_s - began.machine_s
    if ended.clock_s - began.clock_s < _SHORTEST_S or machine <= 0:
        return None
    others = (ended.used_s - began.used_s) - (ended.ours_s - began.ours_s)
    return min(1.0, max(0.0, others / machine))


@lru_cache(maxsize=1)
def _spent_alone(moment: int) -> _Spent:  # noqa: ARG001 - names the moment that a reading is good for
    own = os.times()
    return _spent_by(own.user + own.system + own.children_user + own.children_system)


@lru_cache(maxsize=1)
def _power_mode_lately(moment: int) -> PowerMode | None:  # noqa: ARG001 - as above
    return power_mode()


def _spent(backend: str | None) -> _Spent:
    own = psutil.Process()
    processes = {process.pid: process for process in [own, *own.children(recursive=True)]}
    if backend:
        for process in _named(backend):
            processes[process.pid] = process
            processes.update((child.pid, child) for child in _children(process))
    return _spent_by(sum(map(_cpu_seconds, processes.values())))


def _spent_by(ours_s: float) -> _Spent:
    times = psutil.cpu_times()._asdict()
    # Time of virtual machines is counted within user and nice already.
    counted = {name: value for name, value in times.items() if not name.startswith("guest")}
    machine = sum(counted.values())
    idle = counted.get("idle", 0.0) + counted.get("iowait", 0.0)
    return _Spent(
        clock_s=time.perf_counter(), machine_s=machine, used_s=machine - idle, ours_s=ours_s
    )


def _named(backend: str) -> Iterable[psutil.Process]:
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").lower().startswith(backend):
            yield process


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []  # ended meanwhile, or another user's: nothing of it can be counted


def _cpu_seconds(process: psutil.Process) -> float:
    """A process's CPU time with that of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0  # ended meanwhile, or another user's
    return float(times.user + times.system + times.children_user + times.children_system)


def power_mode() -> PowerMode | None:
    """The power mode that macOS is in now; None on other systems, or where it does not say."""
    if platform.system() != "Darwin":
        return None
    try:
        told = subprocess.run(  # noqa: S603 - a fixed command
            [_PMSET, "-g"], capture_output=True, text=True, check=False, timeout=2
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_power_mode(told.stdout)


def read_power_mode(text: str) -> PowerMode | None:
    """The power mode in what ``pmset -g`` prints; None where it names none.

    Macs with a choice of three print ``powermode`` (0 automatic, 1 low, 2 high), others
    ``lowpowermode`` (0 or 1).
    """
    settings = dict(re.findall(r"^\s*(powermode|lowpowermode)\s+(\d)\s*$", text, re.MULTILINE))
    modes: dict[str, PowerMode] = {"0": "automatic", "1": "low", "2": "high"}
    if "powermode" in settings:
        return modes.get(settings["powermode"])
    return modes.get(settings.get("lowpowermode", ""))
