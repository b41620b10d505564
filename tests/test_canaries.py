"""Nothing forbidden leaves: marked cases through random profiles, levels, faults and guard failures.

Clouds are servers on loopback that keep every byte. What is forbidden must not reach them, nor a log
line, a span or an exception. ``SOMA_BENCH_CANARIES=10000`` runs as many examples as it says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import os
import re
import socket
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, SecretStr

from routing_examples import profile_content
from scripted import ScriptedProvider
from servers import claude, openai
from servers.base import Fault, Server
from servers.claude import ClaudeServer
from servers.ollama import Model, OllamaServer
from servers.openai import OpenAIServer
from soma_bench.agents.alignment import AlignmentInput
from soma_bench.agents.pathologist import PathologistInput
from soma_bench.environment import Environment
from soma_bench.errors import PrivacyError, ProviderError, SomaError
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.base import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.transports import Cleared
from soma_bench.routing import privacy
from soma_bench.routing.context import CallContext, Identifiers, strictest
from soma_bench.routing.known import Found
from soma_bench.routing.privacy import Guard
from soma_bench.routing.profile import AgentRouting, Profile
from soma_bench.routing.recognizers import Recognizer, presidio
from soma_bench.routing.router import Router
from soma_bench.types import AgentName, Limits, PrivacyLevel, ProviderName, Request, Target

EXAMPLES = int(os.environ.get("SOMA_BENCH_CANARIES", "200"))

IDENTIFIERS = Identifiers(values=frozenset({"Quillfeather, Zebedee", "MRN-77012345", "1947-08-19"}))
MARK = "zirconium-walrus"
"""Stands in every case and identifies nobody: what is local_only must not leave with or without."""
WRITTEN = (
    *("Zebedee Quillfeather", "QUILLFEATHER, ZEBEDEE", "Quillfeather^Zebedee", "mr quillfeather"),
    *("Zebedee T. Quillfeather", "zebedee\nquillfeather", "ZebedeeQuillfeather", "Zebédée"),
    *("MRN 77012345", "77-012-345", "mrn: 77 012 345", "#77012345", "pat77012345x"),
    *("1947-08-19", "19 August 1947", "08/19/1947", "19.8.47", "19470819", "Aug 19th, 1947"),
    *("[PATIENT_1]", "[MRN_1", "see [DATE_1]", "[MARK_1] Quillfeather", '"Quillfeather"', "é"),
    *("zebedee.quillfeather@example.org", "(0010,0010) PN [QUILLFEATHER^ZEBEDEE]"),
)
NAMED = re.compile(
    r"zebedee|quillfeather|77\W{0,3}012\W{0,3}345|19470819|1947[-/.]0?8[-/.]19|0?8[-/.]19[-/.]1947"
    r"|19\.8\.47|19(?:th)?\W{1,3}aug|aug\w*\W{1,3}19",
    re.IGNORECASE,
)
"""An identifier in any of the forms above, and no time, port or id that looks like one by chance."""

LOCAL = "ollama:qwen3:8b"
TARGETS = (LOCAL, "ollama:gpt-oss:120b-cloud", "llamacpp:stub", "claude:claude-sonnet-5-5")
TARGETS += ("claude:claude-haiku-4-5", "openai:gpt-6-luna")
ELSEWHERE = "ollama.elsewhere.example"
"""A host that is not this machine by its name; its address is the test server's."""

FAULTS: tuple[Fault | None, ...] = (
    *([None] * 12),
    *(Fault(status=status, body=b"{}") for status in (307, 401, 404, 429, 500, 503, 529)),
    Fault(
        status=307, headers={"location": f"http://{ELSEWHERE}/", "content-length": "0"}, body=b""
    ),
    *(Fault(then=then) for then in ("reset", "end", "garbage", "error")),
    *(Fault(after=2, then=then) for then in ("reset", "end", "garbage", "error")),
    Fault(then="hang"),
)


class Servers:
    """Every backend of an example; the clouds among them keep all that they get."""

    def __init__(self, stack: ExitStack) -> None:
        models = [Model(name="qwen3:8b"), Model(name="gpt-oss:120b-cloud", remote_host="x.example")]
        self.local = stack.enter_context(OllamaServer(*models))
        self.elsewhere = stack.enter_context(OllamaServer(*models))
        self.claude = stack.enter_context(ClaudeServer())
        self.openai = stack.enter_context(OpenAIServer())
        self.clouds: tuple[Server, ...] = (self.elsewhere, self.claude, self.openai)
        # An answer that names the placeholders, so that the identifiers come back into it.
        said = ['{"intent": "QUESTION", "who": "[PATI', "ENT_1] [MRN_1] [DATE_1]", '"} and more']
        self.claude.text = self.openai.text = said

    def reset(self, faults: Sequence[Fault | None]) -> None:
        for server, fault in zip((self.local, *self.clouds), faults, strict=True):
            server.requests.clear()
            server.fault = fault

    def received(self) -> str:
        """Every byte that a cloud got, as text."""
        return "\n".join(
            f"{r.method} {r.path}?{r.query} {r.headers} {_plain(r.body)}"
            for server in self.clouds
            for r in server.requests
        )

    def asked(self) -> int:
        """Questions that a cloud was asked."""
        return sum(r.method == "POST" for server in self.clouds for r in server.requests)


