"""Provider ``mlx``: models in MLX's form through mlx-lm, each in a process of its own.

Thinking is a number of tokens, enforced in two phases on one prompt cache: the model thinks for at
most N tokens, its thoughts are closed, and the answer is generated after them. Without a setting,
thinking is off. mlx-lm cannot hold a model to a JSON Schema, so the schema stands in the prompt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import mlx_models
from soma_bench.providers.base import (
    Availability,
    Capabilities,
    refuse_what_cannot_be_honoured,
)
from soma_bench.providers.clock import Clock
from soma_bench.providers.mlx_models import MlxModel
from soma_bench.providers.mlx_process import MlxProcess
from soma_bench.providers.structured import ask_for_json, only_json
from soma_bench.providers.turns import Call, Turns
from soma_bench.types import (
    Chunk,
    Completion,
    Limits,
    ModelIdentity,
    ProviderName,
    Request,
    Usage,
)


class Mlx:
    """Runs MLX models of one folder and of the Hugging Face cache, one request at a time.

    Nothing is fetched: a model that is not on this machine is an error.

    Args:
        directory: folder of models of one's own; ``mlx`` in the models folder by default.
        limits: when to give up on a call that has no limits of its own. They count from the call,
            so that the wait for another call's end is part of them.

    Raises:
        ConfigError: mlx-lm is not installed.
    """

    name: ProviderName = "mlx"
    is_local = True

    def __init__(self, *, directory: Path | None = None, limits: Limits | None = None) -> None:
        if find_spec("mlx_lm") is None:
            raise mlx_models.not_installed()
        self._directory = directory
        self._limits = limits or Limits()
        self._workers: dict[str, MlxProcess] = {}
        self._turns = Turns("mlx")

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        refuse_what_cannot_be_honoured("mlx", request, _at_best(request))
        return await self._turns.complete(
            lambda call: self._answer(request, call), self._clock(request)
        )

    async def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer one request piece by piece; closing the iterator stops the model."""
        refuse_what_cannot_be_honoured("mlx", request, _at_best(request))
        chunks = self._turns.stream(lambda call: self._answer(request, call), self._clock(request))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def available(self) -> Availability:
        """The models on this machine."""
        models = await asyncio.to_thread(mlx_models.installed, self._directory)
        reason = None if models else "no model is installed; run: soma-bench models pull mlx:NAME"
        return Availability(models, reason)

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do; opens it without its weights, since its chat template knows."""
        call = Call()
        clock = Clock("mlx", self._limits, loading=True)
        try:
            return _capabilities(
                await clock.wait_whole(self._turns.run(lambda: self._worker(model, call)))
            )
        finally:
            call.cancelled.set()

    async def identity(self, model: str) -> ModelIdentity:
        """The files behind a model's name, and the engine that runs them."""
        from importlib.metadata import version

        found = await asyncio.to_thread(mlx_models.find, model, self._directory)
        return ModelIdentity(
            weights_digest=await asyncio.to_thread(mlx_models.weights_digest, found),
            chat_template=None,
            engine=f"mlx-lm {version('mlx-lm')} / mlx {version('mlx')}",
            synthetic=found.synthetic,
            weights_bytes=found.size_bytes,
        )

    async def memory_bytes(self, model: str) -> int | None:
        """Peak of MLX's memory since the model was loaded: weights, caches and work space."""
        worker = self._workers.get(model)
        return worker.memory_bytes if worker and worker.alive else None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """End the process of every model but those in ``keep``."""
        await self._turns.run(lambda: self._end(keep))

    async def close(self) -> None:
        """End every model's process, once the call that may still be in one has ended."""
        await self.unload()
        self._turns.close()

    def _clock(self, request: Request) -> Clock:
        worker = self._workers.get(request.model)
        loading = worker is None or not (worker.loaded and worker.alive)
        return Clock("mlx", request.limits or self._limits, loading=loading)

    # What follows runs on the workers' thread.

    def _worker(self, model: str, call: Call) -> MlxProcess:
        """The process of a model, with its weights perhaps not loaded yet."""
        worker = self._workers.get(model)
        if worker and worker.alive:
            return worker
        if worker:
            self._workers.pop(model).end()
        worker = self._workers[model] = MlxProcess(mlx_models.find(model, self._directory), call)
        return worker

    def _end(self, keep: frozenset[str]) -> None:
        for model in set(self._workers) - keep:
            self._workers.pop(model).end()

    def _answer(self, request: Request, call: Call) -> Completion:
        call.begin()
        started = time.perf_counter()
        worker = self._worker(request.model, call)
        _refuse_thinking_without_end(worker, request)
        able = replace(_capabilities(worker), context_tokens=request.options.context_tokens)
        refuse_what_cannot_be_honoured("mlx", request, able)
        if worker.loaded:
            call.loaded(0.0)
        else:
            _require_memory(worker.model)
            worker.load(call)
            call.loaded(time.perf_counter() - started)
        return _answer(worker, request, call)


def _at_best(request: Request) -> Capabilities:
    """What any model here can do at most; refuses what needs no look at the model."""
    return Capabilities(
        vision=False,
        thinking_levels=("off",),
        thinking_budget=True,
        schema=False,
        context_tokens=request.options.context_tokens,
        weights_bytes=None,
    )


def _capabilities(worker: MlxProcess) -> Capabilities:
    return Capabilities(
        vision=False,
        thinking_levels=() if worker.always_thinks else ("off",),
        thinking_budget=worker.can_think,
        schema=False,
        context_tokens=worker.model.context_tokens,
        weights_bytes=worker.model.size_bytes,
    )


def _refuse_thinking_without_end(worker: MlxProcess, request: Request) -> None:
    if worker.always_thinks and request.thinking is None:
        raise ConfigError(
            f"mlx: {request.model} always thinks; give it a number of thinking tokens"
        )


def _require_memory(model: MlxModel) -> None:
    total = psutil.virtual_memory().total
    if model.size_bytes > total:
        raise ProviderError(
            "mlx",
            f"the weights of {model.name} take {model.size_bytes / 2**30:.1f} GiB, and this machine "
            f"has {total / 2**30:.1f} GiB; choose a smaller model or quantization",
            kind="out_of_memory",
        )


def _answer(worker: MlxProcess, request: Request, call: Call) -> Completion:
    messages = request.messages
    if request.schema is not None:
        messages = ask_for_json(messages, request.schema)
    done = worker.answer(
        call,
        messages=[{"role": message.role, "content": message.content} for message in messages],
        max_tokens=request.max_tokens,
        thinking=request.thinking if isinstance(request.thinking, int) else None,
        temperature=request.options.temperature,
        top_p=request.options.top_p,
        seed=request.options.seed,
        context_tokens=request.options.context_tokens,
    )
    return Completion(
        text=done["text"] if request.schema is None else only_json(done["text"]),
        thinking=done["thinking"],
        finish=done["finish"],
        usage=Usage(
            prompt_tokens=done["prompt_tokens"],
            cached_tokens=0,
            output_tokens=done["output_tokens"],
            thinking_tokens=done["thinking_tokens"],
        ),
        timings=call.timings(prefill_s=done["prefill_s"], decode_s=done["decode_s"]),
        structured_by=None if request.schema is None else "prompt",
    )
