"""Provider ``ollama`` against a server on loopback that speaks as Ollama does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import Any, TypeVar

import ollama as sdk
import pytest

from servers.base import Fault, Recorded, Reply, Server, closed_port, wait_until
from servers.ollama import OUT_OF_MEMORY, QUEUE_FULL, Model, OllamaServer
from soma_bench.errors import ConfigError, PrivacyError, ProviderError, TimeLimit
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.ollama import Ollama
from soma_bench.providers.ollama_facts import is_cloud_tag
from soma_bench.types import Chunk, Completion, Image, Limits, Message, Options, Request

T = TypeVar("T")

PLAIN = Model(name="llama3.1:8b", family="llama", template="{{ .Prompt }}", digest="aa" * 32)
THINKER = Model(name="qwen3:8b", capabilities=("completion", "tools", "thinking"))
SEER = Model(name="llama3.2-vision:11b", family="mllama", capabilities=("completion", "vision"))
GPT_OSS = Model(
    name="gpt-oss:20b",
    family="gptoss",
    template="<|start|>assistant<|end|>",
    capabilities=("completion", "thinking"),
)
SCHEMA = {"type": "object", "properties": {"lobe": {"type": "string"}}, "required": ["lobe"]}
SHORT = Limits(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=0.6, load_s=0.0)
Ask = Callable[[Ollama, Request], Awaitable[Completion]]


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer(*map(replace, (PLAIN, THINKER, SEER, GPT_OSS))) as running:
        yield running


def request(model: str = "llama3.1:8b", **changes: Any) -> Request:
    messages = (Message("system", "You read CT reports."), Message("user", "Is there a nodule?"))
    return Request(**{"model": model, "messages": messages, "max_tokens": 64, **changes})


async def complete(provider: Ollama, asked: Request) -> Completion:
    return await provider.complete(asked)


async def stream(provider: Ollama, asked: Request) -> Completion:
    return (await chunks_of(provider, asked))[-1].completion  # type: ignore[return-value]


async def chunks_of(provider: Ollama, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(asked)]


both = pytest.mark.parametrize("ask", [complete, stream], ids=["complete", "stream"])


def with_provider(url: str, work: Callable[[Ollama], Awaitable[T]], **settings: Any) -> T:
    async def run() -> T:
        provider = Ollama(base_url=url, **settings)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def asked(server: OllamaServer, ask: Ask, sent: Request, **settings: Any) -> Completion:
    return with_provider(server.url, lambda provider: ask(provider, sent), **settings)


def failure(server: OllamaServer, ask: Ask, sent: Request, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asked(server, ask, sent, **settings)
    return caught.value


def body_of(server: OllamaServer, path: str = "/api/chat") -> dict[str, Any]:
    body: dict[str, Any] = server.asked(path)[-1].json()
    return body


# --- the test server itself --------------------------------------------------------------------


def test_the_test_server_speaks_to_the_official_client(server: OllamaServer) -> None:
    client = sdk.Client(server.url, trust_env=False)
    whole = client.chat("qwen3:8b", [{"role": "user", "content": "hello"}], think=True)
    assert (whole.message.thinking, whole.message.content) == (
        "Let me look at it.",
        "No nodule seen.",
    )
    parts = list(client.generate("llama3.1:8b", "hello", stream=True))
    assert "".join(part.response or "" for part in parts) == "No nodule seen."
    assert parts[-1].done_reason == "stop"
    assert {model.model for model in client.ps().models} == {"qwen3:8b", "llama3.1:8b"}
    assert client.show("qwen3:8b").capabilities == ["completion", "tools", "thinking"]
    assert len(client.list().models) == 4
    client._client.close()


# --- answers -----------------------------------------------------------------------------------


@both
def test_answers_whole_with_the_servers_own_counts(server: OllamaServer, ask: Ask) -> None:
    answer = asked(server, ask, request())
    assert (answer.text, answer.thinking, answer.finish) == ("No nodule seen.", "", "stop")
    assert (answer.usage.output_tokens, answer.usage.thinking_tokens) == (4, 0)
    assert answer.usage.prompt_tokens
    assert answer.timings.decode_s == pytest.approx(0.04)
    assert answer.timings.prefill_s == pytest.approx(0.02)
    assert (answer.timings.first_token_s is not None) is (ask is stream)


@both
def test_sends_documented_fields_and_every_option(server: OllamaServer, ask: Ask) -> None:
    options = Options(temperature=0.7, top_p=0.9, seed=7, context_tokens=8192)
    asked(server, ask, request(options=options, max_tokens=50))
    body = body_of(server)
    assert body["options"] == {
        "num_ctx": 8192,
        "num_predict": 50,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 7,
    }
    assert body["stream"] is (ask is stream)
    assert body["keep_alive"] == "5m"
    assert set(body) <= set(sdk._types.ChatRequest.model_fields)
    assert set(body["options"]) <= set(sdk.Options.model_fields)


def test_streams_thoughts_apart_from_the_answer_and_times_both(server: OllamaServer) -> None:
    server.fault = Fault(drip_s=0.02)
    chunks = with_provider(server.url, lambda p: chunks_of(p, request("qwen3:8b")))
    assert "".join(chunk.thinking for chunk in chunks) == "Let me look at it."
    assert "".join(chunk.text for chunk in chunks) == "No nodule seen."
    last = chunks[-1].completion
    assert last is not None
    assert all(chunk.completion is None for chunk in chunks[:-1])
    assert last.timings.first_token_s is not None
    assert last.timings.first_answer_token_s is not None
    assert last.timings.first_answer_token_s > last.timings.first_token_s + 0.05


@both
def test_an_empty_answer_is_a_completion_without_text(server: OllamaServer, ask: Ask) -> None:
    server.models[0].answer = ()
    answer = asked(server, ask, request())
    assert (answer.text, answer.finish, answer.usage.output_tokens) == ("", "stop", 0)


@both
def test_an_answer_at_its_cap_says_so(server: OllamaServer, ask: Ask) -> None:
    answer = asked(server, ask, request(max_tokens=2))
    assert (answer.text, answer.finish) == ("No nodule", "length")


@both
def test_a_schema_goes_to_the_server(server: OllamaServer, ask: Ask) -> None:
    answer = asked(server, ask, request(schema=SCHEMA))
    assert body_of(server)["format"] == SCHEMA
    assert answer.structured_by == "schema"


@both
def test_a_schema_with_thinking_leaves_the_counts_of_two_runs_open(
    server: OllamaServer, ask: Ask
) -> None:
    usage = asked(server, ask, request("qwen3:8b", schema=SCHEMA)).usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.thinking_tokens) == (None, None, None)


@both
def test_images_go_as_base64_and_only_to_models_that_see(server: OllamaServer, ask: Ask) -> None:
    image = Image(b"\x89PNG", "image/png")
    sent = request("llama3.2-vision:11b", messages=(Message("user", "Describe.", (image,)),))
    asked(server, ask, sent)
    assert body_of(server)["messages"][0]["images"] == ["iVBORw=="]
    with pytest.raises(ConfigError, match="cannot see images"):
        asked(server, ask, replace(sent, model="qwen3:8b"))
    assert len(server.asked("/api/chat")) == 1


# --- thinking ----------------------------------------------------------------------------------


@both
def test_thinking_off_is_said_and_costs_nothing(server: OllamaServer, ask: Ask) -> None:
    answer = asked(server, ask, request("qwen3:8b", thinking="off"))
    assert body_of(server)["think"] is False
    assert body_of(server)["options"]["num_predict"] == 64
    assert (answer.thinking, answer.usage.thinking_tokens) == ("", 0)


@both
def test_levels_get_an_allowance_on_top_of_the_answer(server: OllamaServer, ask: Ask) -> None:
    options = Options(context_tokens=8192)
    asked(server, ask, request("gpt-oss:20b", thinking="low", options=options))
    assert body_of(server)["think"] == "low"
    assert body_of(server)["options"]["num_predict"] == 64 + 1024


@pytest.mark.parametrize(
    ("model", "thinking", "takes"),
    [
        ("qwen3:8b", "low", "it takes off, a number of tokens"),
        ("gpt-oss:20b", "off", "it takes low, medium, high"),
        ("gpt-oss:20b", 128, "it takes low, medium, high"),
        ("llama3.1:8b", "high", "it takes off"),
        ("llama3.1:8b", 128, "it takes off"),
    ],
)
@both
def test_thinking_that_a_model_cannot_honour_is_refused_before_the_call(
    server: OllamaServer, ask: Ask, model: str, thinking: Any, takes: str
) -> None:
    with pytest.raises(ConfigError, match=takes):
        asked(server, ask, request(model, thinking=thinking))
    assert not server.asked("/api/chat")


def test_a_model_made_to_think_always_cannot_be_off(server: OllamaServer) -> None:
    server.models.append(replace(THINKER, name="qwen3:4b-thinking-2507-q4_K_M"))
    can = with_provider(server.url, lambda p: p.capabilities("qwen3:4b-thinking-2507-q4_K_M"))
    assert (can.thinking_levels, can.thinking_budget) == ((), True)


@both
def test_a_budget_cuts_the_thoughts_and_still_gets_a_whole_answer(
    server: OllamaServer, ask: Ask
) -> None:
    answer = asked(server, ask, request("qwen3:8b", thinking=3, max_tokens=4, schema=SCHEMA))
    assert (answer.thinking, answer.text) == ("Let me look", "No nodule seen.")
    assert (answer.usage.thinking_tokens, answer.usage.output_tokens) == (3, 7)
    assert answer.structured_by == "schema"
    first, second = (record.json() for record in server.asked("/api/generate"))
    opened = first["prompt"]
    assert opened.endswith("<|im_start|>assistant\n<think>\n")
    assert first["options"]["num_predict"] == 3
    assert first["options"]["stop"] == ["</think>"]
    assert "format" not in first
    assert second["prompt"] == f"{opened}Let me look\n</think>\n\n"
    assert second["options"]["num_predict"] == 4
    assert second["format"] == SCHEMA
    assert first["raw"] is second["raw"] is True
    assert set(second) <= set(sdk._types.GenerateRequest.model_fields)


@both
def test_a_budget_beyond_need_spends_only_what_is_thought(server: OllamaServer, ask: Ask) -> None:
    answer = asked(server, ask, request("qwen3:8b", thinking=500))
    assert (answer.thinking, answer.usage.thinking_tokens) == ("Let me look at it.", 6)
    assert answer.text == "No nodule seen."


@both
def test_a_budget_needs_a_server_that_renders_prompts(server: OllamaServer, ask: Ask) -> None:
    server.renders = False
    with pytest.raises(ConfigError, match="update Ollama"):
        asked(server, ask, request("qwen3:8b", thinking=64))
    assert body_of(server)["options"]["num_predict"] == 1


# --- failures ----------------------------------------------------------------------------------


def status(code: int, error: str, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=code, body=json.dumps({"error": error}).encode(), headers=named)


FAILURES = {
    "out of memory": (status(500, OUT_OF_MEMORY), "out_of_memory", False),
    "killed runner": (
        status(500, "llama runner process has terminated: signal: killed"),
        "out_of_memory",
        False,
    ),
    "load failure": (status(500, "unable to load model: /x/blobs"), "backend", True),
    "queue full": (status(503, QUEUE_FULL), "overloaded", True),
    "cancelled": (status(499, "request canceled"), "cut_off", True),
    "too long": (
        status(400, "the input length exceeds the context length"),
        "context_too_long",
        False,
    ),
    "bad input": (status(400, "invalid character 'x'"), "bad_request", False),
    "key wanted": (status(401, "unauthorized"), "bad_key", False),
    "rate": (status(429, "slow down", retry_after="7"), "rate_limited", True),
    "redirect": (status(307, "", location="http://192.0.2.1/"), "backend", True),
    "proxy page": (Fault(status=502, body=b"<html>Bad gateway</html>"), "backend", True),
    "reset": (Fault(then="reset"), "cut_off", True),
    "reset midway": (Fault(then="reset", after=2), "cut_off", True),
    "clean end": (Fault(then="end", after=2), "ended_early", True),
    "garbage": (Fault(then="garbage", after=2), "malformed", True),
    "error inside": (Fault(then="error", after=2), "backend", True),
    "memory inside": (
        Fault(then="error", after=2, body=OUT_OF_MEMORY.encode()),
        "out_of_memory",
        False,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("thinking", [None, 3], ids=["plain", "budget"])
@both
def test_every_failure_has_its_kind_and_no_answer(
    server: OllamaServer, ask: Ask, name: str, thinking: int | None
) -> None:
    fault, kind, retryable = FAILURES[name]
    server.fault = fault
    error = failure(server, ask, request("qwen3:8b", thinking=thinking))
    assert (error.kind, error.retryable) == (kind, retryable), str(error)
    assert str(error).startswith("ollama: ")
    assert error.wait_s == (7.0 if name == "rate" else None)


@both
def test_a_body_of_the_wrong_shape_is_malformed(server: OllamaServer, ask: Ask) -> None:
    for body in (b"[]", b"{}", b'{"message": "hello"}', b'{"message": {"content": 3}}'):
        server.fault = Fault(status=200, body=body)
        assert failure(server, ask, request()).kind == "malformed"


@both
def test_nothing_at_the_address_is_not_running(ask: Ask) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(
        ProviderError, match=r"nothing answers at http://127\.0\.0\.1:\d+"
    ) as caught:
        with_provider(url, lambda provider: ask(provider, request()))
    assert caught.value.kind == "not_running"


@both
def test_names_are_exact_and_a_missing_one_brings_its_remedy(
    server: OllamaServer, ask: Ask
) -> None:
    for name in ("qwen3:8b-q4_K_M", "qwen3:32b", "QWEN3:8b", "qwen3"):
        error = failure(server, ask, request(name))
        assert error.kind == "model_missing"
        full = name if ":" in name else f"{name}:latest"
        assert f"'{full}' is not installed" in str(error)
        assert "qwen3:8b" in str(error)
        assert f"Run: soma-bench models pull ollama:{full}" in str(error)
    assert not server.asked("/api/chat")


@both
def test_a_bare_name_means_latest(server: OllamaServer, ask: Ask) -> None:
    server.models.append(replace(PLAIN, name="smollm2:latest"))
    assert asked(server, ask, request("smollm2")).text == "No nodule seen."


@both
def test_a_model_removed_since_is_missing_too(server: OllamaServer, ask: Ask) -> None:
    async def twice(provider: Ollama) -> None:
        await ask(provider, request())
        server.models[:] = [model for model in server.models if model.name != "llama3.1:8b"]
        await ask(provider, request())

    with pytest.raises(ProviderError, match=r"not installed; installed: .*Run: ") as caught:
        with_provider(server.url, twice)
    assert caught.value.kind == "model_missing"


@both
def test_a_prompt_that_was_cut_to_the_window_is_an_error(server: OllamaServer, ask: Ask) -> None:
    text = " ".join(["word"] * 200)
    sent = request(messages=(Message("user", text),), options=Options(context_tokens=200))
    error = failure(server, ask, sent)
    assert error.kind == "context_too_long"
    assert "window of 200 tokens" in str(error)


def test_a_conversation_is_never_shortened_by_whole_turns(server: OllamaServer) -> None:
    turns = tuple(
        Message(role, " ".join(["word"] * 100))  # type: ignore[arg-type]
        for role in ("user", "assistant", "user")
    )
    sent = request(messages=turns, options=Options(context_tokens=256))
    assert failure(server, complete, sent).kind == "context_too_long"
    assert body_of(server)["truncate"] is False


@both
def test_a_prompt_that_cannot_fit_is_refused_before_the_call(
    server: OllamaServer, ask: Ask
) -> None:
    sent = request(messages=(Message("user", "x" * 20_000),))
    assert failure(server, ask, sent).kind == "context_too_long"
    assert not server.asked("/api/chat")


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "ask", "limit", "seconds"),
    [
        (Fault(then="hang"), complete, "total", 0.6),
        (Fault(then="hang"), stream, "first_token", 0.3),
        (Fault(then="hang", after=2), stream, "between_tokens", 0.3),
        (Fault(drip_s=0.2), stream, "total", 0.6),
    ],
)
@pytest.mark.parametrize("thinking", [None, 6], ids=["plain", "budget"])
def test_each_limit_is_held_and_named(
    server: OllamaServer,
    fault: Fault,
    ask: Ask,
    limit: TimeLimit,
    seconds: float,
    thinking: int | None,
) -> None:
    async def timed(provider: Ollama) -> tuple[ProviderError, float]:
        await provider.complete(request("qwen3:8b", thinking=thinking))
        server.fault = fault
        started = time.perf_counter()
        with pytest.raises(ProviderError) as caught:
            await ask(provider, request("qwen3:8b", thinking=thinking, limits=SHORT))
        return caught.value, time.perf_counter() - started

    error, took = with_provider(server.url, timed)
    assert (error.kind, error.limit) == ("timeout", limit)
    assert took < seconds + 0.2


@both
def test_a_server_that_hangs_before_the_call_is_given_up_too(
    server: OllamaServer, ask: Ask
) -> None:
    server.side_fault = Fault(then="hang")
    started = time.perf_counter()
    assert failure(server, ask, request(limits=SHORT)).kind == "timeout"
    assert time.perf_counter() - started < 0.9


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog drops connections on Linux")
@both
def test_connecting_has_a_limit_of_its_own_a_request_may_set(ask: Ask) -> None:
    with socket.socket() as deaf, ExitStack() as waiting:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        sent = request(limits=Limits(connect_s=0.2))
        started = time.perf_counter()
        with pytest.raises(ProviderError, match=r"no connection within 0\.2 s") as caught:
            with_provider(url, lambda provider: ask(provider, sent))
    assert time.perf_counter() - started < 0.4
    assert (caught.value.kind, caught.value.limit) == ("timeout", "connect")


def test_a_server_that_is_not_ollama_is_said_to_be_none() -> None:
    class Other(Server):
        async def answer(self, request: Recorded, reply: Reply) -> None:
            await reply.body(b"404 page not found", status=404, content_type="text/plain")

    with Other() as server, pytest.raises(ProviderError, match="is not Ollama") as caught:
        with_provider(server.url, lambda provider: provider.complete(request()))
    assert caught.value.kind == "backend"


@both
def test_a_model_that_has_to_be_loaded_gets_time_for_it(server: OllamaServer, ask: Ask) -> None:
    server.models[0].load_s = 0.5
    limits = replace(SHORT, total_s=0.4, load_s=2.0)
    answer = asked(server, ask, request(limits=limits))
    assert answer.timings.load_s == pytest.approx(0.5, abs=0.01)
    assert answer.timings.queue_s is None
    assert answer.timings.total_s < 0.2


@both
def test_a_budget_counts_loading_apart_as_well(server: OllamaServer, ask: Ask) -> None:
    server.models[1].load_s = 0.4
    answer = asked(server, ask, request("qwen3:8b", thinking=3))
    assert answer.timings.load_s == pytest.approx(0.4, abs=0.15)
    assert answer.timings.total_s < 0.25


def test_waiting_for_a_loaded_model_is_queueing_and_not_loading(server: OllamaServer) -> None:
    async def twice(provider: Ollama) -> Completion:
        await provider.complete(request())
        server.queue_ns = 300_000_000
        return await provider.complete(request())

    timings = with_provider(server.url, twice).timings
    assert timings.load_s == 0.0
    assert timings.queue_s == pytest.approx(0.3, abs=0.01)


def test_another_context_means_another_load(server: OllamaServer) -> None:
    server.models[0].load_s = 0.1

    async def two_contexts(provider: Ollama) -> list[float | None]:
        sent = [request(options=Options(context_tokens=n)) for n in (2048, 4096, 4096)]
        return [(await provider.complete(each)).timings.load_s for each in sent]

    loads = with_provider(server.url, two_contexts)
    assert loads == [pytest.approx(0.1, abs=0.02), pytest.approx(0.1, abs=0.02), 0.0]
    assert len(server.asked("/api/ps")) == 2


@pytest.mark.parametrize(
    ("thinking", "path"), [(None, "/api/chat"), (6, "/api/generate")], ids=["plain", "budget"]
)
def test_closing_a_stream_ends_the_servers_work(
    server: OllamaServer, thinking: int | None, path: str
) -> None:
    server.fault = Fault(drip_s=0.05)

    async def first_only(provider: Ollama) -> bool:
        async with aclosing(provider.stream(request("qwen3:8b", thinking=thinking))) as chunks:
            async for chunk in chunks:
                assert chunk.thinking == "Let"
                break
        # Before the provider closes: the stream itself must have let go.
        return await asyncio.to_thread(wait_until, server.asked(path)[0].left_early.is_set)

    assert with_provider(server.url, first_only)


def test_cancelling_a_call_ends_the_servers_work(server: OllamaServer) -> None:
    server.fault = Fault(then="hang")

    async def cancelled(provider: Ollama) -> None:
        task = asyncio.ensure_future(provider.complete(request()))
        assert await asyncio.to_thread(wait_until, lambda: bool(server.asked("/api/chat")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        chat = server.asked("/api/chat")[0]
        assert await asyncio.to_thread(wait_until, chat.left_early.is_set)

    with_provider(server.url, cancelled)


# --- what and where ----------------------------------------------------------------------------


def test_identity_and_capabilities_load_nothing(server: OllamaServer) -> None:
    async def look(provider: Ollama) -> Any:
        return await provider.identity("qwen3:8b"), await provider.capabilities("qwen3:8b")

    identity, can = with_provider(server.url, look)
    assert identity.weights_digest == f"sha256:{THINKER.digest}"
    assert identity.engine == "ollama 0.33.1"
    assert identity.weights_bytes == can.weights_bytes == THINKER.size
    assert (can.vision, can.schema, can.context_tokens) == (False, True, 40_960)
    assert (can.thinking_levels, can.thinking_budget) == (("off",), True)
    assert not server.loaded


def test_identity_sees_weights_that_changed_under_their_name(server: OllamaServer) -> None:
    async def look(provider: Ollama) -> Any:
        before = await provider.identity("qwen3:8b")
        server.models[1].digest = "bb" * 32
        return before, await provider.identity("qwen3:8b")

    before, after = with_provider(server.url, look)
    assert before.weights_digest != after.weights_digest


def test_memory_is_what_the_server_counts_for_the_loaded_model(server: OllamaServer) -> None:
    async def look(provider: Ollama) -> list[int | None]:
        before = await provider.memory_bytes("llama3.1:8b")
        await provider.complete(request())
        return [before, await provider.memory_bytes("llama3.1:8b")]

    assert with_provider(server.url, look) == [None, PLAIN.size + 512 * 1024 * 1024]


def test_unload_frees_all_but_the_kept_and_waits_until_they_went(server: OllamaServer) -> None:
    server.unload_after = 2

    async def unload(provider: Ollama) -> None:
        for name in ("llama3.1:8b", "qwen3:8b"):
            await provider.complete(request(name))
        await provider.unload(frozenset({"qwen3:8b"}))

    with_provider(server.url, unload)
    assert set(server.loaded) == {"qwen3:8b"}


def test_available_lists_exact_names_or_says_why_not(server: OllamaServer) -> None:
    server.models.append(
        replace(PLAIN, name="big:latest", remote_host="https://ollama.com", remote_model="big")
    )
    found = with_provider(server.url, lambda p: p.available())
    assert found.models == ("gpt-oss:20b", "llama3.1:8b", "llama3.2-vision:11b", "qwen3:8b")
    assert found.reason is None
    gone = with_provider(f"http://127.0.0.1:{closed_port()}", lambda p: p.available())
    assert gone.models == ()
    assert "nothing answers" in (gone.reason or "")


@pytest.mark.parametrize(
    ("name", "cloud"),
    [
        ("gpt-oss:120b-cloud", True),
        ("glm-4.6:cloud", True),
        ("GPT-OSS:120B-CLOUD", True),
        ("team/gpt-oss:120b-cloud", True),
        ("gpt-oss:120b", False),
        ("cloud:8b", False),
        ("cloud", False),
    ],
)
def test_a_cloud_tag_is_known_by_its_name(name: str, cloud: bool) -> None:
    assert is_cloud_tag(name) is cloud


@both
def test_not_a_byte_goes_to_a_model_in_a_cloud(server: OllamaServer, ask: Ask) -> None:
    hidden = replace(PLAIN, name="mine:8b", remote_host="https://ollama.com", remote_model="big")
    server.models += [replace(PLAIN, name="gpt-oss:120b-cloud"), hidden]
    for name in ("gpt-oss:120b-cloud", "mine:8b"):
        with pytest.raises(PrivacyError, match="runs in Ollama's cloud"):
            asked(server, ask, request(name))
        with pytest.raises(PrivacyError, match="runs in Ollama's cloud"):
            with_provider(server.url, lambda p, name=name: p.identity(name))  # type: ignore[misc]
    assert not server.asked("/api/chat")


@pytest.mark.parametrize(
    ("url", "trusted", "local"),
    [
        (None, frozenset(), True),
        ("http://localhost:11434", frozenset(), True),
        ("http://[::1]:11434", frozenset(), True),
        ("http://192.168.1.20:11434", frozenset(), False),
        ("http://localhost.example.org:11434", frozenset(), False),
        ("http://studio.lan:11434", frozenset({"Studio.lan"}), True),
    ],
)
def test_only_loopback_and_named_hosts_are_local(
    url: str | None, trusted: frozenset[str], local: bool
) -> None:
    assert Ollama(base_url=url, trusted_hosts=trusted).is_local is local


@pytest.mark.parametrize("url", ["studio:11434", "ftp://host", "http://me:secret@host:1"])
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="plain http") as caught:
        Ollama(base_url=url)
    assert "secret" not in str(caught.value)


@both
def test_proxies_and_keys_of_the_environment_stay_out_of_loopback_calls(
    server: OllamaServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("OLLAMA_API_KEY", "canary-key")
    with caplog.at_level(logging.DEBUG):
        assert asked(server, ask, request()).text == "No nodule seen."
    assert "canary-key" not in caplog.text
    assert all("canary-key" not in str(record.headers) for record in server.requests)


def test_the_factory_makes_it(server: OllamaServer) -> None:
    provider = create_provider("ollama", Backend(base_url=server.url))

    async def run() -> str:
        try:
            return (await provider.complete(request())).text
        finally:
            await provider.close()

    assert asyncio.run(run()) == "No nodule seen."
