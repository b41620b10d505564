"""The parent's side of `soma_bench.providers.mlx_worker`: start it, ask it, end it.

Everything here blocks; `soma_bench.providers.mlx` calls it from a thread of its own.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from soma_bench.errors import ProviderError
from soma_bench.providers.mlx_models import MlxModel
from soma_bench.providers.mlx_worker import OUT_OF_MEMORY
from soma_bench.providers.turns import Call, Stopped

GRACE_S = 5.0
"""How long a worker may take to stop when nobody listens any more, before it is killed."""
_LOOK_S = 0.05
"""How often a wait looks whether anybody still listens."""
_SHOWN = 200
_DONE = frozenset(
    {"text", "thinking", "finish", "prompt_tokens", "thinking_tokens", "output_tokens"}
    | {"prefill_s", "decode_s", "memory_bytes"}
)
"""What the worker's ``done`` must have."""
_PACKAGE_ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    """The worker's environment: offline, and without what is secret."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(("_KEY", "_TOKEN", "_SECRET", "_PASSWORD"))
    }
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **offline, "TOKENIZERS_PARALLELISM": "false"}


class MlxProcess:
    """A worker with one model.

    Args:
        model: the model to open; its weights are loaded with the first answer.
        call: who wants it; when nobody listens any more, the worker is ended.

    Raises:
        ProviderError: the model cannot be opened.
        Stopped: nobody listens any more.
    """

    def __init__(self, model: MlxModel, call: Call) -> None:
        self.model = model
        self.loaded = False
        self.memory_bytes: int | None = None
        """Peak of MLX's memory so far; None before the weights are loaded."""
        self._requests = 0
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soma_bench.providers.mlx_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            # Found wherever this package was found, and not ended by Ctrl-C before its parent.
            cwd=_PACKAGE_ROOT,
            start_new_session=True,
            env=_environment(),
            encoding="utf-8",
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=pipe, name="mlx-pipe", daemon=True)
            for pipe in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()
        facts = self._ask_once("opened", call, op="open", folder=str(model.folder))
        self.can_think = bool(facts.get("can_think"))
        self.always_thinks = bool(facts.get("always_thinks"))

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker can be asked."""
        return self._process.poll() is None

    def load(self, call: Call) -> None:
        """Load the weights."""
        facts = self._ask_once("loaded", call, op="load")
        self.memory_bytes = facts.get("memory_bytes")
        self.loaded = True

    def answer(self, call: Call, **request: Any) -> dict[str, Any]:
        """The fields of the worker's ``done``; its text goes to ``call`` as it comes.

        Raises:
            ProviderError: it failed, or died, or what it says cannot be read.
            Stopped: nobody listens any more.
        """
        self._requests += 1
        self._send(op="answer", id=self._requests, **request)
        while True:
            event = self._next(call)
            if event["event"] == "text":
                call.hear(str(event["text"]), thinking=bool(event["thinking"]))
            elif event["event"] == "done":
                if missing := _DONE - event.keys():
                    raise self._malformed(f"its last message lacks {', '.join(sorted(missing))}")
                self.memory_bytes = event["memory_bytes"]
                return event
            elif event["event"] == "stopped":
                raise Stopped
            else:
                raise self._failure(event)

    def end(self) -> None:
        """End the worker, which frees all its memory."""
        self._kill()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                _close_quietly(stream)
        self._complaints.close()

    def _ask_once(self, wanted: str, call: Call, **message: Any) -> dict[str, Any]:
        self._send(**message)
        try:
            return self._wanted(wanted, self._next(call))
        except BaseException:
            self.end()
            raise

    def _wanted(self, wanted: str, event: dict[str, Any]) -> dict[str, Any]:
        if event["event"] != wanted:
            raise self._failure(event)
        return event

    def _kill(self) -> None:
        self._process.kill()
        # Waited for, so that nobody takes it for alive any more.
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _write(self) -> None:
        assert self._process.stdin
        while (line := self._outbox.get()) is not None:
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except OSError:
                # It is dead; why, is found out where its answer is read.
                return

    def _send(self, **message: Any) -> None:
        # Handed to a thread: the pipe to a worker that hangs is soon full, and blocks who writes.
        self._outbox.put(json.dumps(message) + "\n")

    def _next(self, call: Call) -> dict[str, Any]:
        """The worker's next event; a worker that does not stop when asked to is killed."""
        given_up_at: float | None = None
        while True:
            try:
                line = self._lines.get(timeout=_LOOK_S)
            except queue.Empty:
                line = ""
            if line is None:
                raise self._death()
            if call.cancelled.is_set():
                now = time.monotonic()
                if given_up_at is None:
                    given_up_at = now
                    self._send(op="stop", id=self._requests)
                elif now > given_up_at + GRACE_S:
                    self._kill()
                    raise Stopped
            if line:
                return self._event(line)

    def _event(self, line: str) -> dict[str, Any]:
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, TypeError, LookupError) as error:
            raise self._malformed(f"its message cannot be read: {line[:_SHOWN]!r}") from error
        return dict(event)

    def _failure(self, event: dict[str, Any]) -> ProviderError:
        if event["event"] != "error":
            return self._malformed(f"it said {event['event']!r}")
        message = " ".join(str(event["message"]).split())
        return ProviderError("mlx", f"{self.model.name}: {message}", kind=event["kind"])

    def _malformed(self, finding: str) -> ProviderError:
        # What it says next could be taken for the answer to the next request.
        self._kill()
        return ProviderError(
            "mlx", f"the worker of {self.model.name} is out of step: {finding}", kind="malformed"
        )

    def _death(self) -> ProviderError:
        """Why the worker ended in the middle of something."""
        code = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        last = said.rpartition("\n")[2][:_SHOWN]
        if any(words in said.lower() for words in OUT_OF_MEMORY):
            return ProviderError(
                "mlx",
                f"memory ran out for {self.model.name} ({last}); choose a smaller model or context",
                kind="out_of_memory",
            )
        if code == 0:
            return ProviderError(
                "mlx", "the worker ended without its last message", kind="ended_early"
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = "; did the system run out of memory?" if code == -signal.SIGKILL else ""
        detail = f": {last}" if last else ""
        return ProviderError(
            "mlx",
            f"the worker of {self.model.name} died ({how}){detail}{hint}",
            kind="cut_off",
        )


def _close_quietly(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        # A pipe to a dead process cannot take what was still to be written.
        return
