"""The embedded engine, for real: thinking budgets, schemas, streams, counters, unloading."""

from __future__ import annotations

import asyncio
import json

import pytest

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.llamacpp import LlamaCpp
from soma_bench.types import Image, Message, Options, Request

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


def test_a_call_that_takes_too_long_is_a_timeout(embedded_models):
    async def slow():
        provider = LlamaCpp(timeout_s=0.2)
        try:
            await provider.complete(ask("Tell a very long story.", max_tokens=1500))
        finally:
            await provider.close()

    with pytest.raises(ProviderError, match=r"longer than 0\.2 s") as caught:
        asyncio.run(slow())
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"thinking": "high"}, ConfigError, "takes off or a number of tokens"),
        ({"model": "smollm2-135m-instruct"}, ProviderError, MODEL),
        ({"messages": (Message("user", "word " * 3000),)}, ProviderError, "context"),
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


def test_identity_names_weights_template_and_engine(embedded_models):
    identity = run(lambda p: p.identity(MODEL))
    assert identity.weights_digest.startswith("sha256:b179c952")
    assert identity.chat_template == "chatml-think"
    assert identity.engine.startswith("xllamacpp ")
    assert not identity.synthetic
