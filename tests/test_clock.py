"""What a call took is the backend's time: not that of making its request or reading its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from http_failures import request, run, stream
from servers import claude, openai
from servers.base import Server
from servers.claude import ClaudeServer
from servers.ollama import Model, OllamaServer
from servers.openai import OpenAIServer
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.claude_messages import Call
from soma_bench.providers.clock import Clock
from soma_bench.providers.ollama_wire import Said
from soma_bench.types import Limits, ProviderName, Timings

SLOW_S = 0.2
BACKENDS: dict[ProviderName, tuple[str, Callable[[], Server], str | None]] = {
    "openai": ("gpt-6-luna", OpenAIServer, openai.KEY),
    "claude": ("claude-sonnet-5-5", ClaudeServer, claude.KEY),
    "ollama": ("qwen3:8b", lambda: OllamaServer(Model(name="qwen3:8b")), None),
}


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SLOW_S)
        return function(*args, **kwargs)

    return slow


def timed(name: ProviderName) -> tuple[Timings, float]:
    """What a provider says that a quick answer took, and what it took with all of its work."""
    model, server, key = BACKENDS[name]
    with server() as running:
        url = running.base_url if isinstance(running, OpenAIServer) else running.url
        backend = Backend(base_url=url, api_key=SecretStr(key) if key else None)
        began = time.perf_counter()
        completion = run(create_provider(name, backend), lambda p: stream(p, request(model)))
        return completion.timings, time.perf_counter() - began


@pytest.mark.parametrize("name", BACKENDS)
def test_making_a_request_takes_none_of_the_backends_time(
    monkeypatch: pytest.MonkeyPatch, name: ProviderName
) -> None:
    making = httpx2.AsyncClient.build_request
    monkeypatch.setattr(httpx2.AsyncClient, "build_request", slowed(making))
    timings, whole_s = timed(name)
    assert whole_s > SLOW_S
    assert 0 < timings.first_token_s <= timings.total_s < SLOW_S


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    # OpenAI's streams end with a mark that is not read.
    [("claude", Call, "hear"), ("ollama", Said, "take")],
)
def test_reading_an_answers_end_takes_none_of_the_backends_time(
    monkeypatch: pytest.MonkeyPatch, name: ProviderName, owner: type, method: str
) -> None:
    monkeypatch.setattr(owner, method, slowed(getattr(owner, method)))
    timings, whole_s = timed(name)
    # The reading of what came before does count: the end is not taken in until it is done.
    assert timings.total_s < whole_s - SLOW_S / 2


def test_without_a_connection_that_tells_its_times_the_clock_is_its_own() -> None:
    async def go() -> tuple[float, float]:
        clock = Clock("llamacpp", Limits())
        await asyncio.sleep(0.02)
        clock.token(thinking=False)
        await asyncio.sleep(0.02)
        timings = clock.timings()
        assert timings.first_token_s is not None
        return timings.first_token_s, timings.total_s

    first_token_s, total_s = asyncio.run(go())
    assert 0.02 <= first_token_s <= total_s - 0.02
