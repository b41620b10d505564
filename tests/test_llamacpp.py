"""The embedded engine, for real: thinking budgets, schemas, streams, counters, unloading."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.llamacpp import LlamaCpp
from soma_bench.settings import THREADS_VARIABLE
from soma_bench.types import Image, Limits, Message, Options, Request

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct-q4_1"
SCHEMA = {
    "type": "object",
    "properties": {
        "side": {"type": "string", "enum": ["left", "right"]},
        "size_mm": {"type": "integer", "minimum": 1, "maximum": 30},
        "note": {"type": "string", "maxLength": 20},
    },
    "required": ["side", "size_mm", "note"],
    "additionalProperties": False,
}


def ask(text: str = "A nodule of 9 mm in the left lung. Describe it.", **changes) -> Request:
    fields = {"model": MODEL, "messages": (Message("system", "You describe nodules."), Message("user", text)),
              "max_tokens": 60, **changes}  # fmt: skip
    return Request(**fields)


def run(coroutine_of):
    async def go():
        provider = LlamaCpp()
        try:
            return await coroutine_of(provider)
        finally:
            await provider.close()

    return asyncio.run(go())


@pytest.fixture(scope="module", autouse=True)
def _model(embedded_models):
    return embedded_models


@pytest.fixture(scope="module")
def shared():
    """One provider for tests that leave it as they found it, since loading takes time."""
    provider = LlamaCpp()
    yield provider
    asyncio.run(provider.close())


@pytest.mark.parametrize("budget", [1, 2, 3, 8, 40])
def test_a_thinking_budget_is_held_and_an_answer_follows(budget):
    completion = run(lambda p: p.complete(ask(thinking=budget, schema=SCHEMA)))
    assert 1 <= completion.usage.thinking_tokens <= budget
    assert set(json.loads(completion.text)) == set(SCHEMA["required"])
    assert "think>" not in completion.text


def test_thinking_does_not_shrink_the_answer():
    completion = run(lambda p: p.complete(ask("Tell a long story.", thinking=30, max_tokens=25)))
    assert completion.finish == "length"
    assert completion.usage.output_tokens - completion.usage.thinking_tokens == 25


def test_thinking_off_thinks_nothing():
    completion = run(lambda p: p.complete(ask(thinking="off")))
    assert (completion.thinking, completion.usage.thinking_tokens) == ("", 0)
    assert completion.text


def test_answers_follow_the_schema():
    async def many(provider):
        return [await provider.complete(ask(f"Nodule {n} mm.", schema=SCHEMA)) for n in (4, 99, 7)]

    for completion in run(many):
        answer = json.loads(completion.text)
        assert not set(completion.text) & set("\n\t"), "no tokens are wasted on white space"
        assert answer["side"] in ("left", "right")
        assert 1 <= answer["size_mm"] <= 30
        assert len(answer["note"]) <= 20
        assert completion.structured_by == "schema"


def test_the_same_request_gives_the_same_answer_without_prompt_cache():
    request = ask("Tell a story about a lung.", options=Options(temperature=0.8, seed=11))

    async def three(provider):
        first = await provider.complete(request)
        await provider.complete(ask("Something else."))
        return first, await provider.complete(request)

    first, second = run(three)
    assert first.text == second.text == run(lambda p: p.complete(request)).text
    other = ask("Tell a story about a lung.", options=Options(temperature=0.8, seed=12))
    assert run(lambda p: p.complete(other)).text != first.text


def test_cached_tokens_are_counted_apart():
    warm = ask(options=Options(cache_prompt=True))

    async def twice(provider):
        return (
            await provider.complete(warm),
            await provider.complete(warm),
            await provider.complete(ask()),
        )

    cold, cached, uncached = run(twice)
    assert cold.usage.cached_tokens == 0
    assert 0 < cached.usage.cached_tokens < cached.usage.prompt_tokens == cold.usage.prompt_tokens
    assert uncached.usage.cached_tokens == 0


def test_timings_come_from_the_server_and_loading_counts_apart():
    async def twice(provider):
        return await provider.complete(ask(thinking=8)), await provider.complete(ask(thinking=8))

    first, second = (completion.timings for completion in run(twice))
    assert first.load_s > 0 == second.load_s
    for timings in (first, second):
        assert 0 < timings.first_token_s < timings.first_answer_token_s < timings.total_s
        assert 0 < timings.prefill_s + timings.decode_s <= timings.total_s * 1.05


def test_a_stream_says_what_the_completion_says():
    async def stream(provider):
        return [chunk async for chunk in provider.stream(ask(thinking=6))]

    *pieces, last = run(stream)
    assert "".join(piece.text for piece in pieces) == last.completion.text
    assert "".join(piece.thinking for piece in pieces).strip() == last.completion.thinking


def test_leaving_a_stream_stops_the_model():
    async def leave(provider):
        stream = provider.stream(ask("Tell a very long story.", max_tokens=1500))
        async for _ in stream:
            break
        await stream.aclose()
        return await asyncio.wait_for(provider.complete(ask(max_tokens=5)), timeout=10)

    assert run(leave).usage.output_tokens <= 5


LONG_PROMPT = "word " * 800
"""Takes far longer to read than the limits below, and cannot be interrupted."""


async def give_up(provider, limits, *, stream, **changes):
    """The error of a call that passes a limit, and how long after the call it came."""
    request = ask(limits=limits, **changes)
    started = time.perf_counter()
    with pytest.raises(ProviderError) as caught:
        await (streamed(provider, request) if stream else provider.complete(request))
    return caught.value, time.perf_counter() - started


async def streamed(provider, request):
    return [chunk async for chunk in provider.stream(request)]


@pytest.mark.parametrize(
    ("limits", "stream", "text", "passed"),
    [
        (Limits(total_s=0.05), False, LONG_PROMPT, "total"),
        (Limits(first_token_s=0.05), True, LONG_PROMPT, "first_token"),
        (Limits(total_s=0.05), True, "Tell a very long story.", "total"),
        (Limits(between_tokens_s=0.0001), True, "Tell a very long story.", "between_tokens"),
    ],
)
def test_a_limit_is_held_to_even_where_the_engine_cannot_be_interrupted(
    shared, limits, stream, text, passed
):
    async def go():
        await shared.complete(ask(max_tokens=1))
        changes = {"messages": (Message("user", text),), "max_tokens": 200}
        return await give_up(shared, limits, stream=stream, **changes)

    error, took_s = asyncio.run(go())
    assert (error.kind, error.limit) == ("timeout", passed)
    if passed != "between_tokens":
        assert 0.05 <= took_s <= 0.25


def test_calls_behind_one_that_was_given_up_wait_for_the_engine_or_for_their_own_limit():
    async def go(provider):
        await provider.complete(ask(max_tokens=1))
        stuck = {"messages": (Message("user", LONG_PROMPT),)}
        await give_up(provider, Limits(total_s=0.05), stream=False, **stuck)
        queued = await give_up(provider, Limits(total_s=0.02), stream=False)
        return queued, await provider.complete(ask(max_tokens=3))

    (error, took_s), completion = run(go)
    assert (error.kind, error.limit) == ("timeout", "total")
    assert took_s <= 0.22
    assert completion.text


def test_closing_waits_for_the_engine_and_ends_its_thread():
    others = set(threading.enumerate())

    def engine_threads():
        return [t for t in set(threading.enumerate()) - others if t.name.startswith("llamacpp")]

    async def go():
        provider = LlamaCpp()
        await provider.complete(ask(max_tokens=1))
        stuck = {"messages": (Message("user", LONG_PROMPT),)}
        await give_up(provider, Limits(total_s=0.05), stream=False, **stuck)
        assert engine_threads()
        started = time.perf_counter()
        await provider.close()
        return time.perf_counter() - started

    assert asyncio.run(go()) > 0.02, "the prompt was still being read"
    deadline = time.monotonic() + 5
    while engine_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine_threads()


def test_loading_has_time_of_its_own():
    request = ask(max_tokens=1, limits=Limits(total_s=0.05, load_s=0.0))
    patient = ask(max_tokens=1, limits=Limits(total_s=30.0, load_s=60.0))

    async def go(provider):
        with pytest.raises(ProviderError, match=r"within 0\.05 s"):
            await provider.complete(request)
        return await provider.complete(patient)

    assert run(go).text


class Server:
    """Stands before the native server and gives these chunks instead of its."""

    def __init__(self, native, chunks):
        self.native = native
        self._chunks = chunks

    def handle_completions(self, body, take):
        for chunk in self._chunks:
            if take(chunk):
                break


@contextmanager
def answering(provider, *chunks):
    asyncio.run(provider.complete(ask(max_tokens=1)))
    engine = provider._engines[MODEL]
    engine._server = Server(engine._server, chunks)
    yield
    engine._server = engine._server.native


LAST = {
    "choices": [{"text": "", "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3},
    "timings": {"cache_n": 0, "predicted_n": 1, "prompt_ms": 1.0, "predicted_ms": 1.0},
}
PIECE = {"choices": [{"text": "Hello"}]}


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ((PIECE,), "ended_early"),
        ((), "ended_early"),
        ((PIECE, "what?"), "malformed"),
        ((PIECE, {"choices": ["what?"]}), "malformed"),
        ((PIECE, {**LAST, "usage": None}), "malformed"),
        ((PIECE, {**LAST, "timings": {}}), "malformed"),
        ((PIECE, {"error": {"code": 500, "message": "broken"}}), "backend"),
        ((PIECE, {"error": {"code": 500, "message": "failed to allocate buffer"}}), "out_of_memory"),
        ((PIECE, {"error": "broken"}), "backend"),
        (({"error": {"code": 400, "message": "no"}},), "bad_request"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_is_never_taken_for_whole(shared, chunks, kind, stream):
    with answering(shared, *chunks):
        error, _ = asyncio.run(give_up(shared, None, stream=stream))
    assert error.kind == kind


def test_the_servers_last_chunk_makes_an_answer_whole(shared):
    with answering(shared, PIECE, LAST):
        assert asyncio.run(shared.complete(ask())).text == "Hello"


def test_a_context_that_memory_cannot_hold_is_refused_before_the_system_runs_dry():
    memory = psutil.virtual_memory().total
    request = ask(options=Options(context_tokens=memory // 10_000))
    with pytest.raises(ProviderError, match="GiB") as caught:
        run(lambda p: p.complete(request))
    assert caught.value.kind == "out_of_memory"


def test_capabilities_tell_what_the_model_was_made_for():
    async def go(provider):
        await provider.complete(ask(max_tokens=1, options=Options(context_tokens=512)))
        memory = await provider.memory_bytes(MODEL)
        able = await provider.capabilities(MODEL)
        return able, memory == await provider.memory_bytes(MODEL)

    able, still_loaded = run(go)
    assert (able.context_tokens, able.thinking_levels, able.vision) == (8192, ("off",), False)
    assert able.thinking_budget
    assert still_loaded


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"thinking": "high"}, ConfigError, "takes off, a number of tokens"),
        ({"model": "smollm2-135m-instruct"}, ProviderError, MODEL),
        ({"messages": (Message("user", "word " * 3000),)}, ProviderError, "the prompt has 30"),
        ({"messages": (Message("user", "word " * 9000),)}, ProviderError, "at least"),
        ({"messages": (Message("user", "?", (Image(b"x", "image/png"),)),)}, ConfigError, "image"),
    ],
)
def test_what_cannot_be_done_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        run(lambda p: p.complete(ask(**changes)))


def test_an_answer_that_outgrows_the_context_is_an_error_and_not_a_short_answer():
    request = ask(
        "Write a very long story about a physician in the mountains, in ten chapters.",
        max_tokens=2000,
        options=Options(context_tokens=256),
    )
    with pytest.raises(ProviderError, match="context") as caught:
        run(lambda p: p.complete(request))
    assert caught.value.kind == "context_too_long"


def test_unloading_frees_the_model_and_keeps_the_others():
    async def load_and_unload(provider):
        await provider.complete(ask(max_tokens=2))
        loaded = await provider.memory_bytes(MODEL)
        await provider.unload(keep=frozenset({MODEL}))
        kept = await provider.memory_bytes(MODEL)
        await provider.unload()
        return loaded, kept, await provider.memory_bytes(MODEL)

    loaded, kept, after = run(load_and_unload)
    assert loaded > 50_000_000
    assert (kept, after) == (loaded, None)


def test_threads_are_those_that_the_environment_says(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "1")
    cpu, wall = time.process_time(), time.perf_counter()
    run(lambda p: p.complete(ask()))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert cpu < 1.3 * wall, "one thread computes at a time"
    assert run(lambda p: p.identity(MODEL)).engine.endswith(", threads 1")
    monkeypatch.delenv(THREADS_VARIABLE)
    assert "threads" not in run(lambda p: p.identity(MODEL)).engine


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "9" * 9])
def test_a_wrong_number_of_threads_is_named(monkeypatch, wrong):
    monkeypatch.setenv(THREADS_VARIABLE, wrong)
    with pytest.raises(ConfigError, match=THREADS_VARIABLE):
        LlamaCpp()


def test_identity_names_weights_template_and_engine(embedded_models):
    identity = run(lambda p: p.identity(MODEL))
    assert identity.weights_digest.startswith("sha256:b179c952")
    assert identity.chat_template == "chatml-think"
    assert identity.engine.startswith("xllamacpp ")
    assert not identity.synthetic
