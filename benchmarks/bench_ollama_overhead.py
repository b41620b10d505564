"""CPU that the Ollama provider costs over the bare ``ollama`` library, as ratios from one run.

A server without latency runs in another process, so that the time counted here is the client's
alone. The two take turns in short rounds, and each ratio is the median over the rounds: whatever
else the machine does then meets both. Targets: 1.15 for a call, 1.3 for a streamed token.

    python benchmarks/bench_ollama_overhead.py
"""

from __future__ import annotations

import asyncio
import sys

import ollama as sdk
from side_by_side import compare, served

from soma_bench.providers.ollama import Ollama
from soma_bench.types import Message, Options, Request

MODEL = "qwen3:8b"
CALLS = 20
STREAMS = 4
TOKENS = 200
CALL_TARGET = 1.15
TOKEN_TARGET = 1.3

SYSTEM = "You are a radiologist. Answer in JSON."
USER = "The CT shows a solid nodule of 8 mm in the right upper lobe. " * 20
OPTIONS = {"num_ctx": 2048, "num_predict": 500, "temperature": 0.0, "seed": 0}
REQUEST = Request(
    model=MODEL,
    messages=(Message("system", SYSTEM), Message("user", USER)),
    max_tokens=500,
    options=Options(context_tokens=2048),
)
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]


async def sdk_call(client: sdk.AsyncClient) -> None:
    answer = await client.chat(MODEL, MESSAGES, options=OPTIONS, keep_alive="5m")
    assert answer.done


async def sdk_stream(client: sdk.AsyncClient) -> None:
    parts = await client.chat(MODEL, MESSAGES, stream=True, options=OPTIONS, keep_alive="5m")
    count = 0
    async for part in parts:
        count += bool(part.message.content)
    assert count == TOKENS


async def our_call(provider: Ollama) -> None:
    assert (await provider.complete(REQUEST)).finish == "stop"


async def our_stream(provider: Ollama) -> None:
    count = 0
    async for chunk in provider.stream(REQUEST):
        count += bool(chunk.text)
    assert count == TOKENS


async def measure(url: str) -> bool:
    """Measure and print; whether both targets are met."""
    client = sdk.AsyncClient(url, trust_env=False)
    provider = Ollama(base_url=url)
    call = await compare(lambda: sdk_call(client), lambda: our_call(provider), CALLS)
    token = await compare(
        lambda: sdk_stream(client), lambda: our_stream(provider), STREAMS, parts=TOKENS
    )
    await provider.close()
    await client.close()
    met = True
    for what, found, target in (
        ("complete(), a call:", call, CALL_TARGET),
        ("stream(), a token:", token, TOKEN_TARGET),
    ):
        print(
            f"{what:20} {found.bare_s * 1e6:8.1f} us bare, {found.ours_s * 1e6:8.1f} us here,"
            f" ratio {found.ratio:.2f} (target {target})"
        )
        met = met and found.ratio <= target
    return met


def main() -> None:
    with served("-m", "servers.ollama") as url:
        met = asyncio.run(measure(url))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
