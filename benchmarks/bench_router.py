"""CPU that the router and its provider cost over the bare ``ollama`` library, from one run.

A server without latency runs in another process, so that the time counted here is the client's
alone. The bare library and the router take turns in short rounds, and each difference is the median
over the rounds: whatever else the machine does then meets both. The router does all of its work: it
words the prompt, decides, keeps the breaker and the deadline, reads the answer and prices it.
Targets: 300 us a call and 30 us a streamed token over the bare library.

    python benchmarks/bench_router.py
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import ollama as sdk
from side_by_side import compare, served

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.environment import read_environment
from soma_bench.providers.ollama import Ollama
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.context import CallContext
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Routed, Router
from soma_bench.types import AGENTS

MODEL = "qwen3:8b"
CALLS = 20
STREAMS = 4
TOKENS = 200
CALL_TARGET_US = 300.0
TOKEN_TARGET_US = 30.0

SERVER = f"""
import sys
from servers.ollama import Model, OllamaServer
words = ["## Findings\\n", *(f" word{{n}}" for n in range({TOKENS - 1}))]
with OllamaServer(Model(name="{MODEL}", answer=tuple(words))) as server:
    server.record = False
    print(server.url, flush=True)
    sys.stdin.read()
"""
AGENT = AGENT_BY_NAME["report_writer"]
INPUTS = AGENT.examples[0][0]
MESSAGES = [{"role": turn.role, "content": turn.content} for turn in AGENT.messages(INPUTS)]
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "messages": MESSAGES,
    "options": {"num_ctx": 4096, "num_predict": AGENT.max_tokens, "temperature": 0.0},
    "keep_alive": "5m",
}


def profile() -> Profile:
    """Every agent on the model, with a fallback that is never asked."""
    route = {
        "primary": f"ollama:{MODEL}",
        "fallback": "ollama:qwen3:14b",
        "privacy": "local_only",
        "reason": "",
    }
    return Profile.model_validate(
        {
            "schema_version": 1,
            "name": "bench",
            "providers": {"ollama": {"enabled": True}},
            "routing": {agent: dict(route) for agent in AGENTS},
        }
    )


def context() -> CallContext:
    return CallContext(deadline=asyncio.get_running_loop().time() + 60)


async def sdk_call(client: sdk.AsyncClient) -> None:
    assert (await client.chat(**SETTINGS)).done


async def sdk_stream(client: sdk.AsyncClient) -> None:
    count = 0
    async for part in await client.chat(**SETTINGS, stream=True):
        count += bool(part.message.content)
    assert count == TOKENS


async def our_call(router: Router) -> None:
    assert (await router.ask("report_writer", INPUTS, context())).output.sections


async def our_stream(router: Router) -> None:
    count = 0
    async for event in router.stream("report_writer", INPUTS, context()):
        count += isinstance(event, str)
    assert count == TOKENS
    assert isinstance(event, Routed)


async def measure(url: str) -> bool:
    """Measure and print; whether both targets are met."""
    client = sdk.AsyncClient(url, trust_env=False)
    async with ProviderPool(lambda _: Ollama(base_url=url)) as providers:
        router = Router(profile(), providers, environment=read_environment(None))
        call = await compare(lambda: sdk_call(client), lambda: our_call(router), CALLS)
        token = await compare(
            lambda: sdk_stream(client), lambda: our_stream(router), STREAMS, parts=TOKENS
        )
    await client.close()
    met = True
    for name, found, target_us in (
        ("ask(), a call:     ", call, CALL_TARGET_US),
        ("stream(), a token: ", token, TOKEN_TARGET_US),
    ):
        print(
            f"{name} {found.bare_s * 1e6:7.1f} us bare, {found.ours_s * 1e6:7.1f} us here,"
            f" ratio {found.ratio:.2f}, difference {found.more_s * 1e6:6.1f} us"
            f" (target {target_us:g} us)"
        )
        met = met and found.more_s * 1e6 <= target_us
    return met


def main() -> None:
    with served("-c", SERVER) as url:
        met = asyncio.run(measure(url))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
