"""The door of the service: who may ask, how much may be sent, and what is written down of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest
import schemathesis
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.types import Message, Receive, Scope, Send

from served import PATIENT, Model, Served, data_url, events_of, report_body, served
from soma_bench.cli.serve import serve
from soma_bench.errors import ConfigError
from soma_bench.service import app as service_app
from soma_bench.service.access import Door
from soma_bench.service.jobs import Jobs
from soma_bench.service.metrics import Metrics
from soma_bench.service.server import bind
from soma_bench.service.settings import ServiceSettings

TOKEN = "a-token-of-tests-0123456789"
LIMIT = 64 << 10
ASK_FOR_REPORTS = ("POST /medical_report_init", "POST /medical_report_stream")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """A service with a token, a small limit and an origin that may read its answers."""
    with served(
        token=SecretStr(TOKEN),
        max_body_bytes=LIMIT,
        cors_origins=("http://localhost:5173",),
    ) as service:
        yield service


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with served(max_body_bytes=LIMIT, body_timeout_s=0.5) as service:
        yield service


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("given", [None, "x", "a-token-of-tests", TOKEN + "x", "ä" * 20])
@pytest.mark.parametrize("path", ["/health", "/metrics", "/session/x", "/openapi.json", "/no"])
def test_without_the_token_nothing_is_served(guarded, path, given):
    headers = {} if given is None else {"authorization": f"Bearer {given}".encode()}
    with guarded.client(headers=headers) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "bearer token" in answer.json()["error"]
    assert TOKEN not in answer.text


def test_with_the_token_it_is(guarded):
    with guarded.client(headers=bearer(TOKEN)) as client:
        assert client.get("/health").status_code == 200
        assert events_of(client, "/chat_stream", {"message": "Why?"})[-1] == {"type": "done"}


def test_a_page_of_a_named_origin_may_read_answers_and_others_may_not(guarded):
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    with guarded.client() as client:
        for origin, allowed in (("http://localhost:5173", True), ("http://evil.example", False)):
            preflight = client.options("/api/chat_stream", headers={"origin": origin, **asks})
            answer = client.get("/health", headers={"origin": origin, **bearer(TOKEN)})
            refusal = client.get("/health", headers={"origin": origin})
            assert refusal.status_code == 401
            assert (preflight.status_code == 200) is allowed
            for seen in (preflight, answer, refusal):
                named = seen.headers.get("access-control-allow-origin")
                assert named == (origin if allowed else None)
        assert preflight.headers.get("access-control-allow-origin") is None


def test_no_origin_is_allowed_unless_it_was_named(shared):
    with shared.client(headers={"origin": "http://localhost:5173"}) as client:
        assert "access-control-allow-origin" not in client.get("/health").headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "["]
)
def test_a_name_that_is_made_to_point_here_gets_nothing(shared, host):
    with shared.client(headers={"host": host}) as client:
        answer = client.get("/health")
    assert answer.status_code == 421
    assert "this machine only" in answer.json()["error"]


def test_what_a_page_may_send_unasked_is_not_taken_for_json(shared):
    with shared.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = client.post(
                "/chat_stream", content=b'{"message": "Why?"}', headers={"content-type": kind}
            )
            assert answer.status_code == 415


@pytest.mark.parametrize(
    "body", [b'{"final_image": "abc', b"[1]", b"7", b'"x"', b"\xff\xfe", b"[" * 5000]
)
def test_what_is_no_object_of_json_is_a_clear_4xx(shared, body):
    with shared.client(headers={"content-type": "application/json"}) as client:
        answer = client.post("/medical_report_init", content=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


@pytest.mark.parametrize("times", [1, 3, 50])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused_while_it_is_read(shared, chunked, times):
    pieces = [b'{"final_image": "'] + [b"x" * 4096] * (LIMIT * times // 4096 + 1) + [b'"}']
    content = iter(pieces) if chunked else b"".join(pieces)
    with shared.client(headers={"content-type": "application/json"}) as client:
        answer = client.post("/medical_report_stream", content=content)
    assert answer.status_code == 413
    assert "longer than 0.0625 MiB" in answer.json()["error"]


def test_a_body_that_does_not_come_whole_ends_in_time(shared):
    head = "POST /medical_report_init HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    port = int(shared.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as gone:
        gone.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    with shared.client() as client:
        assert client.get("/health").status_code == 200


def test_the_log_holds_no_body_no_token_and_no_patient(caplog):
    caplog.set_level(logging.DEBUG)
    with (
        served(Model(), token=SecretStr(TOKEN)) as service,
        service.client(headers=bearer(TOKEN)) as client,
    ):
        events = events_of(client, "/medical_report_stream", report_body())
        session_id = events[0]["sessionId"]
        client.get(f"/session/{session_id}?name=Quillfeather")
        client.post("/medical_report_init", json={"final_image": "Quillfeather"})
    text = "\n".join(
        record.getMessage()
        for record in caplog.records
        if not record.name.startswith("http")  # of the test's own client
    )
    assert "POST /medical_report_stream 200 in" in text
    assert "GET /session/{session_id} 200 in" in text
    for secret in (TOKEN, "Quillfeather", str(PATIENT["mrn"]), "Persistent cough", "14 mm"):
        assert secret not in text


def test_an_answer_that_the_stopping_server_breaks_off_is_logged_as_no_failure(caplog):
    async def run() -> None:
        begun = asyncio.Event()

        async def never_read(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            raise AssertionError("nothing is sent")

        door = Door(never_read, settings=ServiceSettings(), jobs=Jobs(), metrics=Metrics())
        scope = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost")]}
        serving = asyncio.create_task(door(scope, receive, send))
        await begun.wait()
        serving.cancel()
        await serving

    asyncio.run(run())
    assert "its client had stopped reading" in caplog.text


def test_an_error_that_nobody_foresaw_is_told_without_its_words(monkeypatch, caplog):
    name = str(PATIENT["name"])

    def fails(_: object) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(service_app, "read_request", fails)
    with served() as service, service.client() as client:
        answer = client.post("/medical_report_init", json=report_body())
    assert answer.status_code == 500
    assert answer.json() == {"error": "The service failed (RuntimeError); its log says where"}
    assert "RuntimeError" in caplog.text
    assert "Quillfeather" not in caplog.text


def test_the_description_says_what_is_served(shared):
    with shared.client() as client:
        described = client.get("/openapi.json").json()
        assert client.get("/docs").status_code == 404, "its page would be loaded from elsewhere"
    paths = described["paths"]
    for path in ("/medical_report_init", "/chat_stream", "/session/{session_id}", "/metrics"):
        assert path in paths
        assert f"/api{path}" in paths
    stream = paths["/medical_report_stream"]["post"]["responses"]
    assert set(stream["200"]["content"]) == {"text/event-stream"}
    assert stream["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_random_requests_are_answered_as_described(shared, mode):
    """Right ones and wrong ones; every answer is held against the description, and none is a 500."""
    described = schemathesis.openapi.from_url(f"{shared.url}/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 16
    for operation in operations[: len(operations) // 2]:  # the others are the same under /api

        @settings(
            max_examples=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            # No schema says what is a picture.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])
            if mode is GenerationMode.POSITIVE and case.operation.label in ASK_FOR_REPORTS:
                case.body["final_image"] = data_url()
                case.call_and_validate(excluded_checks=[positive_data_acceptance])

        try:
            check()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "there is nothing that could be wrong"


def test_the_command_demands_a_token_for_any_address_but_this_machines():
    def error(*options: str, **environment: str) -> str:
        profile = "routing_profiles/local-only.json"
        with pytest.raises(ConfigError) as raised:
            CliRunner().invoke(
                serve,
                ["--profile", profile, *options],
                env={"SOMA_BENCH_TOKEN": None, **environment},
                catch_exceptions=False,
            )
        return str(raised.value)

    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        assert "a bearer token is needed" in error("--host", host)
    assert "16 ASCII characters" in error(SOMA_BENCH_TOKEN="short")
    assert "16 ASCII characters" in error("--host", "0.0.0.0", "--token", "ü" * 20)
    for origin in ("localhost:5173", "http://localhost:5173/app", "*", "file:///x"):
        assert "is no origin" in error("--cors-origin", origin)


def test_small_events_are_sent_at_once():
    async def run() -> None:
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            kept.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bind("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(connected, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                assert await kept
                writer.close()

    asyncio.run(run())


def test_an_address_that_is_taken_or_not_ours_is_an_error_that_says_what_to_do():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"--port {port}: cannot be listened at: .*another port"
        ):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot be listened at"):
        bind("192.0.2.7", 0)
