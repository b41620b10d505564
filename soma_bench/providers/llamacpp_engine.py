"""One GGUF model loaded by llama.cpp in this process: prompts in, pieces of text out.

Everything here blocks; `soma_bench.providers.llamacpp` calls it from a thread of its own. The server
that xllamacpp starts also listens on a loopback port. It is locked with a key made for the
occasion, and used for what has no in-process call: rendering the chat template, counting tokens.
"""

from __future__ import annotations

import http.client
import json
import re
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
from soma_bench.providers.gguf_header import Scalar, read_header
from soma_bench.providers.turns import Stopped
from soma_bench.types import Message, Options

THOUGHTS_OPEN, THOUGHTS_CLOSE = "<think>", "</think>"
_HTTP_TIMEOUT_S = 30.0
_NO_MEMORY = re.compile(r"out of memory|failed to allocate|unable to allocate|bad_alloc", re.I)
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


def _failure(body: Mapping[str, Any]) -> ProviderError:
    error = body.get("error")
    details = error if isinstance(error, Mapping) else {"message": str(error)}
    message = str(details.get("message", body))
    if details.get("type") == "exceed_context_size_error":
        return ProviderError("llamacpp", message, kind="context_too_long")
    if details.get("code") == http.client.BAD_REQUEST:
        return ProviderError("llamacpp", message, kind="bad_request")
    if _NO_MEMORY.search(message):
        return ProviderError("llamacpp", message, kind="out_of_memory")
    return ProviderError("llamacpp", message, kind="backend")


def trained_context(header: Mapping[str, Scalar]) -> int | None:
    """Longest context that a model was made for, by its file's header."""
    length = header.get(f"{header.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None


def cache_bytes(header: Mapping[str, Scalar], context_tokens: int) -> int:
    """Memory for keys and values of a context at 16 bits; 0 where the header does not say enough."""

    def number(key: str) -> int:
        value = header.get(f"{header.get('general.architecture')}.{key}", 0)
        return value if isinstance(value, int) else 0

    heads = number("attention.head_count")
    if not heads:
        return 0
    width = number("embedding_length") // heads
    keys = number("attention.key_length") or width
    values = number("attention.value_length") or width
    per_token = number("block_count") * number("attention.head_count_kv") * (keys + values)
    return 2 * per_token * context_tokens


def _require_memory(model: ModelFile, needed_for_context: int, context_tokens: int) -> None:
    """Refuse what does not fit, since the system ends a process that takes more than there is."""
    memory = psutil.virtual_memory()
    # The weights are mapped from their file, for which the system makes room; the context is not.
    free = min(memory.available, memory.total - model.size_bytes)
    if needed_for_context > free:
        raise ProviderError(
            "llamacpp",
            f"{model.name} with a context of {context_tokens} tokens needs {needed_for_context / 2**30:.1f} GiB "
            f"beside its weights, and {max(0, free) / 2**30:.1f} GiB are free; choose a shorter context "
            "or a smaller model",
            kind="out_of_memory",
        )


class Engine:
    """A loaded model.

    Args:
        model: the file to load.
        context_tokens: length of the context window.
        threads: how many compute; None for llama.cpp's choice.

    Raises:
        ProviderError: the file is not a model that llama.cpp can load, or memory ran out.
    """

    def __init__(
        self, model: ModelFile, context_tokens: int, *, threads: int | None = None
    ) -> None:
        import xllamacpp

        self.model = model
        self.context_tokens = context_tokens
        header = read_header(model.path)
        self.trained_context = trained_context(header)
        """Longest context that the model was made for; None where its file does not say."""
        _require_memory(model, cache_bytes(header, context_tokens), context_tokens)
        self._key = secrets.token_urlsafe(32)
        params = xllamacpp.CommonParams()
        params.model.path = str(model.path)
        params.n_ctx = context_tokens
        params.n_parallel = 1
        if threads is not None:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
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
        except MemoryError as error:
            raise ProviderError(
                "llamacpp", f"there is no memory for {model.name}", kind="out_of_memory"
            ) from error
        except (RuntimeError, ValueError) as error:
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
        return str(self._ask("/apply-template", body, "prompt"))

    def count(self, prompt: str) -> int:
        """How many tokens a prompt has."""
        body = {"content": prompt, "add_special": True, "parse_special": True}
        tokens = self._ask("/tokenize", body, "tokens")
        return len(tokens)

    def _ask(self, path: str, body: Mapping[str, Any], wanted: str) -> Any:
        connection = http.client.HTTPConnection(*self._address, timeout=_HTTP_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ProviderError(
                "llamacpp", f"the engine's {path} failed: {error}", kind="backend"
            ) from error
        finally:
            connection.close()
        if wanted not in answer:
            raise _failure(answer)
        return answer[wanted]

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
            ProviderError: the server refused the request, failed, or ended without its last chunk.
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
        reading = _Reading(on_text)
        refused = self._server.handle_completions(body, reading.take)
        if isinstance(refused, Mapping) and refused.get("error"):
            raise _failure(refused)
        return reading.generated()


class _Reading:
    """The chunks of one generation as they come in.

    Args:
        on_text: gets each piece of text and ends the generation by True.
    """

    def __init__(self, on_text: Callable[[str], bool]) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self._stopped = False
        self._last: Mapping[str, Any] | None = None
        self._failure: ProviderError | None = None

    def take(self, chunk: Any) -> bool:
        """Take a chunk; True asks the server to stop.

        Nothing may be raised in here: the native side would swallow it.
        """
        if isinstance(chunk, Mapping) and chunk.get("error"):
            self._failure = _failure(chunk)
            return True
        try:
            choice = (chunk.get("choices") or [{}])[0]
            text = choice.get("text") or ""
            finished = choice.get("finish_reason")
        except (AttributeError, TypeError, LookupError):
            self._failure = _malformed(chunk)
            return True
        if finished:
            self._last = chunk
        if text:
            self._pieces.append(text)
            self._stopped = self._on_text(text)
        return self._stopped

    def generated(self) -> Generated:
        """What has come in, once the server has said that there is no more.

        Raises:
            ProviderError: it failed, or ended without its last chunk, or that cannot be read.
            Stopped: the listener asked for the end.
        """
        if self._stopped:
            raise Stopped
        if self._failure:
            raise self._failure
        if self._last is None:
            raise ProviderError(
                "llamacpp", "the answer ended without its last chunk", kind="ended_early"
            )
        try:
            timings, usage = self._last["timings"], self._last["usage"]
            return Generated(
                text="".join(self._pieces),
                truncated=self._last["choices"][0]["finish_reason"] == "length",
                prompt_tokens=int(usage["prompt_tokens"]),
                cached_tokens=int(timings["cache_n"]),
                output_tokens=int(timings["predicted_n"]),
                prefill_s=timings["prompt_ms"] / 1000,
                decode_s=timings["predicted_ms"] / 1000,
            )
        except (LookupError, TypeError, ValueError) as error:
            raise _malformed(self._last) from error


def _malformed(chunk: object) -> ProviderError:
    return ProviderError(
        "llamacpp", f"a chunk of the answer cannot be read: {str(chunk)[:200]}", kind="malformed"
    )
