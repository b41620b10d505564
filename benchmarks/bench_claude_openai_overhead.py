"""CPU that the Claude and OpenAI providers cost over their bare SDKs, as ratios from one run.

A server without latency runs in another process, so that the time counted here is the client's
alone. The two take turns in short rounds, and each ratio is the median over the rounds: whatever
else the machine does then meets both. Targets: 1.15 for a call, 1.3 for a streamed token.

    python benchmarks/bench_claude_openai_overhead.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import SecretStr

from soma_bench.providers.base import Provider
from soma_bench.providers.claude import Claude
from soma_bench.providers.openai import OpenAI
from soma_bench.types import Message, Request

TESTS = Path(__file__).resolve().parent.parent / "tests"
CLAUDE_KEY, OPENAI_KEY = "sk-ant-canary-0123456789abcdef", "sk-proj-canary-0123456789abcdef"
CLAUDE_MODEL, OPENAI_MODEL = "claude-sonnet-5-5", "gpt-6-luna"
ROUNDS = 15
CALLS = 20
STREAMS = 4
TOKENS = 200
CALL_TARGET = 1.15
TOKEN_TARGET = 1.3

SYSTEM = "You are a radiologist. Answer in JSON."
USER = "The CT shows a solid nodule of 8 mm in the right upper lobe. " * 20
TURNS: list[Any] = [{"role": "user", "content": USER}]
Work = Callable[[], Awaitable[None]]


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


async def cpu_s(work: Work, times: int) -> float:
    """CPU seconds of this process for one piece of work."""
    started = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - started) / times


async def compare(bare: Work, here: Work, times: int) -> tuple[float, float, float]:
    """Median CPU seconds of each, and the median of their ratio over the rounds."""
    await cpu_s(bare, times)
    await cpu_s(here, times)
    pairs = []
    for turn in range(ROUNDS):
        # Who goes first changes, so that neither always meets a warm cache.
        if turn % 2:
            here_s = await cpu_s(here, times)
            pairs.append((await cpu_s(bare, times), here_s))
        else:
            bare_s = await cpu_s(bare, times)
            pairs.append((bare_s, await cpu_s(here, times)))
    ratio = median(mine / theirs for theirs, mine in pairs)
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs), ratio


async def measure(name: str, bare: tuple[Work, Work], here: tuple[Work, Work]) -> bool:
    """Measure and print; whether both targets are met."""
    call = await compare(bare[0], here[0], CALLS)
    stream = await compare(bare[1], here[1], STREAMS)
    met = True
    for what, found, parts, target in (
        ("complete(), a call", call, 1, CALL_TARGET),
        ("stream(), a token", stream, TOKENS, TOKEN_TARGET),
    ):
        there_us, here_us = (seconds / parts * 1e6 for seconds in found[:2])
        print(f"{name:7} {what:20} {there_us:8.1f} us bare, {here_us:8.1f} us here", end="")
        print(f", ratio {found[2]:.2f} (target {target})")
        met = met and found[2] <= target
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


@contextmanager
def served(name: str) -> Iterator[str]:
    """The address of a test server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", f"servers.{name}"],
        cwd=TESTS,
        env={"PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    assert server.stdin
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(10)


def main() -> None:
    with served("claude") as url:
        met = asyncio.run(measure_claude(url))
    with served("openai") as url:
        met = asyncio.run(measure_openai(url)) and met
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
