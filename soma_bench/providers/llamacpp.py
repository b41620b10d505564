"""Provider ``llamacpp``: GGUF models inside this process, through xllamacpp.

Thinking is a number of tokens, enforced in two phases on one prompt: the model thinks for at most
N tokens, its thoughts are closed, and the answer is generated after them. The server's own
per-request budget is not used: with it a model that ends its turn while it thinks leaves no
answer at all, budgets below 3 leak the closing tag into the answer, and the tokens spent are not
reported (xllamacpp 2026.10). Without a setting, thinking is off.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import embedded
from soma_bench.providers.base import Availability, Capabilities
from soma_bench.providers.llamacpp_engine import (
    THOUGHTS_CLOSE,
    THOUGHTS_OPEN,
    Engine,
    Generated,
    Stopped,
)
from soma_bench.types import Chunk, Completion, ModelIdentity, ProviderName, Request, Timings, Usage

DEFAULT_TIMEOUT_S = 300.0


class _Call:
    """One request on its way through an engine: its clock, its listener, its end."""

    def __init__(self, listener: Callable[[Chunk], None], timeout_s: float) -> None:
        self._listener = listener
        self._timeout_s = timeout_s
        self.cancelled = threading.Event()
        self.timed_out = False
        self.started = time.perf_counter()
        self.first_token_s: float | None = None
        self.first_answer_token_s: float | None = None

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def hear(self, text: str, *, thinking: bool) -> bool:
        """Take a piece of text; True asks the engine to stop."""
        now = self.elapsed()
        if self.first_token_s is None:
            self.first_token_s = now
        if not thinking and self.first_answer_token_s is None:
            self.first_answer_token_s = now
        self._listener(Chunk(thinking=text) if thinking else Chunk(text=text))
        self.timed_out = now > self._timeout_s
        return self.timed_out or self.cancelled.is_set()

    def failure(self) -> ProviderError:
        """Why the call was stopped before its end."""
        if self.timed_out:
            return ProviderError(
                "llamacpp", f"the answer took longer than {self._timeout_s:g} s", kind="timeout"
            )
        return ProviderError("llamacpp", "the call was cancelled", kind="cut_off")


class LlamaCpp:
    """Runs the GGUF files of one folder, one request at a time.

    Args:
        directory: folder of the models; the user's cache folder by default.
        timeout_s: longest time for one answer, in seconds, without loading the model.
    """

    name: ProviderName = "llamacpp"
    is_local = True

    def __init__(
        self, *, directory: Path | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._directory = directory
        self._timeout_s = timeout_s
        self._engines: dict[str, Engine] = {}
        self._lock = asyncio.Lock()

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        completion: Completion | None = None
        async for chunk in self.stream(request):
            completion = chunk.completion or completion
        if completion is None:
            raise ProviderError("llamacpp", "the answer ended early", kind="cut_off")
        return completion

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request piece by piece; closing the iterator stops the model."""
        self._refuse_what_cannot_be_honoured(request)
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk] = asyncio.Queue()
        arrived = time.perf_counter()
        async with self._lock:
            queue_s = time.perf_counter() - arrived
            engine, load_s = await asyncio.to_thread(self._engine, request)

            def pass_on(chunk: Chunk) -> None:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

            call = _Call(pass_on, self._timeout_s)
            work = asyncio.ensure_future(asyncio.to_thread(_answer, engine, request, call))
            work.add_done_callback(lambda _: chunks.put_nowait(Chunk()))
            try:
                while not (work.done() and chunks.empty()):
                    chunk = await chunks.get()
                    if chunk.text or chunk.thinking:
                        yield chunk
            finally:
                call.cancelled.set()
                await asyncio.wait([work])
                failure = work.exception()
            if failure:
                raise call.failure() if isinstance(failure, Stopped) else failure
            completion = work.result()
        timings = replace(completion.timings, queue_s=queue_s, load_s=load_s)
        yield Chunk(completion=replace(completion, timings=timings))

    async def available(self) -> Availability:
        """The models in the folder."""
        files = await asyncio.to_thread(embedded.installed, self._directory)
        reason = None if files else "no model is installed; run: soma-bench models pull"
        return Availability(tuple(file.name for file in files), reason)

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do; loads it, since its chat template knows."""
        async with self._lock:
            engine, _ = await asyncio.to_thread(
                self._engine, Request(model=model, messages=(), max_tokens=1)
            )
        return Capabilities(
            vision=False,
            thinking_levels=() if engine.always_thinks else ("off",),
            thinking_budget=engine.can_think,
            schema=True,
            context_tokens=engine.context_tokens,
            weights_bytes=engine.model.size_bytes,
        )

    async def identity(self, model: str) -> ModelIdentity:
        """The file behind a model's name, and the engine that runs it."""
        from importlib.metadata import version

        file = await asyncio.to_thread(embedded.find, model, self._directory)
        return ModelIdentity(
            weights_digest=file.digest,
            chat_template=file.chat_template,
            engine=f"xllamacpp {version('xllamacpp')}",
            synthetic=file.synthetic,
            weights_bytes=file.size_bytes,
        )

    async def memory_bytes(self, model: str) -> int | None:
        """Growth of this process's resident memory when the model was loaded."""
        engine = self._engines.get(model)
        return engine.memory_bytes if engine else None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free every loaded model but those in ``keep``."""
        async with self._lock:
            for model in set(self._engines) - keep:
                engine = self._engines.pop(model)
                # Freeing joins the server's threads, which must not hold up the event loop.
                await asyncio.to_thread(engine.close)

    async def close(self) -> None:
        """Free every loaded model."""
        await self.unload()

    def _refuse_what_cannot_be_honoured(self, request: Request) -> None:
        if isinstance(request.thinking, str) and request.thinking != "off":
            raise ConfigError(
                f"llamacpp: thinking={request.thinking} is a level; {request.model} takes off or a "
                "number of tokens"
            )
        if any(message.images for message in request.messages):
            raise ConfigError(f"llamacpp: {request.model} cannot see images; choose a vision model")

    def _engine(self, request: Request) -> tuple[Engine, float]:
        """The engine of a request's model, and the seconds it took to load (0 when it was)."""
        context = request.options.context_tokens
        engine = self._engines.get(request.model)
        if engine and engine.context_tokens == context:
            return engine, 0.0
        file = embedded.find(request.model, self._directory)
        if engine:
            self._engines.pop(request.model).close()
        engine = self._engines[request.model] = Engine(file, context)
        return engine, engine.load_s


