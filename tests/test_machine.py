"""What the machine did while a trial ran: our own work is ours, other processes make it busy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from soma_bench.sweeps import machine
from soma_bench.sweeps.machine import BUSY_SHARE, Watch, read_power_mode

SPIN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


@contextmanager
def somebody_else(executable: str = sys.executable) -> Iterator[psutil.Process]:
    """A process that spins and is no child of ours: its parent has ended, so the system adopts it."""
    spin = [executable, "-c", SPIN.format(seconds=20)]
    leave = (
        f"import subprocess as s\nprint(s.Popen({spin!r}, stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    )
    told = subprocess.run([sys.executable, "-c", leave], capture_output=True, text=True, check=True)
    process = psutil.Process(int(told.stdout))
    try:
        yield process
    finally:
        process.kill()


def seconds_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def test_other_processes_are_counted():
    with somebody_else() as spinner:
        time.sleep(0.3)
        began = sum(psutil.cpu_times())
        watch = Watch("llamacpp")
        spun = seconds_of(spinner)
        time.sleep(1.0)
        spun = seconds_of(spinner) - spun
        load = watch.stop()
        least = 0.8 * spun / (sum(psutil.cpu_times()) - began)
    assert spun > 0.05, "the machine gave the other process no time at all"
    assert load.other_cpu_share is not None
    assert load.other_cpu_share >= least, "at least the process that is known to have run"
    assert load.busy == (load.other_cpu_share > BUSY_SHARE)


@pytest.mark.skipif(sys.platform == "darwin", reason="a linked Python keeps its own name there")
def test_ollamas_server_belongs_to_an_ollama_trial_and_to_no_other(tmp_path):
    command = tmp_path / "ollama"
    command.symlink_to(sys.executable)
    with somebody_else(str(command)) as server:
        time.sleep(0.3)
        began = sum(psutil.cpu_times())
        theirs, ours = Watch("llamacpp"), Watch("ollama")
        spun = seconds_of(server)
        time.sleep(1.0)
        spun = seconds_of(server) - spun
        foreign, own = theirs.stop().other_cpu_share, ours.stop().other_cpu_share
        share = spun / (sum(psutil.cpu_times()) - began)
    assert spun > 0.05, "the machine gave the server no time at all"
    assert foreign is not None
    assert own is not None
    assert foreign - own >= 0.5 * share


def test_a_trial_is_busy_above_the_stated_share_and_not_below():
    quiet = machine._Spent(clock_s=0.0, machine_s=0.0, used_s=0.0, ours_s=0.0)

    def after(used_s: float, ours_s: float) -> float | None:
        ended = machine._Spent(clock_s=5.0, machine_s=10.0, used_s=used_s, ours_s=ours_s)
        return machine._other_share(quiet, ended)

    assert after(10.0, 10.0) == 0.0, "all of it is our own model's work"
    assert after(3.0, 1.0) == pytest.approx(0.2)
    assert after(1.0, 1.3) == 0.0, "ticks are coarse; a share is never negative"
    assert after(10.0 * BUSY_SHARE + 1.0, 1.0) == pytest.approx(BUSY_SHARE)


def test_our_own_work_and_our_childrens_is_not_somebody_elses():
    began = machine._spent(None)
    spin = SPIN.format(seconds=0.6)
    child = subprocess.Popen([sys.executable, "-c", spin])
    exec(spin)
    alive = machine._spent(None).ours_s - began.ours_s
    child.wait()
    ended = machine._spent(None).ours_s - began.ours_s
    used = machine._spent(None).used_s - began.used_s
    assert 0.1 < alive <= used + 0.1
    assert ended >= alive - 0.03, "a child's time stays counted when it has ended"


def test_a_call_too_short_to_tell_says_so():
    load = Watch("llamacpp").stop()
    assert (load.other_cpu_share, load.busy) == (None, None)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (" lowpowermode         1\n", "low"),
        (" lowpowermode         0\n", "automatic"),
        ("Currently in use:\n standby 1\n powermode            2\n sleep 0\n", "high"),
        (" powermode 1\n", "low"),
        (" powermode 0\n lowpowermode 0\n", "automatic"),
        (" powermode 7\n", None),
        (" sleep 1 (sleep prevented by sharingd)\n", None),
        ("", None),
    ],
)
def test_the_power_mode_is_read_from_what_pmset_prints(text, mode):
    assert read_power_mode(text) == mode


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one")
def test_there_is_no_power_mode_elsewhere():
    assert machine.power_mode() is None
