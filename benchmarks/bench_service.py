"""The service under load: clients that stream reports for a minute, in front of a stub of a model.

Three processes: this one holds the clients, which cost little; the service as the command starts
it; and a stub that speaks OpenAI's API and answers each agent with its own first worked example
after a pause. So what is measured is the service's own part. Every client begins anew as soon as
its last request has ended, puts a mark of its own into what it asks, and the stub gives it back in
the report: no other client's mark may ever be seen.

It is run twice, each time with a new service: with clients that come within the first seconds
(``spread``), and with clients that all come at one moment (``together``). Held are, each time: no
error; no stream mixed with another; the 99th percentile of the service's own time from a request's
last byte to its first event below 50 ms, by its own histogram; memory that does not grow after the
first third; and, with a SIGTERM under load at the end, that every open stream ends with ``done``.

    python benchmarks/bench_service.py [--seconds 60] [--clients 64] [--pause 0.2] [--picture 200]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
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
from typing import Any
from urllib.parse import urlsplit

import psutil
from PIL import Image as Pillow
from sse_client import BrokenError, Client, RefusedError, StatusError

from soma_bench.types import AGENTS

ROOT = Path(__file__).resolve().parent.parent
MODEL = "gpt-4o"
TARGET_S = 0.050
GROWTH = 1.10
"""Memory at the end over memory after the first third."""
ARRIVE_S = {"spread": 3.0, "together": 0.0}
"""Within which time the clients come."""
REPORT, TALK = "/medical_report_stream", "/chat_stream"


@dataclass
class Seen:
    """What the clients have seen."""

    reports: int = 0
    talks: int = 0
    first_s: list[float] = field(default_factory=list)
    """From sending a request for a report to its first event, by the clients' own clock."""
    problems: Counter[str] = field(default_factory=Counter)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--pause", type=float, default=0.2, help="of the stub, before each answer")
    options.add_argument("--picture", type=int, default=200, help="its size in kB")
    options.add_argument("--arrive", choices=sorted(ARRIVE_S), action="append")
    given = options.parse_args()
    image = picture(given.picture * 1000)
    print(
        f"{given.clients} clients, {given.seconds:g} s, the stub pauses {given.pause:g} s, a picture"
        f" of {len(image) / 1000:.0f} kB; load of the machine {os.getloadavg()[0]:.1f}"
    )
    met = [measured(arrive, image, given) for arrive in given.arrive or sorted(ARRIVE_S)]
    sys.exit(0 if all(met) else 1)


def measured(arrive: str, image: bytes, given: argparse.Namespace) -> bool:
    """Load a service of its own; whether all was met."""
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
            load = Load(json.loads(text)["url"], arrive, image, given)
            return asyncio.run(load.run(service))
        finally:
            for process in (service, stub):
                if process.poll() is None:
                    process.terminate()
                    process.wait(20)


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


def picture(size: int) -> bytes:
    """A grey PNG of about ``size`` bytes, noisy as a slice of a CT."""
    dice = random.Random(1)
    side = max(1, round(size**0.5))
    grey = Pillow.frombytes("L", (side, side), dice.randbytes(side * side))
    stream = io.BytesIO()
    grey.save(stream, format="PNG")
    return stream.getvalue()


