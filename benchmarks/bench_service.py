"""The service under load: clients that stream reports for a minute, in front of a stub of a model.

Three processes besides this one, which holds the clients: the service as the command starts it, and
a stub that speaks OpenAI's API and answers each agent with its own first worked example after a
pause. So what is measured is the service's own part. Every client puts a mark of its own into what
it asks, the stub gives it back in the report, and no other client's mark may ever be seen.

Held are: no error; no stream mixed with another; the 99th percentile of the service's own time from
a request's last byte to its answer's first below 50 ms, by its own histogram; memory that does not
grow after the first third; and, with a SIGTERM under load at the end, that every open stream ends
with ``done``.

    python benchmarks/bench_service.py [--seconds 60] [--clients 64] [--pause 0.2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psutil

from soma_bench.types import AGENTS

ROOT = Path(__file__).resolve().parent.parent
MODEL = "gpt-4o"
TARGET_S = 0.050
_ARRIVE_S = 3.0
GROWTH = 1.10
"""Memory at the end over memory after the first third."""


@dataclass
class Seen:
    """What the clients have seen."""

    reports: int = 0
    chats: int = 0
    first_s: list[float] = field(default_factory=list)
    """From sending a request to its first event, by the clients' own clock."""
    problems: Counter[str] = field(default_factory=Counter)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--pause", type=float, default=0.2, help="of the stub, before each answer")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stub = started([sys.executable, "agent_server.py", str(given.pause)], cwd=ROOT / "tests")
        assert stub.stdout
        path = Path(folder) / "profile.json"
        path.write_text(json.dumps(profile()), encoding="utf-8")
        command = [sys.executable, "-m", "soma_bench", "serve", "--profile", str(path)]
        service = started(
            [*command, "--port", "0", "--json", "--grace", "5"],
            cwd=Path(folder),
            OPENAI_BASE_URL=stub.stdout.readline().strip(),
            OPENAI_API_KEY="sk-proj-canary-0123456789abcdef",
        )
        try:
            assert service.stdout
            text = ""
            while not text.endswith("}\n"):
                text += service.stdout.readline()
            met = asyncio.run(load(json.loads(text)["url"], service, given))
        finally:
            for process in (service, stub):
                if process.poll() is None:
                    process.terminate()
                    process.wait(20)
    sys.exit(0 if met else 1)


