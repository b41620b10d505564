"""The Chat Completions API's form of one request, and the reading of its answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import remote
from soma_bench.providers.base import refuse_what_cannot_be_honoured
from soma_bench.providers.clock import Clock
from soma_bench.providers.openai_models import OpenAIModel
from soma_bench.providers.structured import ask_for_json, only_json
from soma_bench.types import Chunk, Completion, FinishReason, Message, Request, Usage

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "refusal",
}

_NOT_STRICT = frozenset({"minLength", "maxLength"})
"""Keywords that OpenAI's strict schemas do not have."""


class Call:
    """One request in the API's form, and its answer as it comes in."""

    def __init__(self, request: Request, model: OpenAIModel) -> None:
        refuse_what_cannot_be_honoured("openai", request, model.capabilities)
        messages = request.messages
        self._structured_by: Literal["schema", "prompt"] | None = None
        self.body: dict[str, Any] = {"model": request.model}
        cap = _cap(request, model)
        if model.compatible:
            self.body["max_tokens"] = cap
        else:
            self.body["max_completion_tokens"] = cap
            # What is sent is a patient's: it is not to be kept for distillation or evaluations.
            self.body["store"] = False
        if request.schema is not None and model.schema:
            self.body["response_format"] = _response_format(request.schema, model)
            self._structured_by = "schema"
        elif request.schema is not None:
            messages = ask_for_json(messages, request.schema)
            self._structured_by = "prompt"
        self.body["messages"] = [_turn(message) for message in messages]
        if model.thinks and request.thinking is not None:
            effort = "none" if request.thinking == "off" else request.thinking
            self.body["reasoning_effort"] = effort
        if model.samples(request):
            options = request.options
            self.body["temperature"] = options.temperature
            if options.top_p is not None:
                self.body["top_p"] = options.top_p
            if options.seed is not None:
                self.body["seed"] = options.seed
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._refusal: list[str] = []
        self._finish: str | None = None
        self._usage = Usage()
        self._measured: dict[str, float] = {}

    def read(self, answer: Any, clock: Clock) -> Completion:
        """The completion that a whole answer, decoded from its JSON, holds.

        Raises:
            ProviderError: it holds none.
        """
        try:
            choice = answer["choices"][0]
            self._take(choice["message"])
            self._finish = choice["finish_reason"]
            self._count(answer)
            return self.whole(clock)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise remote.malformed("openai") from None

    def hear(self, chunk: Any) -> Chunk | None:
        """The piece of text that a chunk of the stream, decoded from its JSON, brings, if it does.

        Raises:
            ProviderError: (``malformed``) it is not in the documented form.
        """
        try:
            piece = None
            if choices := chunk["choices"]:
                choice = choices[0]
                piece = self._take(choice["delta"])
                if (reason := choice.get("finish_reason")) is not None:
                    self._finish = _text(reason)
                    self._count(chunk)
            if chunk.get("usage") is not None:
                self._count(chunk)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise remote.malformed("openai") from None
        return piece

    def whole(self, clock: Clock) -> Completion:
        """The completion, now that nothing more comes.

        Raises:
            ProviderError: (``ended_early``) its end mark has not come; (``malformed``) it ended for
                a reason that no request of ours has.
        """
        if self._finish is None:
            raise remote.ended_early("openai")
        if self._finish not in _FINISH:
            raise ProviderError(
                "openai", f"the answer ended for the reason {self._finish!r}", kind="malformed"
            )
        text = "".join(self._text)
        return Completion(
            text="".join(self._refusal) or self._only_answer(text),
            thinking="".join(self._thinking),
            finish="refusal" if self._refusal else _FINISH[self._finish],
            usage=self._usage,
            timings=clock.timings(**self._measured),
            structured_by=self._structured_by,
        )

    def _only_answer(self, text: str) -> str:
        return only_json(text) if self._structured_by == "prompt" else text

    def _take(self, message: Any) -> Chunk | None:
        """Take the text of a message or of a piece of one."""
        content = message.get("content")
        # Where a compatible server puts the thoughts of its models.
        thoughts = message.get("reasoning_content") or message.get("reasoning")
        if refusal := message.get("refusal"):
            self._refusal.append(_text(refusal))
        if not content and not thoughts:
            return None
        if content:
            self._text.append(_text(content))
        if thoughts:
            self._thinking.append(_text(thoughts))
        return Chunk(text=content or "", thinking=thoughts or "")

    def _count(self, answer: Any) -> None:
        if isinstance(usage := answer.get("usage"), dict):
            prompt = usage.get("prompt_tokens_details") or {}
            output = usage.get("completion_tokens_details") or {}
            self._usage = Usage(
                prompt_tokens=usage.get("prompt_tokens"),
                cached_tokens=prompt.get("cached_tokens"),
                cache_write_tokens=prompt.get("cache_write_tokens"),
                output_tokens=usage.get("completion_tokens"),
                thinking_tokens=output.get("reasoning_tokens"),
            )
        # llama.cpp measures its own work.
        if isinstance(timings := answer.get("timings"), dict):
            self._measured = {
                "prefill_s": timings["prompt_ms"] / 1000,
                "decode_s": timings["predicted_ms"] / 1000,
            }


def _text(value: object) -> str:
    """A piece of text; nobody else checks that it is one."""
    if not isinstance(value, str):
        raise remote.malformed("openai")
    return value


def _cap(request: Request, model: OpenAIModel) -> int:
    """The cap on all generated tokens: the answer's, and thinking's on top.

    Raises:
        ConfigError: the model gives no answer of that length.
    """
    most = model.max_output_tokens
    if most is not None and request.max_tokens > most:
        raise ConfigError(
            f"openai: {request.model} gives at most {most} tokens, and {request.max_tokens} are "
            "asked for; lower max_tokens"
        )
    cap = request.max_tokens + model.allowance(request)
    return cap if most is None else min(cap, most)


def _turn(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = []
    if message.content:
        parts.append({"type": "text", "text": message.content})
    for image in message.images:
        data = base64.b64encode(image.data).decode("ascii")
        url = f"data:{image.media_type};base64,{data}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _response_format(schema: Mapping[str, Any], model: OpenAIModel) -> dict[str, Any]:
    strict = model.compatible or _can_be_strict(schema)
    accepted = schema if model.compatible or not strict else _without(schema, _NOT_STRICT)
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": strict, "schema": accepted},
    }


def _can_be_strict(node: Any) -> bool:
    """Whether every object of a schema is closed and needs all of its properties, as strict has it."""
    if isinstance(node, Mapping):
        if node.get("type") == "object" and (
            node.get("additionalProperties") is not False
            or set(node.get("required", ())) != set(node.get("properties", ()))
        ):
            return False
        return all(_can_be_strict(value) for value in node.values())
    if isinstance(node, list):
        return all(_can_be_strict(item) for item in node)
    return True


def _without(node: Any, keywords: frozenset[str]) -> Any:
    """A schema without some keywords; properties may be called what they like."""
    if isinstance(node, Mapping):
        return {
            key: {name: _without(sub, keywords) for name, sub in value.items()}
            if key in ("properties", "$defs")
            else _without(value, keywords)
            for key, value in node.items()
            if key not in keywords
        }
    if isinstance(node, list):
        return [_without(item, keywords) for item in node]
    return node
