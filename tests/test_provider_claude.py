"""Provider ``claude``: the real SDK over real HTTP against a server that copies Anthropic's API."""

from __future__ import annotations

import asyncio
import json
import socket
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
from servers.base import Fault, Recorded, Reply, closed_port, wait_until
from servers.claude import KEY, THINKING, ClaudeServer, error_body, model_info, sse, what_is_wrong
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.claude import Claude
from soma_bench.providers.claude_models import ALLOWANCE_TOKENS, from_table, names
from soma_bench.types import Completion, Limits, Message, Options, Request

SONNET, OPUS, HAIKU = "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5"
MIDWAY = 5
"""Pieces of a stream up to the middle of its text."""


@pytest.fixture
def server() -> Iterator[ClaudeServer]:
    with ClaudeServer() as running:
        yield running


def provider(url: str, key: str = KEY, limits: Limits | None = None) -> Claude:
    return Claude(base_url=url, api_key=SecretStr(key), limits=limits)


def asked(server: ClaudeServer, ask: Ask, sent: Request, **settings: Any) -> Completion:
    answer = run(provider(server.url, **settings), lambda claude: ask(claude, sent))
    assert isinstance(answer, Completion)
    return answer


def failure(server: ClaudeServer, ask: Ask, sent: Request, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asked(server, ask, sent, **settings)
    return caught.value


def body_of(server: ClaudeServer) -> dict[str, Any]:
    body: dict[str, Any] = server.asked("/v1/messages")[-1].json()
    return body


# --- the test server itself --------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "model": SONNET,
    "max_tokens": 9,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}],
}


def test_the_test_server_takes_what_the_api_takes() -> None:
    assert what_is_wrong(GOOD, "2026-10-21") is None
    assert what_is_wrong({**GOOD, "stream": True, "system": "s"}, "2026-10-21") is None
    assert what_is_wrong({**GOOD, "model": HAIKU, "temperature": 0}, "2023-06-01") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"seed": 0},
        {"max_tokens": "9"},
        {"messages": [{"role": "user", "content": [{"type": "picture"}]}]},
        {"messages": [{"role": "nobody", "content": "?"}]},
        {"thinking": {"type": "disabled"}},
        {"model": HAIKU, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"model": HAIKU, "thinking": {"type": "enabled", "budget_tokens": 8}},
        {"output_config": {"effort": "enormous"}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
)
def test_the_test_server_refuses_what_the_api_refuses(wrong: dict[str, Any]) -> None:
    assert what_is_wrong({**GOOD, **wrong}, "2026-10-21")


# --- answers -----------------------------------------------------------------------------------


@both
def test_answers_with_text_and_usage(server: ClaudeServer, ask: Ask) -> None:
    answer = asked(server, ask, request(SONNET))
    assert (answer.text, answer.thinking, answer.finish) == (
        "The nodule is on the left.",
        "",
        "stop",
    )
    usage = answer.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (19, 5, 3)
    assert (usage.output_tokens, usage.thinking_tokens) == (9, 4)
    assert answer.timings.total_s > 0
    assert (answer.timings.first_token_s is not None) is (ask is stream)
    body = body_of(server)
    assert body["system"] == "You read CT reports."
    assert body["messages"] == [{"role": "user", "content": "Is there a nodule?"}]


@both
def test_missing_counters_are_none_and_never_zero(server: ClaudeServer, ask: Ask) -> None:
    server.usage = {"input_tokens": 11, "output_tokens": 9}
    usage = asked(server, ask, request(SONNET)).usage
    assert (usage.prompt_tokens, usage.output_tokens) == (11, 9)
    assert usage.cached_tokens is None
    assert usage.cache_write_tokens is None
    assert usage.thinking_tokens is None


@both
@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_tokens", "length"), ("refusal", "refusal"), ("stop_sequence", "stop")],
)
def test_finish_says_why_the_answer_ended(
    server: ClaudeServer, ask: Ask, reason: str, finish: str
) -> None:
    server.stop_reason = reason
    assert asked(server, ask, request(SONNET)).finish == finish


