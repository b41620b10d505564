"""CPU that the Ollama provider costs over the bare ``ollama`` library, as ratios from one run.

A server without latency runs in another process, so that the time counted here is the client's
alone. The two take turns in short rounds, and each ratio is the median over the rounds: whatever
else the machine does then meets both. Targets: 1.15 for a call, 1.3 for a streamed token.

    python benchmarks/bench_ollama_overhead.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import ollama as sdk

from soma_bench.providers.ollama import Ollama
from soma_bench.types import Message, Options, Request

ROOT = Path(__file__).resolve().parent.parent
MODEL = "qwen3:8b"
ROUNDS = 15
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


async def cpu_s(work: Callable[[], Awaitable[None]], times: int) -> float:
    """CPU seconds of this process for one piece of work."""
    started = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - started) / times


async def compare(
    bare: Callable[[], Awaitable[None]], ours: Callable[[], Awaitable[None]], times: int
) -> tuple[float, float, float]:
    """Median CPU seconds of each, and the median of their ratio over the rounds."""
    await cpu_s(bare, times)
    await cpu_s(ours, times)
    pairs = []
    for turn in range(ROUNDS):
        # Who goes first changes, so that neither always meets a warm cache.
        if turn % 2:
            ours_s = await cpu_s(ours, times)
            pairs.append((await cpu_s(bare, times), ours_s))
        else:
            bare_s = await cpu_s(bare, times)
            pairs.append((bare_s, await cpu_s(ours, times)))
    ratio = median(mine / theirs for theirs, mine in pairs)
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs), ratio


async def measure(url: str) -> bool:
    """Measure and print; whether both targets are met."""
    client = sdk.AsyncClient(url, trust_env=False)
    provider = Ollama(base_url=url)
    call = await compare(lambda: sdk_call(client), lambda: our_call(provider), CALLS)
    stream = await compare(lambda: sdk_stream(client), lambda: our_stream(provider), STREAMS)
    await provider.close()
    await client.close()
    token = [seconds / TOKENS for seconds in stream[:2]]
    print(
        f"complete(), a call:  {call[0] * 1e6:8.1f} us bare, {call[1] * 1e6:8.1f} us here", end=""
    )
    print(f", ratio {call[2]:.2f} (target {CALL_TARGET})")
    print(
        f"stream(), a token:   {token[0] * 1e6:8.1f} us bare, {token[1] * 1e6:8.1f} us here", end=""
    )
    print(f", ratio {stream[2]:.2f} (target {TOKEN_TARGET})")
    return call[2] <= CALL_TARGET and stream[2] <= TOKEN_TARGET


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "servers.ollama"],
        cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    assert server.stdin
    try:
        met = asyncio.run(measure(server.stdout.readline().strip()))
    finally:
        server.stdin.close()
        server.wait(10)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
