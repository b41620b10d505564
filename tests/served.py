"""A running service for tests: a real uvicorn in a thread, in front of scripted models."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image as Pillow

from routing_examples import profile_content
from scripted import completion
from soma_bench.agents import AGENT_BY_NAME, conversation
from soma_bench.environment import read_environment
from soma_bench.providers.base import Availability, Capabilities, Provider
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.service.app import create_api
from soma_bench.service.core import Service, open_service
from soma_bench.service.server import Server, bind
from soma_bench.service.settings import ServiceSettings
from soma_bench.types import AGENTS, Chunk, Completion, ProviderName, Request

SAID = ("The nodule ", "lies in the ", "left lower lobe.")
"""What an agent says in a talk, piece by piece."""
STEPS = [
    "phase1_start",
    "radiologist_done",
    "phase2_start",
    "pathologist_done",
    "phase3_start",
    "report_draft_done",
    "phase4_start",
    "analysis_complete",
]


def profile(**changes: Any) -> Profile:
    """A profile on one scripted model."""
    route = {"primary": "llamacpp:a", "fallback": None, "privacy": "local_only", "reason": ""}
    return Profile.model_validate(
        profile_content(
            **{
                "providers": {"llamacpp": {"enabled": True}},
                "models": {},
                "routing": {agent: dict(route) for agent in AGENTS},
                **changes,
            }
        )
    )


def agent_of(request: Request) -> str:
    """Whose request it is; a talk's has ``talk:`` before it."""
    system = request.messages[0].content
    for name in AGENTS:
        if AGENT_BY_NAME[name].system == system:
            return name
        if conversation.BY_NAME[name].system == system:
            return f"talk:{name}"
    raise AssertionError("nobody's request")


@dataclass
class Model:
    """A provider whose agents answer as their first worked examples do, or as a script says."""

    name: str = "llamacpp"
    is_local: bool = True
    vision: bool = False
    scripts: dict[str, Callable[[Request], str | Completion]] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    """An agent whose answer waits for an event."""
    requests: list[Request] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        return [agent_of(request) for request in self.requests]

    async def _answer(self, request: Request) -> Completion:
        agent = agent_of(request)
        self.requests.append(request)
        if agent in self.hold:
            await self.hold[agent].wait()
        if agent in self.scripts:
            answer = self.scripts[agent](request)
            return completion(answer) if isinstance(answer, str) else answer
        if agent.startswith("talk:"):
            return completion("".join(SAID))
        known = AGENT_BY_NAME[agent]  # type: ignore[index]
        return completion(known.write(known.examples[-1][1]))

    async def complete(self, request: Request) -> Completion:
        with self._watched(request):
            return await self._answer(request)

    @contextmanager
    def _watched(self, request: Request) -> Iterator[None]:
        """Note whose work was stopped before its end."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(agent_of(request))
            raise

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        with self._watched(request):
            if agent_of(request).startswith("talk:") and agent_of(request) not in self.scripts:
                for piece in SAID:
                    yield Chunk(text=piece)
                    await asyncio.sleep(0)
                yield Chunk(completion=await self._answer(request))
            else:
                whole = await self._answer(request)
                yield Chunk(text=whole.text)
                yield Chunk(completion=whole)

    async def available(self) -> Availability:
        return Availability(("a",))

    async def capabilities(self, model: str) -> Capabilities:
        return Capabilities(
            vision=self.vision,
            thinking_levels=("off",),
            thinking_budget=True,
            schema=True,
            context_tokens=None,
            weights_bytes=1,
        )

    async def close(self) -> None:
        pass


@dataclass
class Served:
    """A running service."""

    url: str
    path: Path
    """The profile's file."""
    model: Model
    service: Service
    server: Server

    def client(self, **options: Any) -> httpx.Client:
        # Certificates take longer to load than most tests take, and there are none.
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=20, **options)

    def in_loop(self, call: Callable[[], Any]) -> Any:
        """Call something where the models are asked."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.service.workroom.loop).result(10)

    def hold(self, agent: str) -> asyncio.Event:
        """Let an agent's answers wait."""
        event = self.model.hold[agent] = self.in_loop(asyncio.Event)
        return event

    def release(self, event: asyncio.Event) -> None:
        self.in_loop(event.set)

    def stop(self) -> None:
        self.server.should_exit = True


@contextmanager
def served(
    model: Model | None = None,
    chosen: Profile | None = None,
    *,
    providers: Callable[[ProviderName], Provider] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Run a service on a free port of this machine until the block ends."""
    model = model or Model()
    ready = threading.Event()
    found: list[Served] = []
    failure: list[BaseException] = []

    async def main(path: Path) -> None:
        save_profile(chosen or profile(), path)
        with bind("127.0.0.1", 0) as listener:
            async with open_service(
                path,
                ServiceSettings(**{"grace_s": 0.2, **settings}),
                environment=read_environment(None),
                factory=lambda *_: providers or (lambda _: model),
            ) as service:
                server = Server(service, create_api(service))
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                found.append(Served(url, path, model, service, server))
                ready.set()
                await server.serve(sockets=[listener])

    def run() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                asyncio.run(main(Path(folder) / "profile.json"))
        except BaseException as error:  # noqa: BLE001 - told to the test
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(20)
    try:
        if failure:
            raise failure[0]
        yield found[0]
    finally:
        if found:
            found[0].stop()
        thread.join(20)
        assert not thread.is_alive(), "the service did not stop"
    if failure:
        raise failure[0]


def picture(kind: str = "PNG", size: tuple[int, int] = (32, 32)) -> bytes:
    """A small picture with a marked spot."""
    image = Pillow.new("RGB", size, (40, 40, 40))
    image.putpixel((size[0] // 2, size[1] // 2), (30, 144, 255))
    stream = io.BytesIO()
    image.save(stream, format=kind)
    return stream.getvalue()


def data_url(kind: str = "PNG", size: tuple[int, int] = (32, 32)) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(picture(kind, size)).decode()}"


MASK = {
    "name": "nodule",
    "location": "left lower lobe",
    "areaMm2": 143,
    "diameterMm": 14,
    "centroidMm": [71, 38, -64],
    "meanHu": 35,
    "margin": "lobulated",
}
PATIENT = {
    "id": 7,
    "name": "Zebedee Quillfeather",
    "age": 63,
    "gender": "Male",
    "mrn": "MRN-77012345",
    "dob": "1960-05-01T00:00:00.000Z",
}


def report_body(**changes: Any) -> dict[str, Any]:
    """What the front end sends, with a measured mask."""
    return {
        "final_image": data_url("WEBP"),
        "metadata": {"masks": [MASK], "modality": "CT", "bodyPart": "Chest"},
        "patientInfo": PATIENT,
        "clinicalContext": {
            "clinicalIndication": "Persistent cough.",
            "examType": "CT Chest",
            "smokingHistory": {"status": "former", "packYears": 35},
            "relevantHistory": "",
            "priorImagingDate": "2023-01-09",
        },
        **changes,
    }


def events_of(client: httpx.Client, path: str, body: Any) -> list[dict[str, Any]]:
    """All events of a stream."""
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(parsed(response.iter_lines()))


def parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
        else:
            assert line == "" or line.startswith(":")


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