@both
def test_an_empty_answer_is_a_completion_without_text(server: ClaudeServer, ask: Ask) -> None:
    server.text = []
    answer = asked(server, ask, request(SONNET))
    assert (answer.text, answer.finish) == ("", "stop")


def test_thinking_comes_apart_and_before_the_answer(server: ClaudeServer) -> None:
    async def work(claude: Claude) -> list[Any]:
        return [chunk async for chunk in claude.stream(request(SONNET, thinking="low"))]

    chunks = run(provider(server.url), work)
    assert [chunk.thinking for chunk in chunks[:2]] == ["Which ", "side? "]
    completion = chunks[-1].completion
    assert (completion.thinking, completion.text) == (
        "Which side? ",
        "The nodule is on the left.",
    )
    assert completion.timings.first_token_s < completion.timings.first_answer_token_s


# --- what is sent ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("model", "thinking", "sent", "effort", "on_top"),
    [
        (SONNET, "off", {"type": "between_tools"}, None, 0),
        (SONNET, "high", {"type": "adaptive", "display": "summarized"}, "high", "high"),
        (OPUS, "low", {"type": "adaptive", "display": "summarized"}, "low", "low"),
        (OPUS, None, None, None, "high"),
        ("claude-opus-4-8", "off", {"type": "disabled"}, None, 0),
        ("claude-opus-4-8", None, None, None, 0),
        (HAIKU, 2048, {"type": "enabled", "budget_tokens": 2048}, None, 2048),
        (HAIKU, "off", {"type": "disabled"}, None, 0),
        ("claude-sonnet-4-6", 1024, {"type": "enabled", "budget_tokens": 1024}, None, 1024),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["api", "table"])
def test_thinking_goes_on_top_of_the_answer_in_the_models_own_form(
    server: ClaudeServer, ask: Ask, model: str, thinking: Any, sent: Any, effort: Any, on_top: Any, told: bool
) -> None:  # fmt: skip
    server.has_models = told
    answer = asked(server, ask, request(model, thinking=thinking))
    body = body_of(server)
    assert body.get("thinking") == sent
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == 64 + ALLOWANCE_TOKENS.get(on_top, on_top)
    assert bool(answer.thinking) is (sent is not None and sent["type"] in ("enabled", "adaptive"))


@both
@pytest.mark.parametrize(
    ("model", "thinking", "takes"),
    [
        (SONNET, 2048, "off, low, medium, high"),
        (OPUS, "off", "low, medium, high"),
        (HAIKU, "low", "off, a number of tokens (at least 1024)"),
        (HAIKU, 1023, "off, a number of tokens (at least 1024)"),
    ],
)
def test_thinking_that_a_model_does_not_take_is_refused_before_the_call(
    server: ClaudeServer, ask: Ask, model: str, thinking: Any, takes: str
) -> None:
    with pytest.raises(ConfigError, match="cannot honour") as caught:
        asked(server, ask, request(model, thinking=thinking))
    assert str(caught.value).endswith(f"it takes {takes}")
    assert not server.asked("/v1/messages")


def test_a_budget_that_leaves_no_room_for_the_answer_is_refused(server: ClaudeServer) -> None:
    with pytest.raises(ConfigError, match="at most 64000 tokens"):
        asked(server, complete, request(HAIKU, thinking=63_990))
    assert not server.asked("/v1/messages")


@both
def test_pictures_go_as_base64_and_only_to_models_that_see(server: ClaudeServer, ask: Ask) -> None:
    messages = (Message("user", "What is this?", (PICTURE,)),)
    asked(server, ask, request(SONNET, messages=messages))
    image, text = body_of(server)["messages"][0]["content"]
    assert image["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgo=",
    }
    assert text == {"type": "text", "text": "What is this?"}
    sent = len(server.asked("/v1/messages"))
    with pytest.raises(ConfigError, match="cannot see"):
        asked(server, ask, request("claude-blind-9", messages=messages))
    assert len(server.asked("/v1/messages")) == sent


