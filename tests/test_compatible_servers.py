"""The cloud providers against a server that none of us wrote: llama.cpp's, over HTTP.

It speaks both APIs, and what it cannot do it must not seem to have done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from http_failures import PICTURE, SCHEMA, Ask, both, request, run
from servers.base import wait_until
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.base import Provider
from soma_bench.providers.claude import Claude
from soma_bench.providers.embedded import PUBLISHED, find
from soma_bench.providers.openai import OpenAI
from soma_bench.types import Completion, Message, Request

pytestmark = pytest.mark.model

MODEL = "smollm2"
WINDOW = 1024


@pytest.fixture(scope="module")
def url(embedded_models: Path) -> Iterator[str]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find(PUBLISHED, embedded_models).path)
    params.model_alias = {MODEL}
    params.n_ctx = WINDOW
    params.n_parallel = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def openai(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1")


def claude(url: str) -> Claude:
    return Claude(base_url=url, api_key=SecretStr("any"))


either = pytest.mark.parametrize("make", [openai, claude])
Make = Callable[[str], Provider]


def asked(make: Make, url: str, ask: Ask, **changes: Any) -> Completion:
    answer = run(make(url), lambda p: ask(p, request(MODEL, **{"max_tokens": 12, **changes})))
    assert isinstance(answer, Completion)
    return answer


@either
@both
def test_answers_are_whole_and_counted(make: Make, url: str, ask: Ask) -> None:
    answer = asked(make, url, ask)
    assert answer.text
    assert answer.finish in ("stop", "length")
    assert 20 < (answer.usage.prompt_tokens or 0) < 80
    assert 0 < (answer.usage.output_tokens or 0) <= 12
    if make is openai:
        assert answer.timings.decode_s


@both
def test_a_schema_is_held_by_the_server_where_it_can(url: str, ask: Ask) -> None:
    answer = asked(openai, url, ask, schema=SCHEMA, max_tokens=60)
    assert answer.structured_by == "schema"
    assert set(json.loads(answer.text)) == {"side", "size_mm", "note"}


def test_a_schema_that_the_server_would_ignore_goes_into_the_prompt(url: str) -> None:
    async def work(provider: Provider) -> Completion:
        return await provider.complete(request(MODEL, schema=SCHEMA, max_tokens=12))

    assert run(claude(url), work).structured_by == "prompt"


@either
@both
def test_a_prompt_that_is_too_long_is_named_so(make: Make, url: str, ask: Ask) -> None:
    messages = (Message("user", "lung nodule " * WINDOW),)
    with pytest.raises(ProviderError) as caught:
        asked(make, url, ask, messages=messages)
    assert caught.value.kind == "context_too_long"


@both
def test_what_the_server_cannot_do_is_refused_before_the_call(url: str, ask: Ask) -> None:
    for changes in ({"messages": (Message("user", "?", (PICTURE,)),)}, {"thinking": 64}):
        with pytest.raises(ConfigError):
            asked(openai, url, ask, **changes)
    assert asked(openai, url, ask, thinking="off").thinking == ""


def test_only_the_exact_name_is_answered(url: str) -> None:
    async def work(provider: Provider) -> None:
        assert (await provider.available()).models == (MODEL,)
        assert (await provider.capabilities(MODEL)).context_tokens == WINDOW
        await provider.complete(
            Request(model=f"{MODEL}-x", messages=(Message("user", "?"),), max_tokens=1)
        )

    with pytest.raises(ProviderError) as caught:
        run(openai(url), work)
    assert caught.value.kind == "model_missing"


@either
def test_leaving_a_stream_stops_the_servers_work(make: Make, url: str) -> None:
    import urllib.request

    def idle() -> bool:
        with urllib.request.urlopen(f"{url}/slots") as answer:
            return not any(slot["is_processing"] for slot in json.load(answer))

    async def work(provider: Provider) -> None:
        chunks = provider.stream(request(MODEL, max_tokens=900))
        await anext(chunks)
        assert not await asyncio.to_thread(idle)
        await chunks.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(wait_until, idle, 10.0)

    run(make(url), work)
