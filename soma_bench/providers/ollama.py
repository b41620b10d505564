"""Provider ``ollama``: models on an Ollama server, on this machine or on one that is trusted.

Exact names: ``qwen3:8b`` is not ``qwen3:8b-q4_K_M``, and a bare ``qwen3`` is ``qwen3:latest``.
Models that an Ollama server only passes on to a cloud are refused. Thinking is off or a number of
tokens; the gpt-oss family takes low, medium or high instead and cannot be off. Ollama reuses a
prompt's prefix whenever it can and does not say how much of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from soma_bench.errors import ProviderError
from soma_bench.providers.base import (
    Availability,
    Capabilities,
    refuse_what_cannot_be_honoured,
)
from soma_bench.providers.clock import Clock
from soma_bench.providers.ollama_budget import Budgeted
from soma_bench.providers.ollama_client import DEFAULT_URL, NAME, Connection, Wait
from soma_bench.providers.ollama_facts import (
    Facts,
    canonical_name,
    entries,
    facts_from,
    is_cloud_tag,
    missing,
    refuse_cloud,
    tags_from,
    whole,
)
from soma_bench.providers.ollama_wire import Said, cap_of, chat_body, window_of
from soma_bench.providers.places import is_own
from soma_bench.types import (
    Chunk,
    Completion,
    Limits,
    ModelIdentity,
    ProviderName,
    Request,
    Usage,
)

__all__ = ["Ollama", "is_cloud_tag"]

T = TypeVar("T")

_FACTS_HOLD_S = 60.0
"""How long what is known of a model is believed; a pull may put other weights under its name."""
_LOADED_HOLDS_S = 30.0
"""How long a model is taken for loaded after a call; well below the time that it is kept."""
_LOADED_AT_ONCE_S = 1.0
"""A loaded model is ready within this time. What takes longer was a load, or the wait for one."""
_UNLOAD_S = 30.0
_NAMES_S = 2.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before a call."""

    facts: Facts
    loading: bool
    window: int