def started(command: list[str], *, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def profile() -> dict[str, Any]:
    """Every agent on the stub; its data are marked open, as they are nobody's."""
    route = {"primary": f"openai:{MODEL}", "fallback": None, "privacy": "open", "reason": "a stub"}
    return {
        "schema_version": 1,
        "name": "load",
        "providers": {"openai": {"enabled": True}},
        "routing": {agent: dict(route) for agent in AGENTS},
    }


async def load(url: str, service: subprocess.Popen[str], given: argparse.Namespace) -> bool:
    """Load the service, stop it under load, and print what was seen; whether all was met."""
    seen = Seen()
    process = psutil.Process(service.pid)
    limits = httpx.Limits(max_connections=given.clients * 2)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as http:
        stopping = asyncio.Event()
        clients = [
            asyncio.create_task(client(http, number, seen, stopping))
            for number in range(given.clients)
        ]
        memory = []
        for _ in range(30):
            await asyncio.sleep(given.seconds / 30)
            memory.append(process.memory_info().rss)
        figures = (await http.get("/metrics")).text
        cpu = process.cpu_times()
        stopping.set()
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        stop_s = time.monotonic() - began
    code = await asyncio.to_thread(service.wait, 30)
    p99 = quantile(figures, "/medical_report_stream", 0.99)
    growth = max(memory[-5:]) / max(memory[10:15])
    own = sorted(seen.first_s)
    print(f"{given.clients} clients, {given.seconds:g} s, the stub pauses {given.pause:g} s")
    print(f"reports {seen.reports}, talks {seen.chats}, problems {dict(seen.problems) or 'none'}")
    print(f"own time to the first event: p99 below {p99 * 1000:g} ms (target {TARGET_S * 1000:g})")
    print(
        f"as the clients saw it, in this process's own queue: median {own[len(own) // 2] * 1000:.1f}"
        f" ms, p99 {quantiles(own, n=100)[98] * 1000:.1f} ms"
    )
    print(
        f"memory {memory[0] / 2**20:.0f} MiB at first, {max(memory[10:15]) / 2**20:.0f} after a"
        f" third, {max(memory[-5:]) / 2**20:.0f} at the end: x{growth:.2f} (target {GROWTH:g})"
    )
    print(f"CPU of the service {(cpu.user + cpu.system) / given.seconds:.2f} of one core")
    print(f"SIGTERM under load: all streams ended within {stop_s:.1f} s, exit code {code}")
    return not seen.problems and p99 <= TARGET_S and growth <= GROWTH and code == 0


async def client(http: httpx.AsyncClient, number: int, seen: Seen, stopping: asyncio.Event) -> None:
    """Reports and a question about each, one after the other, until the service stops."""
    turn = 0
    # Clients are not one another's echo: they come within the first seconds, not at one moment.
    await asyncio.sleep(random.uniform(0, _ARRIVE_S))
    while not stopping.is_set():
        turn += 1
        mark = f"mark-{number}-{turn}"
        session_id = await watch(http, "/medical_report_stream", report(mark), mark, seen, stopping)
        if session_id is None or stopping.is_set():
            continue
        body = {"message": f"Tell me of {mark}.", "sessionId": session_id, "mode": "question"}
        await watch(http, "/chat_stream", body, mark, seen, stopping)


async def watch(
    http: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    mark: str,
    seen: Seen,
    stopping: asyncio.Event,
) -> str | None:
    """Read one stream to its end; its session."""
    session_id: str | None = None
    last, text, errors = "", "", []
    began = time.perf_counter()
    try:
        async with http.stream("POST", path, json=body) as response:
            if response.status_code != 200:
                if response.status_code != 503 or not stopping.is_set():
                    seen.problems[f"status {response.status_code}"] += 1
                return None
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if last == "":
                    seen.first_s.append(time.perf_counter() - began)
                last = event["type"]
                session_id = event.get("sessionId", session_id)
                text += event.get("text", "") + event.get("report", "")
                if last == "error":
                    errors.append(event["error"])
    except httpx.ConnectError:
        if not stopping.is_set():
            seen.problems["refused"] += 1
        return None
    except httpx.TransportError as error:
        # A connection kept from an earlier answer may close as the service stops.
        if not (stopping.is_set() and last == ""):
            seen.problems[f"broken off after {last or 'nothing'}: {type(error).__name__}"] += 1
        return None
    if last != "done":
        seen.problems["ended without done"] += 1
    if stopping.is_set():
        return session_id
    for error in errors:
        seen.problems[error[:60]] += 1
    if not errors and set(re.findall(r"mark-\d+-\d+", text)) != {mark}:
        seen.problems["another one's mark, or none"] += 1
    if path == "/chat_stream":
        seen.chats += 1
    else:
        seen.reports += 1
    return session_id


def report(mark: str) -> dict[str, Any]:
    """A request with a measured mask, so that the picture stays small and every stage has work."""
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
    mask = {
        "name": "nodule",
        "location": "left lower lobe",
        "areaMm2": 143,
        "centroidMm": [71, 38, 0],
    }
    return {
        "final_image": f"data:image/png;base64,{dot}",
        "metadata": {"masks": [mask], "modality": "CT", "bodyPart": "Chest"},
        "clinicalContext": {"clinicalIndication": f"Cough, {mark}."},
    }


def quantile(figures: str, endpoint: str, share: float) -> float:
    """The upper bound, in seconds, of the histogram's bucket that a quantile lies in."""
    pattern = rf'soma_first_byte_seconds_bucket\{{endpoint="{endpoint}",le="([^"]+)"\}} ([\d.e+]+)'
    buckets = [(float(bound), float(count)) for bound, count in re.findall(pattern, figures)]
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


if __name__ == "__main__":
    main()
