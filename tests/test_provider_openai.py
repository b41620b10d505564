"""Provider ``openai``: the real SDK over real HTTP against a server that copies OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from http_failures import (
    PICTURE,
    SCHEMA,
    SHORT,
    Ask,
    both,
    broken,
    complete,
    in_an_hour,
    no_key_shown,
    request,
    run,
    stream,
)
from servers.base import Fault, closed_port, wait_until
from servers.openai import EFFORTS, KEY, OpenAIServer, data, error_of
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.openai import OpenAI
from soma_bench.providers.openai_models import ALLOWANCE_TOKENS, from_table, names
from soma_bench.types import Completion, Limits, Message, Options, Request

LUNA, GPT_4O, LOCAL = "gpt-6-luna", "gpt-4o", "qwen3-8b"
MIDWAY = 3
"""Pieces of a stream up to the middle of its text."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def llamacpp() -> Iterator[OpenAIServer]:
    with OpenAIServer("llamacpp") as running:
        yield running


def provider(url: str, key: str = KEY, limits: Limits | None = None) -> OpenAI:
    return OpenAI(base_url=url, api_key=SecretStr(key), limits=limits)


def asked(server: OpenAIServer, ask: Ask, sent: Request, **settings: Any) -> Completion:
    answer = run(provider(server.base_url, **settings), lambda p: ask(p, sent))
    assert isinstance(answer, Completion)
    return answer


def failure(server: OpenAIServer, ask: Ask, sent: Request, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asked(server, ask, sent, **settings)
    return caught.value


def chats(server: OpenAIServer) -> list[Any]:
    return server.asked("/v1/chat/completions")


def body_of(server: OpenAIServer) -> dict[str, Any]:
    body: dict[str, Any] = chats(server)[-1].json()
    return body


# --- the test server itself --------------------------------------------------------------------

GOOD: dict[str, Any] = {"model": LUNA, "messages": [{"role": "user", "content": "?"}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_ctx": 9},
        {"max_tokens": 9},
        {"temperature": 0},
        {"reasoning_effort": "enormous"},
        {"model": "gpt-5", "reasoning_effort": "none"},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "strict": True, "schema": SCHEMA},
            }
        },
    ],
)
def test_the_test_server_refuses_what_the_api_refuses(
    server: OpenAIServer, wrong: dict[str, Any]
) -> None:
    assert server.what_is_wrong(GOOD) is None
    assert server.what_is_wrong({**GOOD, **wrong})


# --- answers -----------------------------------------------------------------------------------


@both
def test_answers_with_text_and_usage(server: OpenAIServer, ask: Ask) -> None:
    answer = asked(server, ask, request(LUNA))
    assert (answer.text, answer.thinking, answer.finish) == (
        "The nodule is on the left.",
        "",
        "stop",
    )
    usage = answer.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (19, 5, 3)
    assert (usage.output_tokens, usage.thinking_tokens) == (9, 4)
    assert (answer.timings.first_token_s is not None) is (ask is stream)
    assert body_of(server)["store"] is False
    assert not server.asked("/v1/models"), "OpenAI's own models are known without asking"


@both
@pytest.mark.parametrize(
    "counted", [None, {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}]
)
def test_missing_counters_are_none_and_never_zero(
    server: OpenAIServer, ask: Ask, counted: Any
) -> None:
    server.usage = counted
    usage = asked(server, ask, request(LUNA)).usage
    assert usage.output_tokens == (2 if counted else None)
    assert usage.cached_tokens is None
    assert usage.thinking_tokens is None


@both
@pytest.mark.parametrize(
    ("reason", "finish"), [("length", "length"), ("content_filter", "refusal"), ("stop", "stop")]
)
def test_finish_says_why_the_answer_ended(
    server: OpenAIServer, ask: Ask, reason: str, finish: str
) -> None:
    server.finish = reason
    assert asked(server, ask, request(LUNA)).finish == finish


@both
def test_a_models_refusal_is_a_completion_that_says_so(server: OpenAIServer, ask: Ask) -> None:
    server.refusal = "I cannot help with that."
    answer = asked(server, ask, request(LUNA))
    assert (answer.finish, answer.text) == ("refusal", "I cannot help with that.")


@both
def test_an_empty_answer_is_a_completion_without_text(server: OpenAIServer, ask: Ask) -> None:
    server.text = []
    answer = asked(server, ask, request(LUNA))
    assert (answer.text, answer.finish) == ("", "stop")


