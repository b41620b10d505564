"""The service as it is run: the command, a front end in Node, clouds behind it, and how it stops."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_server import MODEL, AgentServer
from routers import Addresses, profile
from routing_examples import profile_content
from served import events_of, kinds, report_body, served
from servers.base import Fault, wait_until
from servers.openai import KEY
from soma_bench.service.failures import STOPPING
from soma_bench.service.server import LAST_WORDS_S
from soma_bench.types import AGENTS

ROOT = Path(__file__).parent.parent
NODE = shutil.which("node")
LOAD = 64
"""Clients at the same time, when there are many."""


@dataclass
class Running:
    url: str
    process: subprocess.Popen[str]
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=60)


@contextmanager
def running(folder: Path, server: AgentServer, *options: str, **profile: Any) -> Iterator[Running]:
    """The command in a process of its own, in front of a cloud on loopback."""
    route = {"primary": f"openai:{MODEL}", "fallback": None, "privacy": "open", "reason": ""}
    content = {
        "providers": {"openai": {"enabled": True}},
        "models": {},
        "routing": {agent: dict(route) for agent in AGENTS},
        **profile,
    }
    path = folder / "profile.json"
    path.write_text(json.dumps(profile_content(**content)), encoding="utf-8")
    log = folder / "log.txt"
    command = [sys.executable, "-m", "soma_bench", "serve", "--profile", str(path)]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", "0", "--json", *options],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "OPENAI_BASE_URL": server.base_url,
                "OPENAI_API_KEY": KEY,
            },
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert process.stdout
    try:
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        assert text, log.read_text()
        yield Running(json.loads(text)["url"], process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def cloud() -> Iterator[AgentServer]:
    with AgentServer(pause_s=0.02) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory, cloud) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), cloud) as started:
        yield started


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_a_front_end_in_node_is_served_through_a_whole_session(tmp_path, cloud, service):
    request = tmp_path / "request.json"
    request.write_text(json.dumps(report_body(metadata=None)), encoding="utf-8")
    folders = [tmp_path / name for name in ("slow", "broken")]
    for folder in folders:
        folder.mkdir()
    assert NODE
    with (
        AgentServer(pause_s=30) as slow_cloud,
        AgentServer() as broken_cloud,
        running(folders[0], slow_cloud) as slow,
        running(folders[1], broken_cloud) as broken,
    ):
        broken_cloud.fault = Fault(status=500, body=b'{"error": {"message": "it broke"}}')
        done = subprocess.run(
            [NODE, "--test", str(ROOT / "tests" / "node" / "service.test.mjs")],
            env={
                "PATH": os.environ["PATH"],
                "SERVICE_URL": service.url,
                "SERVICE_SLOW_URL": slow.url,
                "SERVICE_BROKEN_URL": broken.url,
                "SERVICE_REQUEST": str(request),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert re.search(r"# pass 9\b", done.stdout)
        stopped = [seen for seen in slow_cloud.requests if seen.path.endswith("/completions")]
        assert len(stopped) == 2
        assert all(seen.left_early.wait(5) for seen in stopped), "the page's models were stopped"
    assert any(b"data:image/png;base64," in seen.body for seen in cloud.requests), (
        "the picture goes to a model that sees"
    )


def test_streams_at_the_same_time_are_not_mixed(service):
    def marks_seen_by(number: int) -> tuple[set[str], set[str]]:
        mark = f"mark-{number}"
        body = report_body(clinicalContext={"clinicalIndication": f"Cough, {mark}."})
        with service.client() as client:
            report = events_of(client, "/medical_report_stream", body)
            message = {"message": f"Where is {mark}?", "mode": "question"}
            talk = events_of(
                client, "/chat_stream", {**message, "sessionId": report[0]["sessionId"]}
            )
        said = "".join(event.get("text", "") for event in talk)
        return set(re.findall(r"mark-\d+", json.dumps(report))), set(re.findall(r"mark-\d+", said))

    with ThreadPoolExecutor(12) as pool:
        seen = list(pool.map(marks_seen_by, range(24)))
    assert seen == [({f"mark-{number}"}, {f"mark-{number}"}) for number in range(24)]


def test_sigterm_under_load_ends_every_stream_that_does_not_end_itself(tmp_path):
    with (
        AgentServer(pause_s=30) as cloud,
        running(tmp_path, cloud, "--grace", "0.5") as service,
        ThreadPoolExecutor(LOAD) as pool,
        service.client() as client,
        half_sent(service) as half,
    ):
        streams = [
            pool.submit(events_of, client, "/medical_report_stream", report_body())
            for _ in range(LOAD - 1)
        ]
        whole = pool.submit(client.post, "/medical_report_init", json=report_body())
        while client.get("/health").json()["openRequests"] < LOAD:
            time.sleep(0.02)
        asked = cloud.requests
        assert wait_until(
            lambda: sum(seen.path.endswith("/completions") for seen in asked) == LOAD, 20
        )
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        ends = [stream.result()[-2:] for stream in streams]
        assert ends == [[{"type": "error", "error": STOPPING}, {"type": "done"}]] * (LOAD - 1)
        assert (whole.result().status_code, whole.result().json()) == (503, {"error": STOPPING})
        assert half.recv(4096).startswith(b"HTTP/1.1 503")
        assert service.process.wait(20) == 0
        assert time.monotonic() - began < 0.5 + LAST_WORDS_S
        stopped = [seen for seen in asked if seen.path.endswith("/completions")]
        assert all(seen.left_early.wait(5) for seen in stopped), "the models were stopped"
    log = service.log.read_text()
    assert log.count("POST /medical_report_stream 200 in") == LOAD - 1
    assert "Traceback" not in log
    assert "ERROR" not in log
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health", trust_env=False)


@contextmanager
def half_sent(service: Running) -> Iterator[socket.socket]:
    """A request that does not come whole."""
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as half:
        half.sendall(
            b"POST /medical_report_init HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        yield half


def test_streams_that_end_within_the_grace_are_not_cut_off():
    with served(grace_s=20) as service, ThreadPoolExecutor(4) as pool, service.client() as client:
        held = service.hold("radiologist")
        streams = [
            pool.submit(events_of, client, "/medical_report_stream", report_body())
            for _ in range(3)
        ]
        while client.get("/health").json()["openRequests"] < 3:
            time.sleep(0.02)
        service.stop()
        time.sleep(0.3)
        service.release(held)
        assert [kinds(stream.result())[-2:] for stream in streams] == [["complete", "done"]] * 3


def test_a_patient_stays_unknown_to_a_cloud_and_is_named_in_the_report(caplog):
    told = "Mr Quillfeather (MRN-77012345) was born on 1960-05-01."
    with AgentServer() as cloud:
        addresses = Addresses({"openai": cloud.base_url})
        chosen = profile(f"openai:{MODEL}", None, privacy="deidentified")
        with served(chosen=chosen, providers=addresses.make) as service, service.client() as client:
            body = report_body(clinicalContext={"relevantHistory": told})
            events = events_of(client, "/medical_report_stream", body)
            assert kinds(events)[-2:] == ["complete", "done"]
            message = {"message": "Does Zebedee smoke?", "mode": "question"}
            talk = events_of(
                client, "/chat_stream", {**message, "sessionId": events[0]["sessionId"]}
            )
            assert kinds(talk)[-1] == "done"
            assert "chunk" in kinds(talk)
    sent = b" ".join(seen.body for seen in cloud.requests)
    assert b"[PATIENT_1]" in sent
    for known in (b"uillfeather", b"Zebedee", b"77012345", b"1960-05-01", b"image_url"):
        assert known not in sent
    assert "uillfeather" not in caplog.text


def test_a_profile_that_is_none_ends_the_command_with_one_line(tmp_path):
    path = tmp_path / "none.json"
    path.write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "soma_bench", "serve", "--profile", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: ")
    assert done.stderr.count("\n") == 1
