"""Ollama's own words: requests as it takes them, and what its answers say.

Of the counters, ``prompt_eval_count`` has cached tokens in it while ``prompt_eval_duration`` has
not, so no speed is made of the two; zero values are left out. Ollama cuts a prompt to the window,
and later shifts an answer out of it, without a word: both show in the counters and are refused.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from soma_bench.errors import ProviderError
from soma_bench.providers import remote
from soma_bench.providers.ollama_client import NAME, Json
from soma_bench.providers.ollama_facts import Facts, refuse_cloud, whole
from soma_bench.types import FinishReason, Message, Request

KEEP_ALIVE = "5m"
"""How long the server holds a model after its last call."""

ALLOWANCES = {"low": 1024, "medium": 4096, "high": 16384, None: 4096}
"""Tokens added to ``max_tokens`` where the model thinks on its own account, by level (None: its
default). Ollama counts thinking and answer together and has no cap for either."""


def window_of(request: Request, facts: Facts) -> int:
    """Tokens that prompt and answer share: what is asked for, as far as the model was made for it."""
    asked = request.options.context_tokens
    return asked if facts.context_tokens is None else min(asked, facts.context_tokens)


def cap_of(request: Request, facts: Facts) -> int:
    """Tokens that may be generated: the answer's, and an allowance where the model thinks."""
    cap = request.max_tokens
    thinking = request.thinking
    if facts.thinks and thinking != "off" and not isinstance(thinking, int):
        cap += ALLOWANCES[thinking]
    return min(cap, window_of(request, facts))


def chat_body(request: Request, facts: Facts, *, stream: bool) -> Json:
    """The body of ``/api/chat``."""
    body: Json = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": stream,
        "options": _options(request, cap_of(request, facts)),
        "keep_alive": KEEP_ALIVE,
    }
    if facts.thinks and request.thinking is not None:
        body["think"] = False if request.thinking == "off" else request.thinking
    if request.schema is not None:
        body["format"] = dict(request.schema)
    if sum(message.role != "system" for message in request.messages) > 1:
        # Of a longer conversation whole turns are dropped, which no counter shows.
        body["truncate"] = False
    return body


def render_body(request: Request) -> Json:
    """The body of ``/api/chat`` that asks for the prompt instead of an answer.

    A server that does not know the question answers it with one token.
    """
    return {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": False,
        "think": True,
        "options": _options(request, 1),
        "keep_alive": KEEP_ALIVE,
        "truncate": False,
        "_debug_render_only": True,
    }


def raw_body(
    request: Request, prompt: str, *, cap: int, stream: bool, stop: Sequence[str] = ()
) -> Json:
    """The body of ``/api/generate`` for a prompt that has the model's template in it already."""
    options = _options(request, cap)
    if stop:
        options["stop"] = list(stop)
    body: Json = {
        "model": request.model,
        "prompt": prompt,
        "raw": True,
        # Otherwise the server looks for thoughts in raw text too and takes the tags out of it.
        "think": False,
        "stream": stream,
        "options": options,
        "keep_alive": KEEP_ALIVE,
    }
    images = [_base64(image.data) for message in request.messages for image in message.images]
    if images:
        body["images"] = images
    return body


@dataclass(slots=True)
class Said:
    """What a model has said so far, and the counters of its last line."""

    model: str
    thinking: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    done: bool = False
    reason: str | None = None
    load_s: float = 0.0
    prompt_tokens: int | None = None
    prefill_s: float | None = None
    tokens: int = 0
    decode_s: float | None = None

    def take(self, line: Json) -> tuple[str, str]:
        """Take one line of an answer, or a whole one; its thinking and its text.

        Raises:
            ProviderError: (``malformed``) it is not a line of an answer.
            PrivacyError: the answer comes from a cloud.
        """
        said = line.get("message")
        if said is None:
            said = line
        if not isinstance(said, dict):
            raise remote.malformed(NAME)
        text = said.get("content" if said is not line else "response") or ""
        thinking = said.get("thinking") or ""
        if not isinstance(text, str) or not isinstance(thinking, str):
            raise remote.malformed(NAME)
        if said is line and "response" not in line and not line.get("done"):
            raise remote.malformed(NAME)
        if thinking:
            self.thinking.append(thinking)
        if text:
            self.text.append(text)
        if line.get("done") is True:
            self._end(line)
        return thinking, text

    def _end(self, line: Json) -> None:
        refuse_cloud(self.model, remote=bool(line.get("remote_host") or line.get("remote_model")))
        self.done = True
        self.reason = line.get("done_reason")
        self.load_s = _seconds(line, "load_duration") or 0.0
        self.prompt_tokens = whole(line.get("prompt_eval_count"))
        self.prefill_s = _seconds(line, "prompt_eval_duration")
        self.tokens = whole(line.get("eval_count")) or 0
        self.decode_s = _seconds(line, "eval_duration")

    def finish(self, cap: int, window: int) -> FinishReason:
        """How the answer ended.

        Args:
            cap: tokens that were allowed.
            window: tokens that prompt and answer share.

        Raises:
            ProviderError: it did not end, or not all of prompt and answer fitted into the window.
        """
        if not self.done:
            raise remote.ended_early(NAME)
        if self.reason not in ("stop", "length", None):
            raise ProviderError(
                NAME, f"no answer came, but done_reason {self.reason!r}", kind="backend"
            )
        full = self.reason == "length" and 0 < self.tokens < cap
        used = (self.prompt_tokens or 0) + self.tokens
        if full or used > window or (self.prompt_tokens or 0) >= window:
            raise ProviderError(
                NAME,
                f"prompt and answer of {self.model} need more than the context window of {window} "
                "tokens; shorten the prompt or raise context_tokens",
                kind="context_too_long",
            )
        return _finish(self.reason, self.tokens, cap)


def _finish(reason: str | None, tokens: int, cap: int) -> Literal["stop", "length"]:
    """The reason given; servers before 0.1.40 gave none."""
    cut = reason == "length" or (reason is None and tokens >= cap)
    return "length" if cut else "stop"


def _options(request: Request, cap: int) -> Json:
    options = request.options
    body: Json = {
        "num_ctx": options.context_tokens,
        "num_predict": cap,
        "temperature": options.temperature,
    }
    if options.top_p is not None:
        body["top_p"] = options.top_p
    if options.seed is not None:
        body["seed"] = options.seed
    return body


def _message(message: Message) -> Json:
    body: Json = {"role": message.role, "content": message.content}
    if message.images:
        body["images"] = [_base64(image.data) for image in message.images]
    return body


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _seconds(line: Json, name: str) -> float | None:
    nanoseconds = whole(line.get(name))
    return None if nanoseconds is None else nanoseconds / 1e9