@both
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_of_a_compatible_server_come_apart(
    llamacpp: OpenAIServer, ask: Ask, field: str
) -> None:
    llamacpp.thoughts_field = field
    answer = asked(llamacpp, ask, request(LOCAL))
    assert (answer.thinking, answer.text) == ("Which side? ", "The nodule is on the left.")
    if ask is stream:
        assert answer.timings.first_token_s < answer.timings.first_answer_token_s  # type: ignore[operator]


# --- what is sent ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("model", "thinking", "effort", "on_top"),
    [
        (LUNA, "off", "none", 0),
        (LUNA, "low", "low", "low"),
        (LUNA, None, None, "high"),
        ("gpt-5", "medium", "medium", "medium"),
        (GPT_4O, "off", None, 0),
        (GPT_4O, None, None, 0),
    ],
)
def test_thinking_is_an_effort_with_room_on_top_of_the_answer(
    server: OpenAIServer, ask: Ask, model: str, thinking: Any, effort: Any, on_top: Any
) -> None:
    asked(server, ask, request(model, thinking=thinking))
    body = body_of(server)
    assert body.get("reasoning_effort") == effort
    assert body["max_completion_tokens"] == 64 + ALLOWANCE_TOKENS.get(on_top, on_top)


@both
@pytest.mark.parametrize(
    ("model", "thinking", "takes"),
    [
        (LUNA, 256, "off, low, medium, high"),
        ("gpt-5", "off", "low, medium, high"),
        (GPT_4O, "low", "off"),
    ],
)
def test_thinking_that_a_model_does_not_take_is_refused_before_the_call(
    server: OpenAIServer, ask: Ask, model: str, thinking: Any, takes: str
) -> None:
    with pytest.raises(ConfigError, match="cannot honour") as caught:
        asked(server, ask, request(model, thinking=thinking))
    assert str(caught.value).endswith(f"it takes {takes}")
    assert not server.requests


def test_an_answer_longer_than_the_model_gives_is_refused(server: OpenAIServer) -> None:
    with pytest.raises(ConfigError, match="at most 16384 tokens"):
        asked(server, complete, request(GPT_4O, max_tokens=20_000))
    assert not server.requests


@both
def test_sampling_goes_to_the_models_that_take_it(server: OpenAIServer, ask: Ask) -> None:
    options = Options(temperature=0.4, top_p=0.9, seed=7)
    sampling = {"temperature", "top_p", "seed"}
    for model, thinking in ((GPT_4O, None), ("gpt-5.2", "off")):
        asked(server, ask, request(model, thinking=thinking, options=options))
        body = body_of(server)
        assert {name: body[name] for name in sampling} == {
            "temperature": 0.4,
            "top_p": 0.9,
            "seed": 7,
        }
    for model, thinking in ((LUNA, None), ("gpt-5.2", "low"), ("gpt-5", None)):
        asked(server, ask, request(model, thinking=thinking, options=options))
        assert not sampling & set(body_of(server))