@both
def test_a_schema_is_held_by_the_api_in_the_form_it_takes(server: ClaudeServer, ask: Ask) -> None:
    server.text = ['{"side": "left", ', '"size_mm": 9, "note": "solid"}']
    answer = asked(server, ask, request(SONNET, schema=SCHEMA))
    assert answer.structured_by == "schema"
    assert json.loads(answer.text)["size_mm"] == 9
    sent = body_of(server)["output_config"]["format"]["schema"]
    assert set(sent["properties"]) == set(SCHEMA["properties"])  # type: ignore[call-overload]
    assert "maximum" in sent["properties"]["size_mm"]["description"]


@both
def test_a_schema_goes_into_the_prompt_where_the_model_cannot_hold_it(
    server: ClaudeServer, ask: Ask
) -> None:
    server.text = ["Here you are:\n", '{"side": "left"}', "\nAnything else?"]
    answer = asked(server, ask, request("claude-blind-9", schema=SCHEMA))
    assert (answer.structured_by, answer.text) == ("prompt", '{"side": "left"}')
    assert "JSON Schema" in body_of(server)["system"]


@both
def test_sampling_goes_to_the_models_that_still_take_it(server: ClaudeServer, ask: Ask) -> None:
    asked(server, ask, request(HAIKU))
    assert body_of(server)["temperature"] == 0
    assert server.requests[-1].headers["anthropic-version"] == "2023-06-01"
    asked(server, ask, request(HAIKU, options=Options(temperature=0.4, top_p=0.9)))
    assert "temperature" not in body_of(server)
    assert body_of(server)["top_p"] == 0.9
    for sent in (request(HAIKU, thinking=1024), request(SONNET, options=Options(temperature=0.7))):
        asked(server, ask, sent)
        assert not {"temperature", "top_p"} & set(body_of(server))
        assert server.requests[-1].headers["anthropic-version"] == "2026-10-21"


def test_a_cached_prompt_is_asked_for_only_where_the_options_say_so(server: ClaudeServer) -> None:
    asked(server, complete, request(SONNET))
    assert "cache_control" not in body_of(server)
    asked(server, complete, request(SONNET, options=Options(cache_prompt=True)))
    assert body_of(server)["cache_control"] == {"type": "ephemeral"}


def test_a_model_is_asked_about_once(server: ClaudeServer) -> None:
    async def work(claude: Claude) -> None:
        for _ in range(3):
            await claude.complete(request(SONNET))

    run(provider(server.url), work)
    assert len(server.asked(f"/v1/models/{SONNET}")) == 1
    assert len(server.asked("/v1/messages")) == 3


# --- failures ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("fault", "kind"), broken(MIDWAY))
def test_a_broken_answer_is_never_a_whole_one(
    server: ClaudeServer, ask: Ask, fault: Fault, kind: str
) -> None:
    server.fault = fault
    assert failure(server, ask, request(SONNET)).kind in kind.split("|")


def test_a_stream_that_ends_anywhere_before_its_last_event_ended_early(
    server: ClaudeServer,
) -> None:
    async def work(claude: Claude) -> list[str]:
        kinds = []
        for after in range(1, len(server.events(SONNET, []))):
            server.fault = Fault(after=after, then="end")
            with pytest.raises(ProviderError) as caught:
                await stream(claude, request(SONNET))
            kinds.append(caught.value.kind)
        return kinds

    assert run(provider(server.url), work) == ["ended_early"] * 8