def _think(engine: Engine, request: Request, call: _Call) -> tuple[str, Generated | None]:
    """The prompt after which the answer comes, and the thoughts in it (None when thinking is off)."""
    if not isinstance(request.thinking, int):
        if engine.always_thinks:
            raise ConfigError(
                f"llamacpp: {request.model} always thinks; give it a number of thinking tokens"
            )
        return engine.render(request.messages, thinking=False), None
    if not engine.can_think:
        raise ConfigError(f"llamacpp: {request.model} cannot think; it takes thinking=off")
    prompt = engine.render(request.messages, thinking=True)
    if not prompt.rstrip().endswith(THOUGHTS_OPEN):
        prompt += f"{THOUGHTS_OPEN}\n"
    thoughts = engine.generate(
        prompt,
        max_tokens=request.thinking,
        options=request.options,
        cache_prompt=request.options.cache_prompt,
        stop=(THOUGHTS_CLOSE,),
        on_text=lambda text: call.hear(text, thinking=True),
    )
    return f"{prompt}{thoughts.text.rstrip()}\n{THOUGHTS_CLOSE}\n\n", thoughts


def _answer(engine: Engine, request: Request, call: _Call) -> Completion:
    """Think if asked to, then answer; runs in a worker thread."""
    prompt, thoughts = _think(engine, request, call)
    if call.cancelled.is_set():
        raise Stopped
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
        timings=Timings(
            first_token_s=call.first_token_s,
            first_answer_token_s=call.first_answer_token_s,
            prefill_s=answer.prefill_s + (thoughts.prefill_s if thoughts else 0.0),
            decode_s=answer.decode_s + (thoughts.decode_s if thoughts else 0.0),
            total_s=call.elapsed(),
        ),
        structured_by="schema" if request.schema is not None else None,
    )