@both
def test_pictures_go_as_data_urls_and_only_to_models_that_see(
    server: OpenAIServer, ask: Ask
) -> None:
    messages = (Message("user", "What is this?", (PICTURE,)),)
    asked(server, ask, request(LUNA, messages=messages))
    text, image = body_of(server)["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert image["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    with pytest.raises(ConfigError, match="cannot see"):
        asked(server, ask, request("gpt-3.5-turbo", messages=messages))
    assert len(chats(server)) == 1


@both
def test_a_schema_is_held_by_the_api_in_the_form_it_takes(server: OpenAIServer, ask: Ask) -> None:
    server.text = ['{"side": "left", ', '"size_mm": 9, "note": "solid"}']
    answer = asked(server, ask, request(LUNA, schema=SCHEMA))
    assert answer.structured_by == "schema"
    assert json.loads(answer.text)["size_mm"] == 9
    sent = body_of(server)["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"]["properties"]["size_mm"] == SCHEMA["properties"]["size_mm"]  # type: ignore[index]
    assert sent["schema"]["properties"]["note"] == {"type": "string"}


def test_a_schema_that_cannot_be_strict_is_sent_as_it_is(server: OpenAIServer) -> None:
    schema = {"type": "object", "properties": {"note": {"type": "string", "maxLength": 9}}}
    asked(server, complete, request(LUNA, schema=schema))
    sent = body_of(server)["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (False, schema)


@both
def test_a_schema_goes_into_the_prompt_where_the_model_cannot_hold_it(
    server: OpenAIServer, ask: Ask
) -> None:
    server.text = ["Here you are:\n", '{"side": "left"}']
    answer = asked(server, ask, request("gpt-3.5-turbo", schema=SCHEMA))
    assert (answer.structured_by, answer.text) == ("prompt", '{"side": "left"}')
    assert "JSON Schema" in body_of(server)["messages"][0]["content"]


# --- compatible servers ------------------------------------------------------------------------


@both
def test_a_compatible_server_is_asked_about_its_models_once_and_gets_max_tokens(
    llamacpp: OpenAIServer, ask: Ask
) -> None:
    async def work(openai: OpenAI) -> list[Completion]:
        return [
            await ask(
                openai, request(LOCAL, schema=SCHEMA, thinking="off", options=Options(seed=3))
            )
            for _ in range(2)
        ]

    answers = run(OpenAI(base_url=llamacpp.base_url), work)
    assert [answer.structured_by for answer in answers] == ["schema", "schema"]
    body = body_of(llamacpp)
    assert (body["max_tokens"], body["reasoning_effort"], body["seed"]) == (64, "none", 3)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert not {"store", "max_completion_tokens"} & set(body)
    assert len(llamacpp.asked("/v1/models")) == 1
    assert KEY not in str(llamacpp.requests[0].headers), "a server on this machine needs no key"


@both
def test_a_server_that_promises_nothing_gets_the_schema_in_its_prompt(ask: Ask) -> None:
    with OpenAIServer("someone") as server:
        server.text = ['{"side": "left"}']
        answer = asked(server, ask, request(LOCAL, schema=SCHEMA))
        assert answer.structured_by == "prompt"
        assert not {"response_format", "reasoning_effort"} & set(body_of(server))
        with pytest.raises(ConfigError, match="cannot honour thinking=off"):
            asked(server, ask, request(LOCAL, thinking="off"))


@both
def test_a_llamacpp_server_does_not_answer_in_another_models_name(
    llamacpp: OpenAIServer, ask: Ask
) -> None:
    found = failure(llamacpp, ask, request("qwen3-14b"))
    assert found.kind == "model_missing"
    assert LOCAL in str(found)
    assert not chats(llamacpp)


def test_the_window_of_a_compatible_server_is_kept(llamacpp: OpenAIServer) -> None:
    assert run(provider(llamacpp.base_url), lambda p: p.capabilities(LOCAL)).context_tokens == 4096
    long = (Message("user", "x" * 40_000),)
    assert failure(llamacpp, complete, request(LOCAL, messages=long)).kind == "context_too_long"
    assert not chats(llamacpp)


# --- failures ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("fault", "kind"), broken(MIDWAY))
def test_a_broken_answer_is_never_a_whole_one(
    server: OpenAIServer, ask: Ask, fault: Fault, kind: str
) -> None:
    server.fault = fault
    assert failure(server, ask, request(LUNA)).kind in kind.split("|")


def test_a_stream_that_ends_anywhere_before_its_finish_ended_early(server: OpenAIServer) -> None:
    async def work(openai: OpenAI) -> list[str]:
        kinds = []
        # The last three pieces are the finish, the usage and [DONE]: after the first the text is whole.
        for after in range(1, len(server.chunks(LUNA, with_usage=True)) - 2):
            server.fault = Fault(after=after, then="end")
            with pytest.raises(ProviderError) as caught:
                await stream(openai, request(LUNA))
            kinds.append(caught.value.kind)
        return kinds

    assert run(provider(server.base_url), work) == ["ended_early"] * 4


REFUSALS = [
    (400, None, "wrong", "bad_request", False),
    (400, "context_length_exceeded", "This model's maximum", "context_too_long", False),
    (400, None, "This model's maximum context length is 9 tokens", "context_too_long", False),
    (401, "invalid_api_key", "Incorrect API key", "bad_key", False),
    (403, None, "unsupported country", "bad_key", False),
    (404, "model_not_found", "The model `x` does not exist", "model_missing", False),
    (413, None, "too large", "bad_request", False),
    (429, "rate_limit_exceeded", "slow down", "rate_limited", True),
    (429, "insufficient_quota", "You exceeded your current quota", "bad_key", False),
    (500, None, "internal", "backend", True),
    (500, None, "CUDA out of memory", "out_of_memory", False),
    (500, None, "image input is not supported - hint: mmproj", "bad_request", False),
    (503, None, "The engine is currently overloaded", "overloaded", True),
]


@both
@pytest.mark.parametrize(("status", "code", "words", "kind", "retryable"), REFUSALS)
def test_every_refusal_has_its_kind(
    server: OpenAIServer, ask: Ask, status: int, code: str, words: str, kind: str, retryable: bool
) -> None:
    server.fault = Fault(status=status, body=json.dumps({"error": error_of(code, words)}).encode())
    found = failure(server, ask, request(LUNA))
    assert (found.kind, found.retryable) == (kind, retryable)
    assert len(chats(server)) == 1, "the provider retries, which is not its job"


@both
@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b'{"error": "text"}', b'{"detail": [1]}', b"null"]
)
def test_an_error_in_another_form_is_still_a_failure_of_the_backend(
    server: OpenAIServer, ask: Ask, body: bytes
) -> None:
    server.fault = Fault(status=502, body=body)
    assert failure(server, ask, request(LUNA)).kind == "backend"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (error_of("server_overloaded", "busy"), "overloaded"),
        (error_of("rate_limit_exceeded", "slow down"), "rate_limited"),
        (error_of("context_length_exceeded", "too long"), "context_too_long"),
        (error_of(None, "internal"), "backend"),
        ("only text", "backend"),
    ],
)
def test_an_error_in_the_middle_of_a_stream_has_its_kind(
    server: OpenAIServer, error: Any, kind: str
) -> None:
    real = server.chunks

    def chunks(*given: Any, **named: Any) -> list[bytes]:
        return [*real(*given, **named)[:MIDWAY], data({"error": error})]

    server.chunks = chunks  # type: ignore[method-assign]
    assert failure(server, stream, request(LUNA)).kind == kind