@both
@pytest.mark.parametrize(
    ("status", "error", "words", "kind", "retryable"),
    [
        (400, "invalid_request_error", "messages: wrong", "bad_request", False),
        (400, "invalid_request_error", "prompt is too long: 9 > 8", "context_too_long", False),
        (400, "invalid_request_error", "Your credit balance is too low", "bad_key", False),
        (401, "authentication_error", "invalid x-api-key", "bad_key", False),
        (402, "billing_error", "billing", "bad_key", False),
        (403, "permission_error", "not allowed", "bad_key", False),
        (404, "not_found_error", "model: x", "model_missing", False),
        (413, "request_too_large", "too large", "bad_request", False),
        (429, "rate_limit_error", "slow down", "rate_limited", True),
        (500, "api_error", "internal", "backend", True),
        (500, "overloaded_error", "Overloaded", "overloaded", True),
        (503, "api_error", "unavailable", "overloaded", True),
        (529, "overloaded_error", "Overloaded", "overloaded", True),
    ],
)
def test_every_refusal_has_its_kind(
    server: ClaudeServer, ask: Ask, status: int, error: str, words: str, kind: str, retryable: bool
) -> None:
    server.fault = Fault(status=status, body=json.dumps(error_body(error, words)).encode())
    found = failure(server, ask, request(SONNET))
    assert (found.kind, found.retryable) == (kind, retryable)
    assert len(server.asked("/v1/messages")) == 1, "the provider retries, which is not its job"


@both
def test_an_error_page_of_a_proxy_is_a_failure_of_the_backend(
    server: ClaudeServer, ask: Ask
) -> None:
    server.fault = Fault(status=502, body=b"<html>Bad gateway</html>")
    assert failure(server, ask, request(SONNET)).kind == "backend"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("api_error", "backend"),
        ("invalid_request_error", "bad_request"),
    ],
)
def test_an_error_in_the_middle_of_a_stream_has_its_kind(
    server: ClaudeServer, error: str, kind: str
) -> None:
    real = server.events
    event = sse("error", error_body(error, "in the middle"))
    server.events = lambda *given: [*real(*given)[:MIDWAY], event]  # type: ignore[method-assign]
    assert failure(server, stream, request(SONNET)).kind == kind


@both
def test_a_full_context_window_is_no_answer(server: ClaudeServer, ask: Ask) -> None:
    server.stop_reason = "model_context_window_exceeded"
    assert failure(server, ask, request(SONNET)).kind == "context_too_long"


@both
@pytest.mark.parametrize("reason", ["tool_use", "pause_turn", "brand_new_reason"])
def test_a_reason_that_no_request_of_ours_has_is_no_answer(
    server: ClaudeServer, ask: Ask, reason: str
) -> None:
    server.stop_reason = reason
    assert failure(server, ask, request(SONNET)).kind == "malformed"


@pytest.mark.parametrize(
    "event",
    [
        sse("content_block_delta", {"type": "content_block_delta", "index": 0}),
        sse(
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}},
        ),
        b'event: content_block_delta\ndata: "text"\n\n',
    ],
    ids=["no-delta", "number", "string"],
)
def test_an_event_of_the_wrong_shape_is_malformed(server: ClaudeServer, event: bytes) -> None:
    real = server.events
    server.events = lambda *given: [*real(*given)[:MIDWAY], event]  # type: ignore[method-assign]
    assert failure(server, stream, request(SONNET)).kind == "malformed"


def test_an_event_that_is_new_to_us_is_passed_over(server: ClaudeServer) -> None:
    real = server.events
    new = sse("brand_new", {"type": "brand_new"})
    server.events = lambda *given: [new, *real(*given)]  # type: ignore[method-assign]
    assert asked(server, stream, request(SONNET)).text == "The nodule is on the left."


@pytest.mark.parametrize(
    "body", [b"[]", b'"text"', b"{}", b"[" * 100_000, b'{"type": "message", "content": 3, "stop_reason": "end_turn"}']
)  # fmt: skip
def test_a_body_of_the_wrong_shape_is_malformed(server: ClaudeServer, body: bytes) -> None:
    server.fault = Fault(status=200, body=body)
    assert failure(server, complete, request(SONNET)).kind == "malformed"


