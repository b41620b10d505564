"""Work beside the kernel: a thread for answers, a process for what takes longer.

Both take the newest request and let the older ones go. The process has no part in the kernel's
interpreter lock, so that working out a front never slows a slider down. It speaks JSON by lines
over its own pipes and ends when these close, however its parent ended.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TextIO

from soma_bench.comparison import Comparison
from soma_bench.routing.evidence import Evidence
from soma_bench.separation import TargetScores
from soma_bench.widgets.tuner.beside import PARTS, part_as_json
from soma_bench.widgets.tuner.demands import Demands
from soma_bench.widgets.tuner.wire import scores_as_json, scores_from_json

_IDLE_S = 600.0
"""A process that nobody asks for so long ends; notebooks are left open for days."""


class NewestFirst:
    """Runs jobs on a thread of its own, one at a time; of those that wait only the newest."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._job: Callable[[], None] | None = None
        self._busy = False
        self._closed = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` next, in place of one that still waits."""
        with self._changed:
            if self._closed:
                return
            self._job = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to do; whether that is so.

        Raises:
            BaseException: what a job has raised since the last call.
        """
        with self._changed:
            idle = self._changed.wait_for(lambda: not self._busy and self._job is None, timeout_s)
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return idle

    def close(self) -> None:
        """Let the running job end and take no other."""
        with self._changed:
            self._closed, self._job = True, None
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._job is not None)
                if self._job is None:
                    return
                job, self._job, self._busy = self._job, None, True
            try:
                job()
            except Exception as error:  # noqa: BLE001 - kept for whoever waits
                with self._changed:
                    self._failure = error


class SideProcess:
    """Works out the parts of `soma_bench.widgets.tuner.beside` in a process of its own.

    It is started with the first request, and again where it has ended: it does so by itself when
    nobody has asked for a while.

    Args:
        on_part: told ``revision, name, content`` as each part is there, on a thread of its own.
    """

    def __init__(self, on_part: Callable[[int, str, Mapping[str, Any]], None]) -> None:
        self._on_part = on_part
        self._comparison: Comparison | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._sent: Comparison | None = None
        """What the process knows."""
        # A process that starts does not read for a second, and a pipe holds less than a run.
        self._sender = NewestFirst("tuner-requests")
        self._closed = False

    def load(self, comparison: Comparison) -> None:
        """The run that later requests are about."""
        self._comparison = comparison

    def ask(self, demands: Demands) -> None:
        """Work out all parts for these demands, in place of those for earlier ones."""
        if self._comparison is not None:
            self._sender.submit(partial(self._deliver, demands, self._comparison))

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the process has been asked.

        Raises:
            OSError: it could not be started or asked since the last call.
        """
        self._sender.wait(timeout_s)

    def close(self) -> None:
        """End the process."""
        self._closed = True
        process = self._process
        if process is not None:
            # Ends a request that waits for it to read.
            process.terminate()
        self._sender.close()
        self._end()

    def _deliver(self, demands: Demands, comparison: Comparison) -> None:
        try:
            self._tell(demands, comparison)
        except BrokenPipeError:
            # It ended by itself in this very moment, or the tuner is being closed.
            if not self._closed:
                self._end()
                self._tell(demands, comparison)

    def _tell(self, demands: Demands, comparison: Comparison) -> None:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process, self._sent = self._start(), None
        if comparison is not self._sent:
            _send(self._process, _run_as_json(comparison))
            self._sent = comparison
        _send(self._process, {"demands": demands.as_json()})

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", __package__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(
            target=self._read, args=(process,), name="tuner-parts", daemon=True
        )
        self._reader.start()
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            # What it has not read is of no use any more.
            process.stdin.close()
        with process:
            process.wait()
            if self._reader is not None:
                self._reader.join()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            self._on_part(told["revision"], told["part"], told["content"])


def _run_as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "evidence": [row.model_dump(mode="json") for row in comparison.evidence],
        "scores": scores_as_json(comparison.scores),
    }


def _send(process: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def serve(requests: TextIO, answers: TextIO) -> None:
    """The process's side: answer the newest request until the pipe closes."""
    waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in requests:
            waiting.put(json.loads(line))
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    evidence: tuple[Evidence, ...] = ()
    scores: TargetScores = {}
    while (message := _next(waiting)) is not None:
        if "evidence" in message:
            evidence = tuple(Evidence.model_validate(row) for row in message["evidence"])
            scores = scores_from_json(message["scores"])
            continue
        demands = Demands.checked(message["demands"])
        for name in PARTS:
            if not waiting.empty():
                break
            content = part_as_json(name, evidence, scores, demands)
            told = {"revision": demands.revision, "part": name, "content": content}
            answers.write(json.dumps(told) + "\n")
            answers.flush()


def _next(waiting: queue.Queue[dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return waiting.get(timeout=_IDLE_S)
    except queue.Empty:
        return None
