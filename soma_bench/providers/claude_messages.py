"""The Messages API's form of one request, and the reading of its answer, whole or in events."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from anthropic import transform_schema

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import remote
from soma_bench.providers.base import refuse_what_cannot_be_honoured
from soma_bench.providers.claude_models import ClaudeModel
from soma_bench.providers.clock import Clock
from soma_bench.providers.structured import ask_for_json, only_json
from soma_bench.types import Chunk, Completion, FinishReason, Message, Request, Usage

SAMPLING_VERSION = "2023-06-01"
"""The last version of the API that takes sampling parameters."""

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "refusal": "refusal",
}

_COUNTERS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
)


class Call:
    """One request in the API's form, and its answer as it comes in."""

    def __init__(self, request: Request, model: ClaudeModel) -> None:
        refuse_what_cannot_be_honoured("claude", request, model.capabilities)
        messages = request.messages
        output: dict[str, Any] = {}
        self._structured_by: Literal["schema", "prompt"] | None = None
        if request.schema is not None:
            schema = _accepted(request.schema) if model.schema else None
            if schema is not None:
                output["format"] = {"type": "json_schema", "schema": schema}
                self._structured_by = "schema"
            else:
                messages = ask_for_json(messages, request.schema)
                self._structured_by = "prompt"
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": _cap(request, model),
            "messages": [_turn(message) for message in messages if message.role != "system"],
        }
        if system := "\n\n".join(m.content for m in messages if m.role == "system"):
            self.body["system"] = system
        if request.options.cache_prompt:
            self.body["cache_control"] = {"type": "ephemeral"}
        thinks = request.thinking not in (None, "off")
        if isinstance(request.thinking, int):
            self.body["thinking"] = {"type": "enabled", "budget_tokens": request.thinking}
        elif request.thinking == "off":
            self.body["thinking"] = {"type": model.off}
        elif request.thinking is not None:
            # Later models leave their thoughts out unless they are asked for.
            self.body["thinking"] = {"type": "adaptive", "display": "summarized"}
            output["effort"] = request.thinking
        if output:
            self.body["output_config"] = output
        if model.sampling and not thinks:
            self.headers["anthropic-version"] = SAMPLING_VERSION
            if request.options.top_p is not None:
                self.body["top_p"] = request.options.top_p
            else:
                self.body["temperature"] = min(request.options.temperature, 1.0)
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._stop_reason: object = None
        self._ended = False
        self._counted: dict[str, Any] = {}
        self._thinking_tokens: int | None = None

    def read(self, answer: Any, clock: Clock) -> Completion:
        """The completion that a whole answer, decoded from its JSON, holds.

        Raises:
            ProviderError: it holds none.
        """
        try:
            for block in answer["content"]:
                self._opened(block)
            self._stop_reason = answer.get("stop_reason")
            self._count(answer["usage"])
            self._ended = True
            return self.whole(clock)
        except (AttributeError, KeyError, TypeError):
            raise remote.malformed("claude") from None

    def hear(self, event: Any) -> Chunk | None:
        """The piece of text that an event of the stream, decoded from its JSON, brings, if it does.

        Raises:
            ProviderError: (``malformed``) it is not in the documented form.
        """
        try:
            kind = event["type"]
            if kind == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    return self._said(delta["text"])
                if delta["type"] == "thinking_delta":
                    return self._thought(delta["thinking"])
            elif kind == "content_block_start":
                return self._opened(event["content_block"])
            elif kind == "message_start":
                self._count(event["message"]["usage"])
            elif kind == "message_delta":
                self._stop_reason = event["delta"].get("stop_reason")
                self._count(event["usage"])
            elif kind == "message_stop":
                self._ended = True
        except (AttributeError, KeyError, TypeError):
            raise remote.malformed("claude") from None
        return None

    def whole(self, clock: Clock) -> Completion:
        """The completion, now that nothing more comes.

        Raises:
            ProviderError: (``ended_early``) its end mark has not come; (``context_too_long``) the
                window was full before the answer's end; (``malformed``) it ended for a reason that
                no request of ours has.
        """
        reason = self._stop_reason
        if reason is None or not self._ended:
            raise remote.ended_early("claude")
        if reason == "model_context_window_exceeded":
            raise ProviderError(
                "claude",
                "prompt and answer need more than the model's context window; shorten the prompt",
                kind="context_too_long",
            )
        if not isinstance(reason, str) or reason not in _FINISH:
            raise ProviderError(
                "claude", f"the answer ended for the reason {reason!r}", kind="malformed"
            )
        text = "".join(self._text)
        return Completion(
            text=only_json(text) if self._structured_by == "prompt" else text,
            thinking="".join(self._thinking),
            finish=_FINISH[reason],
            usage=self._usage(),
            timings=clock.timings(),
            structured_by=self._structured_by,
        )

    def _opened(self, block: Any) -> Chunk | None:
        """A block may begin with text, though the API's own begin empty."""
        if block["type"] == "text":
            return self._said(block["text"])
        if block["type"] == "thinking":
            return self._thought(block["thinking"])
        return None

    def _said(self, text: object) -> Chunk | None:
        if not text:
            return None
        if not isinstance(text, str):  # nobody else checks
            raise remote.malformed("claude")
        self._text.append(text)
        return Chunk(text=text)

    def _thought(self, text: object) -> Chunk | None:
        if not text:
            return None
        if not isinstance(text, str):
            raise remote.malformed("claude")
        self._thinking.append(text)
        return Chunk(thinking=text)

    def _count(self, usage: Any) -> None:
        """Take the counters; in a stream they come in parts, the later ones cumulative."""
        if usage is None:
            return
        for name in _COUNTERS:
            if (value := usage.get(name)) is not None:
                self._counted[name] = value
        if details := usage.get("output_tokens_details"):
            self._thinking_tokens = details.get("thinking_tokens")

    def _usage(self) -> Usage:
        counted = self._counted
        read = counted.get("cache_read_input_tokens")
        written = counted.get("cache_creation_input_tokens")
        fresh = counted.get("input_tokens")
        return Usage(
            # The API counts the tokens of a cache apart.
            prompt_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
            cached_tokens=read,
            cache_write_tokens=written,
            output_tokens=counted.get("output_tokens"),
            thinking_tokens=self._thinking_tokens,
        )


def _cap(request: Request, model: ClaudeModel) -> int:
    """``max_tokens`` for the API: the answer's, and thinking's on top.

    Raises:
        ConfigError: the model gives no answer of that length.
    """
    most = model.max_output_tokens
    cap = request.max_tokens + model.allowance(request)
    if most is None or cap <= most:
        return cap
    if isinstance(request.thinking, int) or request.max_tokens > most:
        raise ConfigError(
            f"claude: {request.model} gives at most {most} tokens, thinking included, and {cap} are "
            "asked for; lower max_tokens or the thinking budget"
        )
    return most


def _turn(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    blocks: list[dict[str, Any]] = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.media_type,
                "data": base64.b64encode(image.data).decode("ascii"),
            },
        }
        for image in message.images
    ]
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    return {"role": message.role, "content": blocks}


def _accepted(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema without the keywords that the API refuses; the SDK makes descriptions of them.

    None where it has a form that the API does not know.
    """
    try:
        return transform_schema(dict(schema))
    except (AssertionError, ValueError, TypeError, AttributeError):
        return None