@both
@pytest.mark.parametrize("value", ["7", "0.5", "date", "soon"])
def test_retry_after_is_passed_on(server: ClaudeServer, ask: Ask, value: str) -> None:
    headers = {"retry-after": in_an_hour() if value == "date" else value}
    body = json.dumps(error_body("rate_limit_error", "slow down")).encode()
    server.fault = Fault(status=429, body=body, headers=headers)
    wait = failure(server, ask, request(SONNET)).wait_s
    if value == "date":
        assert wait == pytest.approx(3600, abs=5)
    else:
        assert wait == (None if value == "soon" else float(value))


@both
def test_an_unknown_model_is_missing_and_its_neighbours_are_named(
    server: ClaudeServer, ask: Ask
) -> None:
    found = failure(server, ask, request("claude-sonnet-5.5"))
    assert found.kind == "model_missing"
    assert "'claude-sonnet-5.5'" in str(found)
    assert SONNET in str(found)


@both
def test_without_a_server_the_provider_is_not_running(ask: Ask) -> None:
    with pytest.raises(ProviderError) as caught:
        run(provider(f"http://127.0.0.1:{closed_port()}"), lambda p: ask(p, request(SONNET)))
    assert caught.value.kind == "not_running"
    assert "127.0.0.1" in str(caught.value)


@both
@pytest.mark.parametrize("key", [None, SecretStr(""), SecretStr("  "), SecretStr("sk-é\n1")])
def test_without_a_usable_key_nothing_is_sent(server: ClaudeServer, ask: Ask, key: Any) -> None:
    with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY") as caught:
        run(Claude(base_url=server.url, api_key=key), lambda p: ask(p, request(SONNET)))
    assert caught.value.kind == "bad_key"
    assert not server.requests


# --- limits ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("where", ["request", "provider"])
def test_a_silent_server_is_given_up_in_time(server: ClaudeServer, ask: Ask, where: str) -> None:
    server.fault = Fault(then="hang")
    limits = {"limits": SHORT} if where == "request" else {}
    settings = {"limits": SHORT} if where == "provider" else {}
    limit, name = (0.6, "total") if ask is complete else (0.3, "first_token")

    async def work(claude: Claude) -> tuple[ProviderError, float]:
        await claude.capabilities(SONNET)  # the SDK starts up here
        began = time.perf_counter()
        with pytest.raises(ProviderError) as caught:
            await ask(claude, request(SONNET, **limits))
        return caught.value, time.perf_counter() - began

    found, seconds = run(provider(server.url, **settings), work)
    assert (found.kind, found.limit) == ("timeout", name)
    assert limit <= seconds < limit + 0.2


def test_a_stream_that_stops_is_given_up_between_tokens(server: ClaudeServer) -> None:
    server.fault = Fault(after=MIDWAY, then="hang")
    found = failure(server, stream, request(SONNET, limits=SHORT))
    assert (found.kind, found.limit) == ("timeout", "between_tokens")


def test_a_stream_that_drips_is_given_up_at_the_total(server: ClaudeServer) -> None:
    server.text = ["word "] * 50
    server.fault = Fault(drip_s=0.05)
    found = failure(server, stream, request(SONNET, limits=SHORT))
    assert (found.kind, found.limit) == ("timeout", "total")


@both
def test_a_port_that_takes_no_connections_is_given_up_in_time(ask: Ask) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        limits = Limits(connect_s=0.3, first_token_s=5, total_s=5)
        with pytest.raises(ProviderError) as caught:
            run(
                provider(f"http://127.0.0.1:{full.getsockname()[1]}"),
                lambda p: ask(p, request(SONNET, limits=limits)),
            )
        for filler in fillers:
            filler.close()
    assert (caught.value.kind, caught.value.limit) == ("timeout", "connect")


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_leaving_a_stream_closes_its_connection(server: ClaudeServer, how: str) -> None:
    server.fault = Fault(after=MIDWAY, then="hang")

    async def work(claude: Claude) -> None:
        chunks = claude.stream(request(SONNET))
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
        assert await asyncio.to_thread(
            wait_until, server.asked("/v1/messages")[0].left_early.is_set
        )

    run(provider(server.url), work)


