"""CPU that the Claude and OpenAI providers cost over their bare SDKs, as ratios from one run.

A server without latency runs in another process, so that the time counted here is the client's
alone. The two take turns in short rounds, and each ratio is the median over the rounds: whatever
else the machine does then meets both. Targets: 1.15 for a call, 1.3 for a streamed token.

    python benchmarks/bench_claude_openai_overhead.py
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import SecretStr
from side_by_side import Work, compare, served

from soma_bench.providers.base import Provider
from soma_bench.providers.claude import Claude
from soma_bench.providers.openai import OpenAI
from soma_bench.types import Message, Request

CLAUDE_KEY, OPENAI_KEY = "sk-ant-canary-0123456789abcdef", "sk-proj-canary-0123456789abcdef"
CLAUDE_MODEL, OPENAI_MODEL = "claude-sonnet-5-5", "gpt-6-luna"
CALLS = 20
STREAMS = 4
TOKENS = 200
CALL_TARGET = 1.15
TOKEN_TARGET = 1.3

SYSTEM = "You are a radiologist. Answer in JSON."
USER = "The CT shows a solid nodule of 8 mm in the right upper lobe. " * 20
TURNS: list[Any] = [{"role": "user", "content": USER}]


def asked(model: str) -> Request:
    """The request that the SDKs are given in their own words."""
    messages = (Message("system", SYSTEM), Message("user", USER))
    return Request(model=model, messages=messages, max_tokens=500, thinking="low")


def bare_claude(client: AsyncAnthropic) -> tuple[Work, Work]:
    settings: Any = {
        "model": CLAUDE_MODEL,
        "system": SYSTEM,
        "messages": TURNS,
        "max_tokens": 4596,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "low"},
    }

    async def call() -> None:
        answer = await client.messages.create(**settings)
        assert answer.stop_reason == "end_turn"

    async def stream() -> None:
        count = 0
        async for event in await client.messages.create(**settings, stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                count += bool(event.delta.text)
        assert count == TOKENS

    return call, stream


def bare_openai(client: AsyncOpenAI) -> tuple[Work, Work]:
    settings: Any = {
        "model": OPENAI_MODEL,
        "messages": [{"role": "system", "content": SYSTEM}, *TURNS],
        "max_completion_tokens": 4596,
        "reasoning_effort": "low",
        "store": False,
    }

    async def call() -> None:
        answer = await client.chat.completions.create(**settings)
        assert answer.choices[0].finish_reason == "stop"

    async def stream() -> None:
        count = 0
        usage: Any = {"include_usage": True}
        chunks = await client.chat.completions.create(**settings, stream=True, stream_options=usage)
        async for chunk in chunks:
            if chunk.choices:
                count += bool(chunk.choices[0].delta.content)
        assert count == TOKENS

    return call, stream


def ours(provider: Provider, request: Request) -> tuple[Work, Work]:
    async def call() -> None:
        assert (await provider.complete(request)).finish == "stop"

    async def stream() -> None:
        count = 0
        async for chunk in provider.stream(request):
            count += bool(chunk.text)
        assert count == TOKENS

    return call, stream


async def measure(name: str, bare: tuple[Work, Work], here: tuple[Work, Work]) -> bool:
    """Measure and print; whether both targets are met."""
    call = await compare(bare[0], here[0], CALLS)
    token = await compare(bare[1], here[1], STREAMS, parts=TOKENS)
    met = True
    for what, found, target in (
        ("complete(), a call", call, CALL_TARGET),
        ("stream(), a token", token, TOKEN_TARGET),
    ):
        print(
            f"{name:7} {what:20} {found.bare_s * 1e6:8.1f} us bare,"
            f" {found.ours_s * 1e6:8.1f} us here, ratio {found.ratio:.2f} (target {target})"
        )
        met = met and found.ratio <= target
    return met


async def measure_claude(url: str) -> bool:
    client = AsyncAnthropic(api_key=CLAUDE_KEY, base_url=url, max_retries=0)
    provider = Claude(base_url=url, api_key=SecretStr(CLAUDE_KEY))
    met = await measure("claude", bare_claude(client), ours(provider, asked(CLAUDE_MODEL)))
    await provider.close()
    await client.close()
    return met


async def measure_openai(url: str) -> bool:
    client = AsyncOpenAI(api_key=OPENAI_KEY, base_url=url, max_retries=0)
    provider = OpenAI(base_url=url, api_key=SecretStr(OPENAI_KEY))
    met = await measure("openai", bare_openai(client), ours(provider, asked(OPENAI_MODEL)))
    await provider.close()
    await client.close()
    return met


def main() -> None:
    with served("-m", "servers.claude") as url:
        met = asyncio.run(measure_claude(url))
    with served("-m", "servers.openai") as url:
        met = asyncio.run(measure_openai(url)) and met
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
