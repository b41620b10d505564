"""Real fleets on loopback: a scheduler, workers as processes, and a scripted Ollama for each."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from servers.base import Fault
from servers.ollama import Model, OllamaServer

SUITES = Path(__file__).parent.parent / "data" / "suites"
_DEADLINE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], object], within_s: float = _DEADLINE_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def answering(*models: str, drip_s: float = 0.0) -> OllamaServer:
    """A server with these models, whose answers take as long as their few tokens."""
    server = OllamaServer(*(Model(name=name) for name in models))
    server.fault = Fault(drip_s=drip_s)
    return server


def asked(server: OllamaServer) -> list[str]:
    """The models of the calls that a server has got, in order; greetings and unloading are none."""
    calls = (r for r in list(server.requests) if r.path in ("/api/chat", "/api/generate"))
    bodies = [call.json() for call in calls]
    return [body["model"] for body in bodies if body.get("messages") or body.get("prompt")]


class Process:
    """A process that is ended with its children when the test is over."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def finish(self, within_s: float = _DEADLINE_S) -> tuple[int, str, str]:
        """Its exit code and what it said."""
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out, err

    def close(self) -> None:
        children = []
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
        self.process.communicate()
        for child in children:
            if child.is_running():
                child.kill()


class Fleet:
    """Processes on loopback; use `fleet`."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, *command: str, **environment: str) -> Process:
        process = Process(*command, **environment)
        self._opened.callback(process.close)
        return process

    def scheduler(self) -> Process:
        """A scheduler at the fleet's address."""
        process = self.start(
            *("-m", "dask", "scheduler", "--host", "127.0.0.1", "--no-dashboard"),
            *("--port", str(self.port)),
        )

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(listens)
        return process

    def worker(self, name: str, server: OllamaServer, **environment: str) -> Process:
        """A worker that is starting."""
        return self.start(
            *("-m", "soma_bench", "worker", self.address, "--name", name),
            OLLAMA_BASE_URL=server.url,
            **environment,
        )

    def sweep(self, folder: Path, *more: str) -> Process:
        """The command with the folder's sweep and store."""
        command = ("-m", "soma_bench", "sweep", f"{folder}/sweep.yaml", "--json")
        where = ("--store", f"{folder}/runs.db", "--cluster", self.address)
        return self.start(*command, *where, *more)


@contextmanager
def fleet() -> Iterator[Fleet]:
    """A fleet whose processes end with the context."""
    with ExitStack() as opened:
        yield Fleet(opened)


def ready(worker: Process) -> None:
    """Wait until a worker says that it serves."""
    assert " serves " in worker.line(), worker.finish()


def write_sweep(
    folder: Path, *models: str, cases: int = 4, repeats: int = 1, **more: object
) -> None:
    """A sweep of these models on as many cases of one agent."""
    content = {
        "name": "spread",
        "suites": {"alignment": f"{SUITES}/alignment.jsonl"},
        "cases_per_agent": cases,
        "repeats": repeats,
        "targets": [{"provider": "ollama", "model": model} for model in models],
        **more,
    }
    (folder / "sweep.yaml").write_text(json.dumps(content))


def keys(folder: Path) -> list[str]:
    """The keys of the answered trials in the folder's store."""
    if not (folder / "runs.db").exists():
        return []
    connection = sqlite3.connect(folder / "runs.db")
    try:
        return [row[0] for row in connection.execute("SELECT key FROM trials WHERE status='done'")]
    except sqlite3.OperationalError:
        return []  # the tables are being made
    finally:
        connection.close()