# --- keys and proxies --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_no_key_is_shown_whatever_fails(server: ClaudeServer, ask: Ask, status: int) -> None:
    words = json.dumps(error_body("api_error", f"refused {KEY}")).encode()
    server.fault = (
        Fault(after=3, then="reset") if status == 200 else Fault(status=status, body=words)
    )
    claude = provider(server.url)
    with no_key_shown(KEY) as caught:
        with pytest.raises(ProviderError) as found:
            run(claude, lambda p: ask(p, request(SONNET)))
        caught.append(found.value)
    assert KEY not in repr(claude) + repr(vars(claude))


@both
def test_a_key_that_is_refused_is_not_shown(server: ClaudeServer, ask: Ask) -> None:
    key = "sk-ant-another-canary-9876543210"
    with no_key_shown(key) as caught:
        with pytest.raises(ProviderError) as found:
            run(provider(server.url, key=key), lambda p: ask(p, request(SONNET)))
        caught.append(found.value)
    assert found.value.kind == "bad_key"


def test_a_key_that_cannot_be_a_header_is_not_shown() -> None:
    with pytest.raises(ProviderError) as found:
        run(
            provider("http://127.0.0.1:1", key="sk-ant\x00é-cafe"),
            lambda p: complete(p, request(SONNET)),
        )
    assert "cafe" not in repr(found.value) + str(found.value)


def test_no_proxy_of_the_environment_comes_between(
    server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert asked(server, complete, request(SONNET)).text


# --- what the provider says of its models ------------------------------------------------------


def test_capabilities_are_the_apis_own(server: ClaudeServer) -> None:
    found = run(provider(server.url), lambda p: p.capabilities(HAIKU))
    assert (found.thinking_levels, found.thinking_budget, found.least_budget) == (
        ("off",),
        True,
        1024,
    )
    assert (found.context_tokens, found.max_output_tokens) == (200_000, 64_000)
    assert (found.vision, found.schema) == (True, True)
    blind = run(provider(server.url), lambda p: p.capabilities("claude-blind-9"))
    assert (blind.vision, blind.schema) == (False, False)


@pytest.mark.parametrize("name", [name for name in THINKING if from_table(name).context_tokens])
def test_the_table_says_what_the_api_says(server: ClaudeServer, name: str) -> None:
    told = run(provider(server.url), lambda p: p.capabilities(name))
    server.has_models = False
    assert run(provider(server.url), lambda p: p.capabilities(name)) == told


def test_the_table_knows_every_model_that_the_sdk_names() -> None:
    from typing import get_args

    from anthropic.types.model import Model

    named = [name for name in get_args(get_args(Model)[0]) if "preview" not in name]
    assert len(named) > 10
    assert all(from_table(name).max_output_tokens for name in named)
    assert all(from_table(name).max_output_tokens for name in names())


def test_available_lists_exact_names_or_says_why_not(server: ClaudeServer) -> None:
    found = run(provider(server.url), lambda p: p.available())
    assert (set(found.models), found.reason) == (set(THINKING), None)
    assert model_info(SONNET)["lifecycle"] == "active"
    nobody = run(Claude(base_url=server.url), lambda p: p.available())
    assert nobody.models == ()
    assert "ANTHROPIC_API_KEY" in (nobody.reason or "")


def test_a_server_that_says_less_of_its_models_is_listed_too(server: ClaudeServer) -> None:
    async def less(request: Recorded, reply: Reply) -> None:
        await reply.json({"object": "list", "data": [{"id": "smollm2", "object": "model"}]})

    server.answer = less  # type: ignore[method-assign]
    assert run(provider(server.url), lambda p: p.available()).models == ("smollm2",)


def test_identity_names_the_api_and_the_address(server: ClaudeServer) -> None:
    found = run(provider(server.url), lambda p: p.identity(SONNET))
    assert found.weights_digest is None
    assert server.url in found.engine
    assert "anthropic" in run(Claude(), lambda p: p.identity(SONNET)).engine