def _plain(body: bytes) -> str:
    """A body with its JSON escapes read too, so that none hides a name."""
    text = body.decode("utf-8", errors="replace")
    return text + re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(scope="module")
def spans(tracer_provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture(autouse=True)
def _elsewhere_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The name of the host that is elsewhere leads to the test server."""
    look_up = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        plain = host.decode() if isinstance(host, bytes) else host
        return look_up("127.0.0.1" if plain == ELSEWHERE else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@dataclasses.dataclass(frozen=True)
class Example:
    """One random situation."""

    agent: AgentName
    primary: str
    fallback: str | None
    own: PrivacyLevel
    data: PrivacyLevel | None
    ollama_elsewhere: bool
    elsewhere_by_environment: bool
    forced: ProviderName | None
    forced_fallback: ProviderName | None
    auto_fallback: bool
    pieces: tuple[str, ...]
    known: bool
    faults: tuple[Fault | None, ...]
    guard: str
    streamed: bool

    @property
    def level(self) -> PrivacyLevel:
        return strictest((self.own, self.data)) or "local_only"

    @property
    def text(self) -> str:
        return f"{MARK} " + " ; ".join(self.pieces)

    def inputs(self) -> BaseModel:
        if self.agent == "alignment":
            return AlignmentInput(message=self.text)
        return PathologistInput(findings=(), context=self.text)

    def profile(self, servers: Servers) -> Profile:
        """The profile, also where its own checks would refuse it: the guard has to hold alone."""
        content = profile_content(auto_fallback=self.auto_fallback)
        for name in ("ollama", "claude", "openai", "llamacpp"):
            content["providers"][name] = {"enabled": True}
        for name in ("ollama", "claude", "openai"):
            content["providers"][name]["timeout_s"] = 0.25
        content["providers"]["ollama"]["base_url"] = self.ollama_url(servers)
        for route in content["routing"].values():
            route["privacy"] = "open"
        profile = Profile.model_validate(content)
        route = AgentRouting(
            primary=self.primary, fallback=self.fallback, privacy=self.own, reason="random"
        )
        return profile.model_copy(update={"routing": {**profile.routing, self.agent: route}})

    def ollama_url(self, servers: Servers) -> str:
        if self.ollama_elsewhere and not self.elsewhere_by_environment:
            return f"http://{ELSEWHERE}:{servers.elsewhere.port}"
        return servers.local.url

    def environment(self, servers: Servers) -> Environment:
        values: dict[str, Any] = {
            "LLM_PRIMARY_PROVIDER": self.forced,
            "LLM_FALLBACK_PROVIDER": self.forced_fallback,
            "OLLAMA_MODEL": "qwen3:8b",
        }
        if self.ollama_elsewhere and self.elsewhere_by_environment:
            values["OLLAMA_BASE_URL"] = f"http://{ELSEWHERE}:{servers.elsewhere.port}"
        return Environment(_env_file=None, **{k: v for k, v in values.items() if v})


_PROVIDERS = st.sampled_from((None, None, None, "claude", "openai", "ollama", "llamacpp"))
EXAMPLE = st.builds(
    Example,
    agent=st.sampled_from(("alignment", "pathologist")),
    primary=st.sampled_from(TARGETS),
    fallback=st.none() | st.sampled_from(TARGETS),
    own=st.sampled_from(("local_only", "deidentified", "deidentified", "open", "open")),
    data=st.sampled_from((None, None, "local_only", "deidentified", "open", "open")),
    ollama_elsewhere=st.booleans(),
    elsewhere_by_environment=st.booleans(),
    forced=_PROVIDERS,
    forced_fallback=_PROVIDERS,
    auto_fallback=st.booleans(),
    pieces=st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=6).map(tuple),
    known=st.sampled_from((True, True, True, False)),
    faults=st.tuples(*[st.sampled_from(FAULTS)] * 4),
    guard=st.sampled_from(
        ("whole", "whole", "blind", "raises", "nonsense", "missing", "case", "check")
    ),
    streamed=st.booleans(),
)


def recognizer(kind: str) -> Recognizer:
    """What finds unknown identifiers, or fails at it."""

    def recognize(text: str) -> Sequence[Found]:
        if kind == "raises":
            raise ValueError(f"cannot read {text!r}")
        if kind == "nonsense":
            return [Found(5, 2, "PATIENT", "x"), Found(-3, 10**6, "A", text), Found(1, 1, "B", "")]
        return []

    if kind == "missing":
        raise PrivacyError("de-identification needs Presidio")
    return presidio() if kind not in ("raises", "nonsense", "blind") else recognize


def provider(name: ProviderName, example: Example, servers: Servers) -> Provider:
    limits = Limits(
        connect_s=0.25, first_token_s=0.25, between_tokens_s=0.25, total_s=0.25, load_s=0.25
    )
    if name == "llamacpp":

        def fails(request: Request) -> str:
            raise ProviderError("llamacpp", "no memory left", kind="out_of_memory")

        return ScriptedProvider(fails)
    elsewhere = f"http://{ELSEWHERE}:{servers.elsewhere.port}"
    backend = {
        "ollama": Backend(
            base_url=elsewhere if example.ollama_elsewhere else servers.local.url, limits=limits
        ),
        "claude": Backend(
            base_url=servers.claude.url, api_key=SecretStr(claude.KEY), limits=limits
        ),
        "openai": Backend(
            base_url=servers.openai.base_url, api_key=SecretStr(openai.KEY), limits=limits
        ),
    }[name]
    return create_provider(name, backend)


async def _ask(router: Router, example: Example) -> None:
    context = CallContext(
        privacy=example.data, identifiers=IDENTIFIERS if example.known else Identifiers()
    )
    if not example.streamed:
        await router.ask(example.agent, example.inputs(), context)
        return
    async with aclosing(router.stream(example.agent, example.inputs(), context)) as events:
        async for _ in events:
            pass


def _broken(*_: object) -> Any:
    raise KeyError(f"{MARK} Quillfeather")


@contextmanager
def _guard_failure(kind: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Guard.__init__.__kwdefaults__, "recognizers", lambda _: recognizer(kind))
        if kind == "case":
            patch.setattr(privacy.Case, "deidentify", _broken)
        if kind == "check":
            patch.setattr(privacy.Case, "_check", _broken)
        yield


@contextmanager
def _log() -> Iterator[io.StringIO]:
    """All that is logged, at the lowest level."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def play(
    example: Example, servers: Servers, spans: InMemorySpanExporter, seen: Counter[str]
) -> None:
    """Let one situation happen, and look everywhere for what must not be there."""
    servers.reset(example.faults)
    spans.clear()
    said = ""
    with _log() as log, _guard_failure(example.guard):

        async def go() -> None:
            def make(name: ProviderName) -> Provider:
                return provider(name, example, servers)

            async with ProviderPool(make) as pool:
                environment = example.environment(servers)
                router = Router(
                    example.profile(servers),
                    pool,
                    environment=environment,
                    retry_s=0,
                    # A server that hangs before its model was ever loaded looks like one that loads.
                    load_s=0.25,
                )
                await _ask(router, example)

        try:
            asyncio.run(go())
            seen["answered"] += 1
        except SomaError as error:
            said = "".join(traceback.format_exception(error))
            seen[type(error).__name__] += 1
    received = servers.received()
    told = "\n".join(
        [log.getvalue(), said, *(span.to_json() for span in spans.get_finished_spans())]
    )
    if example.level == "local_only":
        assert MARK not in received
    if example.level != "open" and example.known:
        assert not NAMED.search(received)
    assert MARK not in told
    assert not NAMED.search(told)
    seen[f"{example.level} cloud"] += servers.asked() > 0
    seen[example.level] += 1


_QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]


def run(
    servers: Servers, spans: InMemorySpanExporter, examples: int, **kwargs: Any
) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=_QUIET,
        report_multiple_bugs=False,
        # What fails is shown as it was found: making it smaller would take minutes.
        phases=[Phase.generate],
    )
    @given(EXAMPLE)
    def holds(example: Example) -> None:
        play(example, servers, spans, seen)

    holds()
    return seen


@pytest.mark.timeout(60 + EXAMPLES)
def test_nothing_forbidden_arrives_anywhere(servers: Servers, spans: InMemorySpanExporter) -> None:
    seen = run(servers, spans, EXAMPLES)
    assert seen["deidentified cloud"] > EXAMPLES // 50, (
        "the property must not hold for want of calls"
    )
    assert seen["open cloud"] > EXAMPLES // 50


def _let_everything_out(
    self: Guard, request: Request, target: Target, level: Any, identifiers: Any = None
) -> Cleared:
    return Cleared(request=request, target=target, level="open")


def test_the_property_fails_without_the_guard(
    servers: Servers, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "clear", _let_everything_out)
    with pytest.raises(AssertionError):
        run(servers, spans, 200)
