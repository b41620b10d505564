"""Provider ``llamacpp``: GGUF models inside this process, through xllamacpp.

Thinking is a number of tokens, enforced in two phases on one prompt: the model thinks for at most
N tokens, its thoughts are closed, and the answer is generated after them. The server's own
per-request budget is not used: with it a model that ends its turn while it thinks leaves no
answer at all, budgets below 3 leak the closing tag into the answer, and the tokens spent are not
reported (xllamacpp 2026.10). Without a setting, thinking is off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import embedded
from soma_bench.providers.base import (
    Availability,
    Capabilities,
    refuse_what_cannot_be_honoured,
)
from soma_bench.providers.clock import Clock
from soma_bench.providers.llamacpp_engine import (
    THOUGHTS_CLOSE,
    THOUGHTS_OPEN,
    Engine,
    Generated,
)
from soma_bench.providers.turns import Call, Turns
from soma_bench.settings import llamacpp_threads
from soma_bench.types import (
    Chunk,
    Completion,
    Limits,
    ModelIdentity,
    Options,
    ProviderName,
    Request,
    Usage,
)


class LlamaCpp:
    """Runs the GGUF files of one folder, one request at a time.

    A call that gives up returns at once; the engine is free again at its next token, since nothing
    can interrupt it while it reads a prompt. While a model loads, the whole interpreter stands still
    (xllamacpp 2026.10 holds its lock): a limit that passes meanwhile is told when loading has ended.

    Args:
        limits: when to give up on a call that has no limits of its own. They count from the call,
            so that the wait for another call's end is part of them.
    """

    name: ProviderName = "llamacpp"
    is_local = True
    complete_times_tokens = True

    def __init__(self, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._threads = llamacpp_threads()
        self._engines: dict[str, Engine] = {}
        self._turns = Turns("llamacpp")

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        refuse_what_cannot_be_honoured("llamacpp", request, _at_best(request))
        return await self._turns.complete(
            lambda call: self._answer(request, call), self._clock(request)
        )

    async def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer one request piece by piece; closing the iterator stops the model."""
        refuse_what_cannot_be_honoured("llamacpp", request, _at_best(request))
        chunks = self._turns.stream(lambda call: self._answer(request, call), self._clock(request))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def available(self) -> Availability:
        """The models in the folder."""
        files = await asyncio.to_thread(embedded.installed)
        reason = None if files else "no model is installed; run: soma-bench models pull"
        return Availability(tuple(file.name for file in files), reason)

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do; loads it, since its chat template knows."""
        return _capabilities(await self._turns.run(lambda: self._loaded(model)))

    async def identity(self, model: str) -> ModelIdentity:
        """The file behind a model's name, and the engine that runs it."""
        from importlib.metadata import version

        file = await asyncio.to_thread(embedded.find, model)
        # What decides an answer's time is a part of its identity.
        threads = f", threads {self._threads}" if self._threads else ""
        return ModelIdentity(
            weights_digest=file.digest,
            chat_template=file.chat_template,
            engine=f"xllamacpp {version('xllamacpp')}{threads}",
            synthetic=file.synthetic,
            weights_bytes=file.size_bytes,
        )

    async def memory_bytes(self, model: str) -> int | None:
        """Growth of this process's resident memory when the model was loaded."""
        engine = self._engines.get(model)
        return engine.memory_bytes if engine else None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free every loaded model but those in ``keep``."""
        await self._turns.run(lambda: self._free(keep))

    async def close(self) -> None:
        """Free every loaded model, once the call that may still be in an engine has ended."""
        await self.unload()
        self._turns.close()

    def _clock(self, request: Request) -> Clock:
        engine = self._engines.get(request.model)
        loading = engine is None or engine.context_tokens != request.options.context_tokens
        return Clock("llamacpp", request.limits or self._limits, loading=loading)

    # What follows runs on the engines' thread.

    def _answer(self, request: Request, call: Call) -> Completion:
        call.begin()
        engine, load_s = self._engine(request.model, request.options.context_tokens)
        call.loaded(load_s)
        able = replace(_capabilities(engine), context_tokens=engine.context_tokens)
        refuse_what_cannot_be_honoured("llamacpp", request, able)
        return _answer(engine, request, call)

    def _engine(self, model: str, context_tokens: int) -> tuple[Engine, float]:
        """A model with a context of that length, and the seconds it took to load (0 when it was)."""
        engine = self._engines.get(model)
        if engine and engine.context_tokens == context_tokens:
            return engine, 0.0
        file = embedded.find(model)
        if engine:
            self._engines.pop(model).close()
        engine = self._engines[model] = Engine(file, context_tokens, threads=self._threads)
        return engine, engine.load_s

    def _loaded(self, model: str) -> Engine:
        engine = self._engines.get(model)
        return engine or self._engine(model, Options().context_tokens)[0]

    def _free(self, keep: frozenset[str]) -> None:
        for model in set(self._engines) - keep:
            self._engines.pop(model).close()


def _at_best(request: Request) -> Capabilities:
    """What any model here can do at most; refuses what needs no look at the model."""
    return Capabilities(
        vision=False,
        thinking_levels=("off",),
        thinking_budget=True,
        schema=True,
        context_tokens=request.options.context_tokens,
        weights_bytes=None,
    )


def _capabilities(engine: Engine) -> Capabilities:
    return Capabilities(
        vision=False,
        thinking_levels=() if engine.always_thinks else ("off",),
        thinking_budget=engine.can_think,
        schema=True,
        context_tokens=engine.trained_context or engine.context_tokens,
        weights_bytes=engine.model.size_bytes,
    )


def _prompt(engine: Engine, request: Request) -> str:
    """The prompt that the chat template makes; thoughts are open at its end where they are asked for.

    Raises:
        ConfigError: the model always thinks, and no number of tokens was given for it.
        ProviderError: (``context_too_long``) the context has no room for an answer after it.
    """
    thinks = isinstance(request.thinking, int)
    if engine.always_thinks and not thinks:
        raise ConfigError(
            f"llamacpp: {request.model} always thinks; give it a number of thinking tokens"
        )
    prompt = engine.render(request.messages, thinking=thinks)
    if thinks and not prompt.rstrip().endswith(THOUGHTS_OPEN):
        prompt += f"{THOUGHTS_OPEN}\n"
    tokens = engine.count(prompt)
    if tokens >= engine.context_tokens:
        raise ProviderError(
            "llamacpp",
            f"the prompt has {tokens} tokens, and the context is {engine.context_tokens}; "
            "shorten the prompt or ask for a longer context",
            kind="context_too_long",
        )
    return prompt


def _think(
    engine: Engine, request: Request, call: Call, prompt: str
) -> tuple[str, Generated | None]:
    """The prompt after which the answer comes, and the thoughts in it (None when thinking is off)."""
    if not isinstance(request.thinking, int):
        return prompt, None
    thoughts = engine.generate(
        prompt,
        max_tokens=request.thinking,
        options=request.options,
        cache_prompt=request.options.cache_prompt,
        stop=(THOUGHTS_CLOSE,),
        on_text=lambda text: call.hear(text, thinking=True),
    )
    return f"{prompt}{thoughts.text.rstrip()}\n{THOUGHTS_CLOSE}\n\n", thoughts


def _answer(engine: Engine, request: Request, call: Call) -> Completion:
    """Think if asked to, then answer."""
    prompt, thoughts = _think(engine, request, call, _prompt(engine, request))
    call.check()
    answer = engine.generate(
        prompt,
        max_tokens=request.max_tokens,
        options=request.options,
        # The second phase continues what the first has just computed, whatever the option says.
        cache_prompt=request.options.cache_prompt or thoughts is not None,
        schema=request.schema,
        on_text=lambda text: call.hear(text, thinking=False),
    )
    used = answer.prompt_tokens + answer.output_tokens
    if answer.truncated and used >= engine.context_tokens:
        raise ProviderError(
            "llamacpp",
            f"prompt and answer need more than the context of {engine.context_tokens} tokens",
            kind="context_too_long",
        )
    first = thoughts or answer
    thinking_tokens = thoughts.output_tokens if thoughts else 0
    return Completion(
        text=answer.text,
        thinking=thoughts.text.strip() if thoughts else "",
        finish="length" if answer.truncated else "stop",
        usage=Usage(
            prompt_tokens=first.prompt_tokens,
            cached_tokens=first.cached_tokens,
            output_tokens=thinking_tokens + answer.output_tokens,
            thinking_tokens=thinking_tokens,
        ),
        timings=call.timings(
            prefill_s=answer.prefill_s + (thoughts.prefill_s if thoughts else 0.0),
            decode_s=answer.decode_s + (thoughts.decode_s if thoughts else 0.0),
        ),
        structured_by="schema" if request.schema is not None else None,
    )