@both
@pytest.mark.parametrize("reason", ["tool_calls", "brand_new_reason"])
def test_a_reason_that_no_request_of_ours_has_is_no_answer(
    server: OpenAIServer, ask: Ask, reason: str
) -> None:
    server.finish = reason
    assert failure(server, ask, request(LUNA)).kind == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
    ],
)
def test_a_body_of_the_wrong_shape_is_malformed(server: OpenAIServer, body: bytes) -> None:
    server.fault = Fault(status=200, body=body)
    assert failure(server, complete, request(LUNA)).kind == "malformed"


@pytest.mark.parametrize(
    "chunk",
    [
        data({"choices": 7}),
        data({"choices": [{"delta": {"content": 7}}]}),
        data({"choices": [{}]}),
        data({"choices": [{"delta": {}, "finish_reason": ["stop"]}]}),
        data({"choices": [], "usage": {"prompt_tokens_details": 7}}),
        data({"error": None}),
        b'data: "text"\n\n',
        b"data: [1]\n\n",
    ],
)
def test_a_chunk_of_the_wrong_shape_is_malformed(server: OpenAIServer, chunk: bytes) -> None:
    real = server.chunks

    def chunks(*given: Any, **named: Any) -> list[bytes]:
        pieces = real(*given, **named)
        return [*pieces[:MIDWAY], chunk, *pieces[MIDWAY:]]

    server.chunks = chunks  # type: ignore[method-assign]
    assert failure(server, stream, request(LUNA)).kind == "malformed"


@both
@pytest.mark.parametrize("value", ["7", "date", "soon"])
def test_retry_after_is_passed_on(server: OpenAIServer, ask: Ask, value: str) -> None:
    headers = {"retry-after": in_an_hour() if value == "date" else value}
    body = json.dumps({"error": error_of("rate_limit_exceeded", "slow down")}).encode()
    server.fault = Fault(status=429, body=body, headers=headers)
    wait = failure(server, ask, request(LUNA)).wait_s
    if value == "date":
        assert wait == pytest.approx(3600, abs=5)
    else:
        assert wait == (None if value == "soon" else float(value))


@both
def test_an_unknown_model_is_missing_and_its_neighbours_are_named(
    server: OpenAIServer, ask: Ask
) -> None:
    found = failure(server, ask, request("gpt-6-lune"))
    assert found.kind == "model_missing"
    assert "'gpt-6-lune'" in str(found)
    assert LUNA in str(found)


@both
def test_without_a_server_the_provider_is_not_running(ask: Ask) -> None:
    for model in (LUNA, LOCAL):
        with pytest.raises(ProviderError) as caught:
            run(
                provider(f"http://127.0.0.1:{closed_port()}/v1"),
                lambda p, model=model: ask(p, request(model)),
            )
        assert caught.value.kind == "not_running"


@both
@pytest.mark.parametrize("key", [None, SecretStr(" "), SecretStr("sk-é\n1")])
def test_away_from_this_machine_nothing_is_sent_without_a_usable_key(ask: Ask, key: Any) -> None:
    with pytest.raises(ProviderError, match="OPENAI_API_KEY") as caught:
        run(
            OpenAI(base_url="https://host.invalid/v1", api_key=key), lambda p: ask(p, request(LUNA))
        )
    assert caught.value.kind == "bad_key"