class Ollama:
    """Speaks to one Ollama server.

    Args:
        base_url: its address; ``http://127.0.0.1:11434`` by default.
        limits: when to give up, for requests that bring no limits of their own.
        trusted_hosts: hosts besides loopback whose server counts as one's own machine.

    Raises:
        ConfigError: the address is not a plain http or https URL.
    """

    name: ProviderName = "ollama"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        trusted_hosts: frozenset[str] = frozenset(),
    ) -> None:
        url = base_url or DEFAULT_URL
        self.is_local = is_own(url, trusted_hosts)
        self._limits = limits or Limits()
        self._connection = Connection(url, self._limits, direct=self.is_local)
        self._facts: dict[str, Facts] = {}
        self._loaded: dict[str, tuple[int, float]] = {}
        """Context, and until when to believe it, of models that were loaded at the last call."""
        self._engine: str | None = None

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        limits = request.limits or self._limits
        connection = self._connection.within(limits)
        try:
            plan = await self._prepare(request, connection, Clock(NAME, limits).wait_whole)
            clock = Clock(NAME, limits, loading=plan.loading)
            if isinstance(request.thinking, int):
                budgeted = Budgeted(connection, request, clock)
                await budgeted.complete()
                return self._budgeted(request, plan, clock, budgeted)
            said = Said(request.model)
            body = chat_body(request, plan.facts, stream=False)
            said.take(await clock.wait_whole(connection.post("/api/chat", body)))
            return self._completion(request, plan, clock, said)
        except ProviderError as error:
            raise await self._explained(error, request.model) from None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer one request piece by piece; closing the iterator stops the model."""
        limits = request.limits or self._limits
        connection = self._connection.within(limits)
        try:
            plan = await self._prepare(request, connection, Clock(NAME, limits).wait_next)
            clock = Clock(NAME, limits, loading=plan.loading)
            if isinstance(request.thinking, int):
                budgeted = Budgeted(connection, request, clock)
                async with aclosing(budgeted.stream()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                yield Chunk(completion=self._budgeted(request, plan, clock, budgeted))
                return
            said = Said(request.model)
            body = chat_body(request, plan.facts, stream=True)
            async with aclosing(connection.lines("/api/chat", body, clock.wait_next)) as lines:
                async for line in lines:
                    thinking, text = said.take(line)
                    if thinking:
                        clock.token(thinking=True)
                        yield Chunk(thinking=thinking)
                    if text:
                        clock.token(thinking=False)
                        yield Chunk(text=text)
            yield Chunk(completion=self._completion(request, plan, clock, said))
        except ProviderError as error:
            raise await self._explained(error, request.model) from None

    async def available(self) -> Availability:
        """The models on the server, without those that it passes on to a cloud."""
        try:
            tags = tags_from(await self._briefly(self._connection.get("/api/tags")))
        except ProviderError as error:
            return Availability((), str(error))
        names = tuple(sorted(tag.name for tag in tags if not tag.remote))
        reason = None if names else "no model is installed; run: soma-bench models pull ollama:NAME"
        return Availability(names, reason)

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do; does not load it."""
        return (await self.facts(model)).capabilities()

    async def identity(self, model: str) -> ModelIdentity:
        """The weights behind a model's name now, and the server's version; does not load it."""
        facts = await self.facts(model)
        if self._engine is None:
            answer = await self._briefly(self._connection.get("/api/version"))
            self._engine = f"ollama {answer.get('version') or 'unknown'}"
        return ModelIdentity(
            weights_digest=facts.tag.digest,
            chat_template=None,
            engine=self._engine,
            weights_bytes=facts.tag.size_bytes,
        )

    async def facts(self, model: str) -> Facts:
        """What the server says now about one of its models; does not load it.

        Raises:
            PrivacyError: the model runs in a cloud.
            ProviderError: it is not installed, or the server cannot be asked.
        """
        refuse_cloud(model)
        return await self._briefly(self._read_facts(canonical_name(model), self._connection))

    async def memory_bytes(self, model: str) -> int | None:
        """Memory that the loaded model takes, weights and context, as the server counts it."""
        running = await self._briefly(self._connection.get("/api/ps"))
        wanted = canonical_name(model)
        tags = {tag.name: tag.size_bytes for tag in tags_from(running)}
        return tags.get(wanted)

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free every model that the server has loaded but those in ``keep``, and wait until they went.

        Raises:
            ProviderError: (``timeout``) one did not go.
        """
        kept = {canonical_name(name) for name in keep}
        self._loaded.clear()
        until = time.monotonic() + _UNLOAD_S
        told: set[str] = set()
        while True:
            running = tags_from(await self._briefly(self._connection.get("/api/ps")))
            leaving = {tag.name for tag in running} - kept
            if not leaving:
                return
            if time.monotonic() > until:
                raise ProviderError(
                    NAME,
                    f"{', '.join(sorted(leaving))} did not leave memory within {_UNLOAD_S:g} s; is "
                    "a call still running?",
                    kind="timeout",
                )
            for name in sorted(leaving - told):
                body = {"model": name, "keep_alive": 0, "stream": False}
                await self._briefly(self._connection.post("/api/generate", body))
                told.add(name)
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Close the connections; the server frees its models by itself after `KEEP_ALIVE`."""
        await self._connection.close()

    async def _prepare(self, request: Request, connection: Connection, wait: Wait) -> _Plan:
        """Stop what cannot be honoured, and find out whether the model has to be loaded first."""
        refuse_cloud(request.model)
        name = canonical_name(request.model)
        facts = self._facts.get(name)
        if facts is None or time.monotonic() - facts.read_at > _FACTS_HOLD_S:
            facts = await wait(self._read_facts(name, connection))
            assert facts is not None
        window = window_of(request, facts)
        capabilities = replace(facts.capabilities(), context_tokens=window)
        refuse_what_cannot_be_honoured(NAME, request, capabilities)
        context, until = self._loaded.get(name, (0, 0.0))
        if context == window and time.monotonic() < until:
            return _Plan(facts, False, window)
        loading = not await wait(_is_loaded(connection, name, window))
        if loading:
            # Whatever else was loaded may have to make room.
            self._loaded.clear()
        return _Plan(facts, loading, window)

    async def _read_facts(self, name: str, connection: Connection) -> Facts:
        tags = {tag.name: tag for tag in tags_from(await connection.get("/api/tags"))}
        if name not in tags:
            raise missing(name, (tag for tag in tags if not tags[tag].remote))
        refuse_cloud(name, remote=tags[name].remote)
        shown = await connection.post("/api/show", {"model": name})
        facts = facts_from(tags[name], shown)
        refuse_cloud(name, remote=facts.tag.remote)
        self._facts[name] = facts
        return facts

    async def _briefly(self, awaitable: Awaitable[T]) -> T:
        """Await something that needs no model, within the connection's total."""
        return await Clock(NAME, self._limits).wait_whole(awaitable)

    async def _explained(self, error: ProviderError, model: str) -> ProviderError:
        """The error, with the nearest names where the model has gone since it was looked up."""
        name = canonical_name(model)
        self._loaded.pop(name, None)
        if error.kind != "model_missing" or self._facts.pop(name, None) is None:
            return error
        try:
            async with asyncio.timeout(_NAMES_S):
                tags = tags_from(await self._connection.get("/api/tags"))
        except (ProviderError, TimeoutError):
            # The names are a help and no more; what failed first is what counts.
            return error
        return missing(name, (tag.name for tag in tags if not tag.remote))

    def _completion(self, request: Request, plan: _Plan, clock: Clock, said: Said) -> Completion:
        finish = said.finish(cap_of(request, plan.facts), plan.window)
        # With a schema a model that thinks runs twice, and the counters are those of the second run.
        twice = bool(said.thinking) and request.schema is not None
        usage = Usage(
            prompt_tokens=None if twice else said.prompt_tokens,
            output_tokens=None if twice else said.tokens,
            thinking_tokens=None if said.thinking else 0,
        )
        load_s, queue_s = self._loading(request, plan, said.load_s)
        return Completion(
            text="".join(said.text),
            thinking="".join(said.thinking).strip(),
            finish=finish,
            usage=usage,
            timings=clock.timings(
                queue_s=queue_s,
                load_s=load_s,
                prefill_s=None if twice else said.prefill_s,
                decode_s=None if twice else said.decode_s,
            ),
            structured_by="schema" if request.schema is not None else None,
        )

    def _budgeted(
        self, request: Request, plan: _Plan, clock: Clock, budgeted: Budgeted
    ) -> Completion:
        thoughts, answer = budgeted.thoughts, budgeted.answer
        assert isinstance(request.thinking, int)
        thoughts.finish(request.thinking, plan.window)
        finish = answer.finish(request.max_tokens, plan.window)
        waited_s = budgeted.rendered_s if plan.loading else thoughts.load_s
        load_s, queue_s = self._loading(request, plan, waited_s)
        return Completion(
            text="".join(answer.text),
            thinking=budgeted.thought,
            finish=finish,
            usage=Usage(
                prompt_tokens=thoughts.prompt_tokens,
                output_tokens=thoughts.tokens + answer.tokens,
                thinking_tokens=thoughts.tokens,
            ),
            timings=clock.timings(
                queue_s=queue_s,
                load_s=load_s,
                prefill_s=_sum(thoughts.prefill_s, answer.prefill_s),
                decode_s=_sum(thoughts.decode_s, answer.decode_s),
            ),
            structured_by="schema" if request.schema is not None else None,
        )

    def _loading(
        self, request: Request, plan: _Plan, waited_s: float
    ) -> tuple[float, float | None]:
        """Seconds of loading and of waiting in the queue, which the server counts as one."""
        until = time.monotonic() + _LOADED_HOLDS_S
        self._loaded[canonical_name(request.model)] = (plan.window, until)
        if plan.loading or waited_s > _LOADED_AT_ONCE_S:
            return waited_s, None
        return 0.0, waited_s


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


async def _is_loaded(connection: Connection, name: str, window: int) -> bool:
    """Whether the model is loaded with this context; another context means loading it anew."""
    running = await connection.get("/api/ps")
    contexts = {
        canonical_name(entry_name): whole(entry.get("context_length"))
        for entry_name, entry in entries(running)
    }
    # Servers before 0.11 do not say which context.
    return name in contexts and contexts[name] in (None, window)
