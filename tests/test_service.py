"""The service's API against scripted models: shapes, orders and words that the front end relies on."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image as Pillow

from served import (
    MASK,
    PATIENT,
    SAID,
    STEPS,
    Model,
    Served,
    data_url,
    events_of,
    kinds,
    parsed,
    picture,
    profile,
    report_body,
    served,
)
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.errors import ProviderError
from soma_bench.files import write_atomically
from soma_bench.routing.profile import Profile, profile_digest, profile_text, save_profile
from soma_bench.service import reports
from soma_bench.service.base64_files import Base64File, base64_file
from soma_bench.service.pictures import read_picture
from soma_bench.service.rush import Rush, waits_no_more
from soma_bench.types import AGENTS, Image, Request

AGREED = ["alignment", "radiologist", "pathologist", "report_writer", "qc_reviewer"]


def says(intent: str, handler: str) -> str:
    output = AlignmentOutput(intent=intent, handler=handler, asked="it", confidence=90)
    return output.model_dump_json()


def passes(_: Request) -> str:
    return '{"issues":[],"score":96,"verdict":"pass"}'


def model() -> Model:
    return Model(scripts={"qc_reviewer": passes})


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """One service for tests that leave nothing behind."""
    with served(model()) as service:
        yield service


@pytest.fixture
def fresh() -> Iterator[Served]:
    with served(model()) as service:
        yield service


def new_session(service: Served) -> str:
    with service.client() as client:
        answer = client.post("/medical_report_init", json=report_body())
        assert answer.status_code == 200, answer.text
        return answer.json()["sessionId"]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_report_comes_in_one_answer_of_the_agreed_shape(shared, prefix):
    with shared.client() as client:
        answer = client.post(f"{prefix}/medical_report_init", json=report_body())
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"message", "report", "sessionId", "metadata"}
    assert body["message"] == "Medical report generated successfully"
    assert body["report"].startswith("## Clinical Indication")
    assert body["metadata"]["qcScore"] == 96
    assert body["metadata"]["qcPassed"] is True
    assert isinstance(body["metadata"]["generationTime"], int)


@pytest.mark.parametrize("pipeline", ["sequential", "parallel"])
def test_a_stream_tells_every_step_once_in_its_order_and_done_last(pipeline):
    with served(model(), profile(pipeline=pipeline)) as service, service.client() as client:
        events = events_of(client, "/api/medical_report_stream", report_body())
    assert events[0] == {"type": "session", "sessionId": events[0]["sessionId"]}
    assert [event["step"] for event in events if event["type"] == "progress"] == STEPS
    logs = [event for event in events if event["type"] == "log"]
    assert logs
    assert all(set(log) == {"type", "step", "agent", "message", "level"} for log in logs)
    assert {log["step"] for log in logs} == {"log"}
    assert set(events[-2]) == {"type", "report", "qcScore"}
    assert kinds(events)[-2:] == ["complete", "done"]
    assert events[-1] == {"type": "done"}


def test_steps_stay_in_their_order_when_the_diagnosis_is_there_before_the_findings():
    with served(model(), profile(pipeline="parallel"), local_parallel=2) as service:
        held = service.hold("radiologist")
        with (
            service.client() as client,
            client.stream("POST", "/medical_report_stream", json=report_body()) as response,
        ):
            events = []
            for event in parsed(response.iter_lines()):
                events.append(event)
                if event["type"] == "log" and event["agent"] == "PathologistAgent":
                    service.release(held)
    assert [event["step"] for event in events if event["type"] == "progress"] == STEPS


def test_a_report_that_is_written_anew_repeats_no_step():
    with served() as service, service.client() as client:  # its reviewer finds a critical issue
        events = events_of(client, "/medical_report_stream", report_body())
        assert service.model.asked == [*AGREED, "report_writer", "qc_reviewer"]
    assert [event["step"] for event in events if event["type"] == "progress"] == STEPS
    assert any(event.get("level") == "warning" for event in events)


@pytest.mark.parametrize("path", ["/medical_report_init", "/api/medical_report_stream"])
@pytest.mark.parametrize("body", [{}, {"final_image": ""}, {"final_image": None}, None])
def test_without_an_image_the_agreed_error_comes(shared, path, body):
    with shared.client() as client:
        answer = client.post(path) if body is None else client.post(path, json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": "No final_image provided"})


@pytest.mark.parametrize(
    ("path", "field"), [("/chat_stream", "message"), ("/medical_report_rein", "userMessage")]
)
def test_without_a_message_the_agreed_error_comes(shared, path, field):
    with shared.client() as client:
        for body in ({}, {field: ""}):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()) == (400, {"error": f"No {field} provided"})


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("not base64!", "is not base64"),
        (data_url()[:-9], "is not base64|is a broken PNG"),
        (base64.b64encode(picture()[:60]).decode(), "is a broken PNG"),
        (base64.b64encode(picture("WEBP")[:-20]).decode(), "is a broken image"),
        (base64.b64encode(picture("JPEG")[:-20]).decode(), "is a broken JPEG"),
        (base64.b64encode(b"GIF89a" + bytes(40)).decode(), "is not a PNG, JPEG or DICOM image"),
        ("data:text/plain;base64,aGVsbG8=", "is text/plain"),
        ("data:image/png,raw", "without base64"),
        ("data:image/png;base64,", "is empty"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(shared, image, words):
    with shared.client() as client:
        for path in ("/medical_report_init", "/medical_report_stream"):
            answer = client.post(path, json=report_body(final_image=image))
            assert answer.status_code == 400
            assert re.search(rf"^final_image: .*({words})", answer.json()["error"])


def test_a_picture_of_too_many_pixels_is_refused(shared):
    assert (Pillow.MAX_IMAGE_PIXELS or 0) > 8200 * 8200, "it must be our limit that it meets"
    stream = io.BytesIO()
    Pillow.new("1", (8200, 8200)).save(stream, format="PNG")
    bomb = base64.b64encode(stream.getvalue()).decode()
    with shared.client() as client:
        answer = client.post("/medical_report_init", json=report_body(final_image=bomb))
    assert answer.status_code == 400
    assert "8200 x 8200 pixels" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_model_that_sees_gets_the_picture_and_the_others_get_words(kind, bare):
    image = base64.b64encode(picture(kind)).decode() if bare else data_url(kind)
    for vision in (True, False):
        with served(Model(vision=vision, scripts={"qc_reviewer": passes})) as service:
            with service.client() as client:
                answer = client.post("/medical_report_init", json={"final_image": image})
            assert answer.status_code == 200
            shown = [bool(request.messages[-1].images) for request in service.model.requests]
            assert shown == [False, vision, False, False, False]
            assert ("**Limitation:**" in answer.json()["report"]) is not vision


def test_a_report_about_a_picture_that_nobody_saw_says_so_unless_regions_were_measured(shared):
    def post(body):
        with shared.client() as client:
            return client.post("/medical_report_init", json=body).json()["report"]

    assert "no model looked at the image" in post({"final_image": data_url()})
    assert "**Limitation:**" not in post(report_body())


def test_masks_patient_and_context_reach_the_agents(fresh):
    long = "Cough. " * 60
    body = report_body(
        metadata={"masks": [MASK, {"name": "Mask 2", "mask": [0, 1], "maskDims": [1, 2]}, 7]},
        clinicalContext={
            "clinicalIndication": long,
            "examType": "Low-dose CT Chest",
            "smokingHistory": {"status": "former", "packYears": 35},
            "relevantHistory": "Asthma.",
            "priorImagingDate": "2023-01-09T00:00:00.000Z",
        },
    )
    with fresh.client() as client:
        assert client.post("/medical_report_init", json=body).status_code == 200
    _, radiologist, pathologist, writer, _ = (
        request.messages[-1].content for request in fresh.model.requests
    )
    assert "Low-dose CT Chest; marked in colour: Mask 2" in radiologist
    assert "R1: nodule in left lower lobe, diameter 14 mm, area 143 mm2" in radiologist
    assert long.strip() in pathologist
    assert "Smoking: former, 35 pack-years. Asthma." in pathologist
    assert "name Zebedee Quillfeather, mrn MRN-77012345, date_of_birth 1960-05-01" in writer
    assert "age 63, sex male" in writer
    assert "Comparison: Imaging of 2023-01-09." in writer
    for text in (radiologist, pathologist):
        assert "Quillfeather" not in text


def test_a_context_in_plain_words_and_no_patient_will_do(fresh):
    body = report_body(clinicalContext="Persistent cough.", patientInfo=None, metadata=None)
    with fresh.client() as client:
        assert client.post("/medical_report_init", json=body).status_code == 200
    writer = fresh.model.requests[3].messages[-1].content
    assert "Indication: Persistent cough." in writer
    assert "Patient:" not in writer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patientInfo": {"age": 200}}, "patientInfo.age: "),
        ({"patientInfo": {"dob": "May 1960"}}, "patientInfo.dob: give a date as YYYY-MM-DD"),
        ({"patientInfo": {"dob": "1960-02-31"}}, "patientInfo.dob: "),
        ({"final_image": 7}, "final_image: "),
        ({"metadata": "none"}, "metadata: "),
        ({"clinicalContext": {"clinicalIndication": "x" * 3000}}, "clinicalContext"),
    ],
)
def test_a_field_that_cannot_be_is_named(shared, changes, words):
    with shared.client() as client:
        answer = client.post("/medical_report_init", json=report_body(**changes))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(words)


def test_a_models_failure_is_a_500_with_details_and_an_error_event():
    def fails(_: Request) -> str:
        raise ProviderError("llamacpp", "the backend broke", kind="backend")

    with served(Model(scripts={"pathologist": fails})) as service, service.client() as client:
        answer = client.post("/medical_report_init", json=report_body())
        assert answer.status_code == 500
        assert answer.json()["error"] == "Report generation failed"
        assert "the backend broke" in answer.json()["details"]
        events = events_of(client, "/medical_report_stream", report_body())
        assert kinds(events)[-2:] == ["error", "done"]
        assert "the backend broke" in events[-2]["error"]
        assert client.get(f"/session/{events[0]['sessionId']}").json()["hasReport"] is False


@pytest.mark.parametrize(
    ("body", "intent", "answerer"),
    [
        ({"mode": "question"}, {"intent": "QUESTION", "confidence": 1.0}, "talk:report_writer"),
        ({"mode": "info"}, {"intent": "INFO", "confidence": 1.0}, "talk:report_writer"),
        (
            {"targetAgent": "radiologist"},
            {"intent": "DIRECT_AGENT", "confidence": 1.0, "targetAgent": "radiologist"},
            "talk:radiologist",
        ),
        (
            {"targetAgent": "pathologist", "mode": "auto"},
            {"intent": "DIRECT_AGENT", "confidence": 1.0, "targetAgent": "pathologist"},
            "talk:pathologist",
        ),
        (
            {"targetAgent": "report_writer", "mode": "question"},
            {"intent": "DIRECT_AGENT", "confidence": 1.0, "targetAgent": "report_writer"},
            "talk:report_writer",
        ),
    ],
)
def test_a_question_is_answered_piece_by_piece_by_the_agent_it_concerns(
    shared, body, intent, answerer
):
    session_id = new_session(shared)
    with shared.client() as client:
        events = events_of(
            client, "/chat_stream", {"message": "Where is it?", "sessionId": session_id, **body}
        )
    assert events[0] == {"type": "session", "sessionId": session_id}
    assert events[1]["type"] == "intent"
    assert intent.items() <= events[1].items()
    assert kinds(events)[2:] == ["chunk"] * len(SAID) + ["done"]
    assert [event["text"] for event in events[2:-1]] == list(SAID)
    assert shared.model.asked[-1] == answerer


def test_in_auto_mode_alignment_says_what_a_message_wants(fresh):
    session_id = new_session(fresh)
    fresh.model.scripts["alignment"] = lambda _: says("QUESTION", "pathologist")
    with fresh.client() as client:
        body = {"message": "Why that diagnosis?", "sessionId": session_id, "targetAgent": "auto"}
        events = events_of(client, "/api/chat_stream", body)
        assert events[1] == {"type": "intent", "intent": "QUESTION", "confidence": 0.9}
        assert fresh.model.asked[-2:] == ["alignment", "talk:pathologist"]
        asked = fresh.model.requests[-1].messages[-1].content
        assert asked.endswith("Doctor: Why that diagnosis?")
        events_of(client, "/chat_stream", {**body, "message": "And the size?"})
        asked = fresh.model.requests[-1].messages[-1].content
        assert f"Doctor: Why that diagnosis?\nYou: {''.join(SAID)}\nDoctor: And" in asked


@pytest.mark.parametrize(
    ("body", "redone"),
    [
        ({"mode": "revision"}, ["report_writer", "qc_reviewer"]),
        ({"targetAgent": "report_writer"}, ["report_writer", "qc_reviewer"]),
        ({"targetAgent": "pathologist", "mode": "revision"}, AGREED[2:]),
        ({}, ["alignment", *AGREED[1:]]),
    ],
)
def test_a_revision_ends_with_the_whole_report_and_what_changed(fresh, body, redone):
    session_id = new_session(fresh)
    fresh.model.scripts["alignment"] = lambda _: says("REVISION", "radiologist")
    writer = AGENT_BY_NAME["report_writer"]
    revised = writer.write(writer.examples[-1][1]).replace("Bronchoscopy.", "PET-CT.")
    fresh.model.scripts["report_writer"] = lambda _: revised
    before = len(fresh.model.requests)
    with fresh.client() as client:
        message = {"message": "Recommend a PET-CT.", "sessionId": session_id, **body}
        events = events_of(client, "/chat_stream", message)
        assert client.get(f"/session/{session_id}").json()["state"] == "draft_ready"
    assert fresh.model.asked[before:] == redone
    told = [kind for kind in kinds(events) if kind not in ("log", "progress")]
    assert told == ["session", "intent", "status", "chunk", "revision_complete", "done"]
    assert events[-2]["updatedReport"] == revised
    assert events[-2]["changes"] == ["Recommendations: changed"]


def test_an_approval_is_taken_and_an_unclear_message_is_asked_back(fresh):
    session_id = new_session(fresh)
    with fresh.client() as client:
        for intent, words, state in (
            ("UNCLEAR", "Please name the finding", "draft_ready"),
            ("APPROVAL", "approved", "approved"),
        ):
            answer = says(intent, "self")
            fresh.model.scripts["alignment"] = lambda _, answer=answer: answer
            events = events_of(client, "/chat_stream", {"message": "Hm", "sessionId": session_id})
            assert events[1]["intent"] == intent
            assert words in events[2]["text"]
            assert client.get(f"/session/{session_id}").json()["state"] == state


@pytest.mark.parametrize(
    "body", [{}, {"mode": "question"}, {"targetAgent": "radiologist"}, {"sessionId": "gone"}]
)
def test_a_talk_without_a_report_is_told_to_generate_one_first(shared, body):
    asked = len(shared.model.requests)
    with shared.client() as client:
        events = events_of(client, "/chat_stream", {"message": "Why?", **body})
    assert kinds(events) == ["session", "intent", "chunk", "done"]
    assert "generate a report first" in events[2]["text"]
    assert len(shared.model.requests) == asked, "no model is asked for that"


def test_feedback_comes_in_one_answer_of_the_agreed_shape(fresh):
    session_id = new_session(fresh)
    with fresh.client() as client:

        def post(**body):
            return client.post("/api/medical_report_rein", json=body)

        fresh.model.scripts["alignment"] = lambda _: says("QUESTION", "radiologist")
        body = post(userMessage="What was found?", sessionId=session_id).json()
        assert set(body) == {"reply", "updatedReport", "changes", "sessionId"}
        assert body["sessionId"] == session_id
        assert "14 mm" in body["reply"]
        assert (body["updatedReport"], body["changes"]) == (None, [])
        fresh.model.scripts["alignment"] = lambda _: says("REVISION", "report_writer")
        body = post(userMessage="Shorter, please.", sessionId=session_id).json()
        assert body["updatedReport"].startswith("## Clinical Indication")
        body = post(userMessage="Shorter, please.").json()
        assert "generate a report first" in body["reply"]
        assert body["sessionId"] != session_id


def test_feedback_during_a_revision_is_refused_as_too_early(fresh):
    session_id = new_session(fresh)
    held = fresh.hold("report_writer")
    message = {"message": "Shorter.", "sessionId": session_id, "targetAgent": "report_writer"}
    with (
        fresh.client() as client,
        client.stream("POST", "/chat_stream", json=message) as response,
    ):
        events = parsed(response.iter_lines())
        assert next(event for event in events if event["type"] == "progress")
        answer = client.post(
            "/medical_report_rein", json={"userMessage": "Longer.", "sessionId": session_id}
        )
        assert answer.status_code == 409
        assert "is revising" in answer.json()["error"]
        fresh.release(held)
        assert list(events)[-1] == {"type": "done"}


def test_a_session_can_be_looked_at_and_closed_which_stops_its_work(fresh):
    fresh.hold("radiologist")
    with (
        fresh.client() as client,
        client.stream("POST", "/medical_report_stream", json=report_body()) as response,
    ):
        events = parsed(response.iter_lines())
        session_id = next(events)["sessionId"]
        while next(events).get("step") != "phase1_start":
            pass
        looked_at = client.get(f"/api/session/{session_id}").json()
        assert looked_at == {"sessionId": session_id, "state": "analyzing", "hasReport": False}
        assert client.delete(f"/session/{session_id}").json() == {"message": "Session closed"}
        assert list(events)[-2:] == [
            {"type": "error", "error": "The session was closed"},
            {"type": "done"},
        ]
        for call in (client.get, client.delete):
            answer = call(f"/session/{session_id}")
            assert (answer.status_code, answer.json()) == (404, {"error": "Session not found"})
    assert fresh.model.cancelled == ["radiologist"]


def test_a_session_that_is_not_used_expires_and_one_too_many_pushes_out_the_oldest():
    with served(model(), session_ttl_s=0.3) as service, service.client() as client:
        session_id = new_session(service)
        assert client.get(f"/session/{session_id}").status_code == 200
        time.sleep(0.4)
        assert client.get(f"/session/{session_id}").status_code == 404
    with served(model(), max_sessions=2) as service, service.client() as client:
        first, second = new_session(service), new_session(service)
        assert client.get(f"/session/{first}").status_code == 200  # used, so second is the oldest
        new_session(service)
        assert client.get(f"/session/{second}").status_code == 404
        assert client.get(f"/session/{first}").status_code == 200
    with served(model(), max_picture_bytes=1) as service, service.client() as client:
        first, second = new_session(service), new_session(service)
        assert client.get(f"/session/{first}").status_code == 404
        assert client.get(f"/session/{second}").status_code == 200


def test_when_all_sessions_are_at_work_another_is_told_to_come_back():
    with served(model(), max_sessions=1) as service:
        service.hold("radiologist")
        with (
            service.client() as client,
            client.stream("POST", "/medical_report_stream", json=report_body()) as response,
        ):
            events = parsed(response.iter_lines())  # kept: to drop it would close the connection
            assert next(events)["type"] == "session"
            answer = client.post("/medical_report_stream", json=report_body())
            assert answer.status_code == 503
            assert "try again" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/medical_report_init", "/medical_report_stream"])
def test_a_client_that_leaves_stops_the_models_work(fresh, path):
    fresh.hold("radiologist")
    with fresh.client() as client:
        with pytest.raises(Exception, match="timed out"):
            client.post(path, json=report_body(), timeout=0.5)
        wait_until(lambda: fresh.model.cancelled == ["radiologist"])
        assert client.get("/health").json()["openRequests"] == 0
        wait_until(lambda: f'status="{499}"' in client.get("/metrics").text)


def test_a_client_that_leaves_a_talk_closes_the_models_stream(fresh):
    session_id = new_session(fresh)
    fresh.hold("talk:radiologist")
    body = {"message": "Where?", "sessionId": session_id, "targetAgent": "radiologist"}
    with (
        fresh.client() as client,
        client.stream("POST", "/chat_stream", json=body) as response,
    ):
        lines = response.iter_lines()
        while '"chunk"' not in next(lines):
            pass
        assert fresh.model.cancelled == []
    wait_until(lambda: fresh.model.cancelled == ["talk:radiologist"])
    with fresh.client() as client:
        wait_until(lambda: client.get("/health").json()["openRequests"] == 0)
        assert client.get(f"/session/{session_id}").json()["hasReport"]


def wait_until(holds, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to hold"
        time.sleep(0.02)


def test_a_comment_shows_that_a_quiet_connection_lives():
    with served(model(), heartbeat_s=0.1) as service:
        held = service.hold("radiologist")
        with (
            service.client() as client,
            client.stream("POST", "/medical_report_stream", json=report_body()) as response,
        ):
            lines = iter(response.iter_lines())
            assert any(line.startswith(":") for line in lines)
            service.release(held)
            assert list(parsed(lines))[-1] == {"type": "done"}


def test_health_says_which_targets_could_answer(shared):
    with shared.client() as client:
        body = client.get("/api/health").json()
    assert body["status"] == "ok"
    assert body["targets"] == [{"target": "llamacpp:a", "reason": None}]
    chosen = profile()
    missing = {
        agent: r.model_copy(update={"primary": "llamacpp:b"}) for agent, r in chosen.routing.items()
    }
    with (
        served(model(), chosen.model_copy(update={"routing": missing})) as service,
        service.client() as client,
    ):
        body = client.get("/health").json()
    assert body["status"] == "degraded"
    assert "there is no model 'b'" in body["targets"][0]["reason"]


def test_figures_count_and_time_and_say_nothing_of_a_patient(fresh):
    session_id = new_session(fresh)
    with fresh.client() as client:
        client.get(f"/session/{session_id}")
        client.get("/no/such/page/Quillfeather")
        figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    text = figures.text
    for line in (
        'soma_requests_total{endpoint="/medical_report_init",method="POST",status="200"} 1.0',
        'soma_requests_total{endpoint="/session/{session_id}",method="GET",status="200"} 1.0',
        'soma_requests_total{endpoint="other",method="GET",status="404"} 1.0',
        'soma_tokens_total{agent="radiologist",kind="output",target="llamacpp:a"} 5.0',
        'soma_stage_seconds_count{agent="report_writer",target="llamacpp:a"} 1.0',
        "soma_sessions 1.0",
    ):
        assert line in text
    for known in (session_id, *map(str, PATIENT.values())):
        assert known == "7" or known == "63" or known not in text


def test_a_replaced_profile_is_taken_by_the_next_analysis_and_not_by_one_under_way(fresh):
    def on(model: str) -> Profile:
        route = {"primary": f"llamacpp:{model}", "fallback": None, "reason": ""}
        return profile(
            name=f"on-{model}",
            routing={agent: {**route, "privacy": "local_only"} for agent in AGENTS},
        )

    def asked() -> set[str]:
        models = {request.model for request in fresh.model.requests}
        fresh.model.requests.clear()
        return models

    def health() -> dict[str, Any]:
        with fresh.client() as other:
            return other.get("/health").json()

    held = fresh.hold("radiologist")
    with (
        fresh.client() as client,
        client.stream("POST", "/medical_report_stream", json=report_body()) as response,
    ):
        events = parsed(response.iter_lines())
        while next(events).get("step") != "phase1_start":
            pass
        before = health()
        save_profile(on("b"), fresh.path)
        after = health()
        fresh.release(held)
        assert list(events)[-1] == {"type": "done"}
    assert asked() == {"a"}
    assert (after["profile"], after["digest"]) == ("on-b", profile_digest(on("b")))
    assert after["digest"] != before["digest"]
    assert after["loadedAt"] >= before["loadedAt"]
    assert after["reloadError"] is None
    session_id = new_session(fresh)
    assert asked() == {"b"}
    write_atomically(fresh.path, "{")
    with fresh.client() as client:
        message = {"message": "Where?", "sessionId": session_id, "mode": "question"}
        assert kinds(events_of(client, "/chat_stream", message))[-1] == "done"
    assert asked() == {"b"}, "one that is not valid is not taken"
    refused = health()
    assert refused["digest"] == after["digest"]
    assert str(fresh.path) in refused["reloadError"]
    write_atomically(fresh.path, profile_text(on("a")))
    mended = health()
    assert (mended["profile"], mended["reloadError"]) == ("on-a", None)


def test_analyses_on_two_versions_of_a_profile_wait_for_the_same_machine(fresh):
    held = fresh.hold("radiologist")
    with fresh.client() as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(events_of, client, "/medical_report_stream", report_body())
        wait_until(lambda: "radiologist" in fresh.model.asked)
        save_profile(profile(name="later"), fresh.path)
        second = pool.submit(events_of, client, "/medical_report_stream", report_body())
        wait_until(lambda: client.get("/health").json()["openRequests"] == 2)
        time.sleep(0.3)
        assert fresh.model.asked == AGREED[:2]
        fresh.release(held)
        assert [kinds(done.result())[-2:] for done in (first, second)] == [["complete", "done"]] * 2


def test_the_order_of_the_stages_is_that_of_the_profile_that_is_taken():
    with served(model(), profile(pipeline="sequential"), local_parallel=2) as service:
        save_profile(profile(pipeline="parallel"), service.path)
        held = service.hold("radiologist")
        beside = False
        with (
            service.client() as client,
            client.stream("POST", "/medical_report_stream", json=report_body()) as response,
        ):
            for event in parsed(response.iter_lines()):
                if event["type"] == "log" and event["agent"] == "PathologistAgent":
                    beside = beside or not held.is_set()
                    service.release(held)
    assert beside, "one after the other it would have waited for the Radiologist"


def test_a_picture_whose_pixels_are_broken_is_a_400_and_in_a_stream_an_error(shared):
    data = bytearray(picture(size=(64, 64)))
    at = data.index(b"IDAT") + 20
    data[at : at + 8] = bytes(8)
    body = report_body(final_image=base64.b64encode(bytes(data)).decode())
    asked = len(shared.model.requests)
    with shared.client() as client:
        answer = client.post("/medical_report_init", json=body)
        assert answer.status_code == 400
        assert "is a broken PNG" in answer.json()["error"]
        events = events_of(client, "/medical_report_stream", body)
        assert kinds(events) == ["session", "error", "done"]
        assert "is a broken PNG" in events[1]["error"]
        session = client.get(f"/session/{events[0]['sessionId']}").json()
        assert session["hasReport"] is False
    assert len(shared.model.requests) == asked, "no model is asked about it"


def test_a_jpeg_with_something_behind_its_end_is_taken(shared):
    image = base64.b64encode(picture("JPEG") + bytes(5000)).decode()
    with shared.client() as client:
        answer = client.post("/medical_report_init", json=report_body(final_image=image))
    assert answer.status_code == 200


def test_a_stream_begins_before_its_picture_is_read(monkeypatch):
    reading, may_read = threading.Event(), threading.Event()

    def slowly(file: Base64File) -> Image:
        reading.set()
        assert may_read.wait(20)
        return read_picture(file)

    monkeypatch.setattr(reports, "read_picture", slowly)
    with (
        served(model()) as service,
        service.client() as client,
        client.stream("POST", "/medical_report_stream", json=report_body()) as response,
    ):
        events = parsed(response.iter_lines())
        assert next(events)["type"] == "session"
        assert reading.wait(20)
        assert service.model.requests == []
        may_read.set()
        assert list(events)[-1] == {"type": "done"}


@pytest.mark.parametrize("size", [1, 2, 3, 100, 200_001])
def test_parts_of_a_file_in_base64_are_its_parts(size):
    data = bytes(number * 37 % 251 for number in range(size))
    for text in (base64.b64encode(data).decode(), base64.encodebytes(data).decode()):
        file = base64_file(text)
        assert file.size == size
        assert file.whole() == data
        for start in (0, 1, 2, 3, size // 2, size - 1):
            for end in (start, start + 1, start + 4, size, size + 9):
                assert file.part(start, end) == data[start:end]


@pytest.mark.parametrize(
    "text", ["A", "AB", "ABC", "ABCDE", "A=BC", "AB=C", "A===", "====", "AB?="]
)
def test_what_is_not_base64_is_seen_without_decoding_it(text):
    with pytest.raises(ValueError, match="base64"):
        base64_file(text)


def test_requests_that_wait_go_before_the_models_side_but_not_for_long():
    async def run() -> None:
        rush = Rush(moment_s=60)
        rush.let_pass()
        first, second = {"state": {}}, {"state": {}}
        rush.came(first["state"])
        rush.came(second["state"])
        began = time.monotonic()
        rush.let_pass()
        assert time.monotonic() - began < 5, "it is let pass for a moment only"
        waits = asyncio.create_task(rush.passed())
        waits_no_more(first)
        waits_no_more(first)  # which counts once
        await asyncio.sleep(0.05)
        assert not waits.done()
        waits_no_more(second)
        await asyncio.wait_for(waits, 5)
        brief = Rush(moment_s=0.05)
        brief.came({})  # and is never answered
        await asyncio.wait_for(brief.passed(), 5)

    asyncio.run(run())