# --- limits ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("where", ["request", "provider"])
def test_a_silent_server_is_given_up_in_time(server: OpenAIServer, ask: Ask, where: str) -> None:
    limits = {"limits": SHORT} if where == "request" else {}
    settings = {"limits": SHORT} if where == "provider" else {}
    limit, name = (0.6, "total") if ask is complete else (0.3, "first_token")

    async def work(openai: OpenAI) -> tuple[ProviderError, float]:
        await openai.complete(request(LUNA))  # the SDK starts up here
        server.fault = Fault(then="hang")
        began = time.perf_counter()
        with pytest.raises(ProviderError) as caught:
            await ask(openai, request(LUNA, **limits))
        return caught.value, time.perf_counter() - began

    found, seconds = run(provider(server.base_url, **settings), work)
    assert (found.kind, found.limit) == ("timeout", name)
    assert limit <= seconds < limit + 0.2


def test_a_stream_that_stops_is_given_up_between_tokens(server: OpenAIServer) -> None:
    server.fault = Fault(after=MIDWAY, then="hang")
    found = failure(server, stream, request(LUNA, limits=SHORT))
    assert (found.kind, found.limit) == ("timeout", "between_tokens")


def test_a_stream_that_drips_is_given_up_at_the_total(server: OpenAIServer) -> None:
    server.text = ["word "] * 50
    server.fault = Fault(drip_s=0.05)
    found = failure(server, stream, request(LUNA, limits=SHORT))
    assert (found.kind, found.limit) == ("timeout", "total")


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_leaving_a_stream_closes_its_connection(server: OpenAIServer, how: str) -> None:
    server.fault = Fault(after=MIDWAY, then="hang")

    async def work(openai: OpenAI) -> None:
        chunks = openai.stream(request(LUNA))
        await anext(chunks)
        if how == "close":
            await chunks.aclose()  # type: ignore[attr-defined]
        else:
            await anext(chunks)
            reading = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0.05)
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
        assert await asyncio.to_thread(wait_until, chats(server)[0].left_early.is_set)

    run(provider(server.base_url), work)


# --- keys and proxies --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_no_key_is_shown_whatever_fails(server: OpenAIServer, ask: Ask, status: int) -> None:
    words = json.dumps({"error": error_of(None, f"refused {KEY}")}).encode()
    server.fault = (
        Fault(after=3, then="reset") if status == 200 else Fault(status=status, body=words)
    )
    openai = provider(server.base_url)
    with no_key_shown(KEY) as caught:
        with pytest.raises(ProviderError) as found:
            run(openai, lambda p: ask(p, request(LUNA)))
        caught.append(found.value)
    assert KEY not in repr(openai) + repr(vars(openai))


def test_a_refused_key_is_not_shown_in_part_either(server: OpenAIServer) -> None:
    with pytest.raises(ProviderError) as found:
        run(
            provider(server.base_url, key="sk-proj-of-another"),
            lambda p: complete(p, request(LUNA)),
        )
    assert found.value.kind == "bad_key"
    assert "****" not in str(found.value)


def test_no_proxy_of_the_environment_comes_between(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert asked(server, complete, request(LUNA)).text


# --- what the provider says of its models ------------------------------------------------------


def test_the_table_knows_every_chat_model_that_the_sdk_names() -> None:
    from typing import get_args

    from openai.types import ChatModel

    named = [name for name in get_args(ChatModel) if name.startswith("gpt-5") or "gpt-6" in name]
    assert len(named) > 20
    assert all(from_table(name) for name in named)
    assert from_table("gpt-7-new") == from_table(LUNA)
    assert from_table("gpt-oss-20b") is None
    assert all(from_table(name) for name in names())


@pytest.mark.parametrize("model", list(EFFORTS))
def test_the_table_offers_no_effort_that_the_api_refuses(server: OpenAIServer, model: str) -> None:
    levels = run(provider(server.base_url), lambda p: p.capabilities(model)).thinking_levels
    for level in levels:
        asked(server, complete, request(model, thinking=level))
    assert len(chats(server)) == len(levels) > 0


def test_available_lists_exact_names_or_says_why_not(server: OpenAIServer) -> None:
    found = run(provider(server.base_url), lambda p: p.available())
    assert (set(found.models), found.reason) == (set(EFFORTS), None)
    nobody = run(OpenAI(), lambda p: p.available())
    assert nobody.models == ()
    assert "OPENAI_API_KEY" in (nobody.reason or "")


def test_identity_names_the_api_and_the_address(server: OpenAIServer) -> None:
    found = run(provider(server.base_url), lambda p: p.identity(LUNA))
    assert found.weights_digest is None
    assert server.url in found.engine
