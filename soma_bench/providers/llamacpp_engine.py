"""One GGUF model loaded by llama.cpp in this process: prompts in, pieces of text out.

Everything here blocks; `soma_bench.providers.llamacpp` calls it from a worker thread. The server
that xllamacpp starts also listens on a loopback port. It is locked with a key made for the
occasion, and used for one thing: rendering the chat template, which has no in-process call.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import psutil

from soma_bench.errors import ProviderError
from soma_bench.providers.embedded import ModelFile
from soma_bench.types import Message, Options

THOUGHTS_OPEN, THOUGHTS_CLOSE = "<think>", "</think>"
_TEMPLATE_TIMEOUT_S = 30.0
_COMPACT = {"x-guidance": {"whitespace_flexible": False}}
"""Tells llguidance, which holds answers to their schema, to allow no white space between the parts:
a small model otherwise fills half its answer, and at times all of it, with line breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What one generation gave, by the server's own counters."""

    text: str
    truncated: bool
    """Whether it ended at its token limit and not by itself."""
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    prefill_s: float
    decode_s: float


class Stopped(Exception):  # noqa: N818 - no error: the listener asked for it
    """A generation ended because its listener asked it to."""


def _failure(body: Mapping[str, Any]) -> ProviderError:
    error = body.get("error")
    details = error if isinstance(error, Mapping) else {"message": str(error)}
    message = str(details.get("message", body))
    if details.get("type") == "exceed_context_size_error":
        return ProviderError("llamacpp", message, kind="context_too_long")
    if details.get("code") == http.client.BAD_REQUEST:
        return ProviderError("llamacpp", message, kind="bad_request")
    return ProviderError("llamacpp", message, kind="backend")


class Engine:
    """A loaded model.

    Args:
        model: the file to load.
        context_tokens: length of the context window.

    Raises:
        ProviderError: the file is not a model that llama.cpp can load, or memory ran out.
    """

    def __init__(self, model: ModelFile, context_tokens: int) -> None:
        import xllamacpp

        self.model = model
        self.context_tokens = context_tokens
        self._key = secrets.token_urlsafe(32)
        params = xllamacpp.CommonParams()
        params.model.path = str(model.path)
        params.n_ctx = context_tokens
        params.n_parallel = 1
        # The server's own store of old prompts would make what is cached depend on history.
        params.cache_ram_mib = 0
        params.api_keys = [self._key]
        params.verbosity = -1
        if model.chat_template:
            source = resources.files("soma_bench.providers").joinpath(
                f"templates/{model.chat_template}.jinja"
            )
            params.chat_template = source.read_text("utf-8")
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ProviderError(
                "llamacpp",
                f"{model.path} cannot be loaded ({error}); is it a GGUF file, and is there memory for it?",
                kind="backend",
            ) from error
        self.load_s = time.perf_counter() - started
        self.memory_bytes = max(0, psutil.Process().memory_info().rss - before)
        """Growth of this process's resident memory by loading."""
        address = urlsplit(self._server.listening_address)
        self._address = (address.hostname or "127.0.0.1", address.port or 0)
        probe = (Message("user", "Hello"),)
        on, off = self.render(probe, thinking=True), self.render(probe, thinking=False)
        self.always_thinks = off.rstrip().endswith(THOUGHTS_OPEN)
        """Whether the chat template opens thoughts even when told not to."""
        self.can_think = on != off or self.always_thinks

    def close(self) -> None:
        """Free the model; the engine is not used afterwards."""
        del self._server

    def render(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The prompt that the model's chat template makes of a conversation."""
        body = {
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "chat_template_kwargs": {"enable_thinking": thinking},
        }
        connection = http.client.HTTPConnection(*self._address, timeout=_TEMPLATE_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", "/apply-template", json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ProviderError(
                "llamacpp", f"the chat template could not be applied: {error}", kind="backend"
            ) from error
        finally:
            connection.close()
        if "prompt" not in answer:
            raise _failure(answer)
        return str(answer["prompt"])

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int,
        options: Options,
        cache_prompt: bool,
        stop: Sequence[str] = (),
        schema: Mapping[str, Any] | None = None,
        on_text: Callable[[str], bool],
    ) -> Generated:
        """Continue ``prompt``; ``on_text`` gets each piece and ends the generation by True.

        Raises:
            ProviderError: the server refused the request, or it ended without its last chunk.
            Stopped: the listener asked for the end.
        """
        body: dict[str, Any] = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": options.temperature,
            "cache_prompt": cache_prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if options.top_p is not None:
            body["top_p"] = options.top_p
        if options.seed is not None:
            body["seed"] = options.seed
        if stop:
            body["stop"] = list(stop)
        if schema is not None:
            body["json_schema"] = {**schema, **_COMPACT}
        pieces: list[str] = []
        stopped = [False]
        last: dict[str, Any] = {}

        def collect(chunk: Any) -> bool:
            # Exceptions raised in here would be swallowed by the native side: only collect.
            if isinstance(chunk, Mapping) and not chunk.get("error"):
                choices = chunk.get("choices") or [{}]
                text = choices[0].get("text") or ""
                if choices[0].get("finish_reason"):
                    last.update(chunk)
                pieces.append(text)
                stopped.append(bool(text) and on_text(text))
                return stopped[-1]
            last["error"] = chunk["error"] if isinstance(chunk, Mapping) else chunk
            return True

        refused = self._server.handle_completions(body, collect)
        if isinstance(refused, Mapping) and refused.get("error"):
            raise _failure(refused)
        if stopped[-1]:
            raise Stopped
        if last.get("error"):
            raise _failure(last)
        if "timings" not in last:
            raise ProviderError(
                "llamacpp", "the answer ended without its last chunk", kind="cut_off"
            )
        timings, usage = last["timings"], last["usage"]
        return Generated(
            text="".join(pieces),
            truncated=last["choices"][0]["finish_reason"] == "length",
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=timings["cache_n"],
            output_tokens=timings["predicted_n"],
            prefill_s=timings["prompt_ms"] / 1000,
            decode_s=timings["predicted_ms"] / 1000,
        )