class Load:
    """Clients in front of one service.

    Args:
        url: the service's.
        arrive: how the clients come, of `ARRIVE_S`.
        image: what they ask about.
        given: the command's options.
    """

    def __init__(self, url: str, arrive: str, image: bytes, given: argparse.Namespace) -> None:
        address = urlsplit(url)
        assert address.hostname
        assert address.port
        self._address = address.hostname, address.port
        self._arrive = arrive
        self._given = given
        self._seen = Seen()
        self._stopping = asyncio.Event()
        before, self._after = json.dumps(report(image)).rsplit("MARK", 1)
        self._before = before.encode()

    async def run(self, service: subprocess.Popen[str]) -> bool:
        """Load the service, stop it under load, and print what was seen; whether all was met."""
        given, seen = self._given, self._seen
        process = psutil.Process(service.pid)
        clients = [asyncio.create_task(self._client(number)) for number in range(given.clients)]
        memory = []
        for _ in range(30):
            await asyncio.sleep(given.seconds / 30)
            memory.append(process.memory_info().rss)
        figures = (await Client(*self._address).get("/metrics")).decode()
        cpu = process.cpu_times()
        self._stopping.set()
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        stop_s = time.monotonic() - began
        code = await asyncio.to_thread(service.wait, 30)
        p99 = quantile(figures, REPORT, 0.99)
        growth = max(memory[-5:]) / max(memory[10:15])
        own = sorted(seen.first_s)
        print(f"\nclients come {self._arrive}")
        print(
            f"reports {seen.reports}, talks {seen.talks}, problems {dict(seen.problems) or 'none'}"
        )
        print(
            f"own time to the first event: median below {quantile(figures, REPORT, 0.5) * 1000:g} ms,"
            f" p99 below {p99 * 1000:g} ms (target {TARGET_S * 1000:g})"
        )
        print(
            f"as the clients saw it: median {own[len(own) // 2] * 1000:.1f} ms,"
            f" p99 {own[int(len(own) * 0.99)] * 1000:.1f} ms, longest {own[-1] * 1000:.1f} ms"
        )
        print(
            f"memory {memory[0] / 2**20:.0f} MiB at first, {max(memory[10:15]) / 2**20:.0f} after a"
            f" third, {max(memory[-5:]) / 2**20:.0f} at the end: x{growth:.2f} (target {GROWTH:g})"
        )
        print(f"CPU of the service {(cpu.user + cpu.system) / given.seconds:.2f} of one core")
        print(f"SIGTERM under load: all streams ended within {stop_s:.1f} s, exit code {code}")
        return not seen.problems and p99 <= TARGET_S and growth <= GROWTH and code == 0

    async def _client(self, number: int) -> None:
        """Reports and a question about each, one after the other, until the service stops."""
        turn = 0
        client = Client(*self._address)
        await asyncio.sleep(random.uniform(0, ARRIVE_S[self._arrive]))
        while not self._stopping.is_set():
            turn += 1
            mark = f"mark-{number}-{turn}"
            body = self._before + f"{mark}{self._after}".encode()
            session_id = await self._watch(client, REPORT, body, mark)
            if session_id is None or self._stopping.is_set():
                continue
            asked = {"message": f"Tell me of {mark}.", "sessionId": session_id, "mode": "question"}
            await self._watch(client, TALK, json.dumps(asked).encode(), mark)
        client.close()

    async def _watch(self, client: Client, path: str, body: bytes, mark: str) -> str | None:
        """Read one stream to its end; its session."""
        seen, stopping = self._seen, self._stopping
        session_id: str | None = None
        last, text, errors = "", "", []
        began = time.perf_counter()
        try:
            async for event in client.events(path, body):
                if last == "" and path == REPORT:
                    seen.first_s.append(time.perf_counter() - began)
                last = event["type"]
                session_id = event.get("sessionId", session_id)
                text += event.get("text", "") + event.get("report", "")
                if last == "error":
                    errors.append(event["error"])
        except StatusError as error:
            if error.status != 503 or not stopping.is_set():
                seen.problems[f"status {error.status}"] += 1
            return None
        except RefusedError as error:
            if not stopping.is_set():
                seen.problems[f"refused: {error}"] += 1
            return None
        except BrokenError as error:
            seen.problems[f"broken off after {last or 'nothing'}: {error}"] += 1
            return None
        if last != "done":
            seen.problems["ended without done"] += 1
        if stopping.is_set():
            return session_id
        for problem in errors:
            seen.problems[problem[:60]] += 1
        if not errors and set(re.findall(r"mark-\d+-\d+", text)) != {mark}:
            seen.problems["another one's mark, or none"] += 1
        if path == TALK:
            seen.talks += 1
        else:
            seen.reports += 1
        return session_id


def report(image: bytes) -> dict[str, Any]:
    """A request with a measured mask, so that every stage has work."""
    mask = {
        "name": "nodule",
        "location": "left lower lobe",
        "areaMm2": 143,
        "centroidMm": [71, 38, 0],
    }
    return {
        "final_image": f"data:image/png;base64,{base64.b64encode(image).decode()}",
        "metadata": {"masks": [mask], "modality": "CT", "bodyPart": "Chest"},
        "clinicalContext": {"clinicalIndication": "Cough, MARK."},
    }


def quantile(figures: str, endpoint: str, share: float) -> float:
    """The upper bound, in seconds, of the histogram's bucket that a quantile lies in."""
    pattern = rf'soma_first_byte_seconds_bucket\{{endpoint="{endpoint}",le="([^"]+)"\}} ([\d.e+]+)'
    buckets = [(float(bound), float(count)) for bound, count in re.findall(pattern, figures)]
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


if __name__ == "__main__":
    main()
