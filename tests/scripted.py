"""A provider that answers from a script: the boundary fake for tests of what calls providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.providers.base import Availability, Capabilities
from soma_bench.types import Chunk, Completion, ModelIdentity, Request, Timings, Usage


def completion(text: str, *, finish: str = "stop") -> Completion:
    return Completion(
        text=text,
        finish=finish,
        usage=Usage(prompt_tokens=10, cached_tokens=0, output_tokens=5, thinking_tokens=0),
        timings=Timings(load_s=0.0, first_token_s=0.01, total_s=0.02),
    )


def example_answer(request: Request) -> str:
    """What the asked agent's first worked example answers, whatever the case."""
    agent = next(a for a in AGENT_BY_NAME.values() if a.system == request.messages[0].content)
    return agent.write(agent.examples[0][1])


class ScriptedProvider:
    """Calls ``script(request)`` for each request; what it raises, the provider raises."""

    name = "llamacpp"
    is_local = True

    def __init__(self, script: Callable[[Request], str | Completion]) -> None:
        self._script = script
        self.requests: list[Request] = []
        self.unloads: list[frozenset[str]] = []
        self.closed = False

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        answer = self._script(request)
        return completion(answer) if isinstance(answer, str) else answer

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        whole = await self.complete(request)
        if whole.text:
            yield Chunk(text=whole.text)
        yield Chunk(completion=whole)

    async def available(self) -> Availability:
        return Availability(("scripted",))

    async def capabilities(self, model: str) -> Capabilities:
        return Capabilities(
            vision=False,
            thinking_levels=("off",),
            thinking_budget=True,
            schema=True,
            context_tokens=2048,
            weights_bytes=1,
        )

    async def identity(self, model: str) -> ModelIdentity:
        return ModelIdentity(
            weights_digest="sha256:" + "0" * 64,
            chat_template=None,
            engine="scripted 1",
            weights_bytes=1,
        )

    async def memory_bytes(self, model: str) -> int | None:
        return 1_000_000

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        self.unloads.append(keep)

    async def close(self) -> None:
        self.closed = True
