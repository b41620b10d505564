"""A loopback server that speaks the Messages API as Anthropic documents it.

What it copies: ``Authorization: Bearer`` (or ``x-api-key``) and ``anthropic-version``; requests held
to the SDK's own parameter types and to no other field; per model the thinking types that are taken,
``budget_tokens`` from 1024 and below ``max_tokens``; sampling parameters refused since version
2026-10-21 and taken before it by models up to 4.6; JSON Schemas refused with the keywords that
structured outputs do not have; errors as ``{"type": "error", "error": {"type", "message"},
"request_id"}``; streams as named server-sent events from ``message_start`` to ``message_stop``,
with pings, cumulative usage in ``message_delta``, and errors in the middle as ``event: error``
under status 200; models with ``capabilities`` at ``/v1/models``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, get_type_hints

from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import TypeAdapter, ValidationError

from servers.base import Recorded, Reply, Server

KEY = "sk-ant-canary-0123456789abcdef"
SAMPLING = frozenset({"temperature", "top_p", "top_k"})
UNSUPPORTED = frozenset(
    {"minimum", "maximum", "minLength", "maxLength", "maxItems", "pattern", "multipleOf"}
)
_FIELDS = frozenset(get_type_hints(MessageCreateParamsStreaming))
_WHOLE = TypeAdapter(MessageCreateParamsNonStreaming)
_STREAM = TypeAdapter(MessageCreateParamsStreaming)

THINKING = {
    "claude-sonnet-5-5": ("adaptive", "between_tools"),
    "claude-opus-5-5": ("adaptive",),
    "claude-opus-4-8": ("adaptive", "disabled"),
    "claude-sonnet-4-6": ("adaptive", "disabled", "enabled"),
    "claude-haiku-4-5": ("enabled", "disabled"),
    "claude-blind-9": ("adaptive", "disabled"),
}
"""The thinking types that each model takes."""
OLD = ("claude-haiku-4-5", "claude-sonnet-4-6")
"""Models that take sampling parameters by the API's version of 2023."""


class ClaudeServer(Server):
    """Answers ``text`` to every good request; ``fault`` breaks the answers to messages."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ["The nodule ", "is on ", "the left."]
        self.thoughts = ["Which ", "side? "]
        self.stop_reason: str | None = "end_turn"
        self.usage: dict[str, Any] = {
            "input_tokens": 11,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 3,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4},
        }
        self.has_models = True
        """Whether the models' endpoints are there; compatible servers have none."""

    async def answer(self, request: Recorded, reply: Reply) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            await self._refuse(reply, 401, "authentication_error", "invalid x-api-key")
        elif request.path.startswith("/v1/models") and self.has_models:
            await self._models(request, reply)
        elif request.path == "/v1/messages" and request.method == "POST":
            await self._message(request, reply)
        else:
            await self._refuse(reply, 404, "not_found_error", "Not found")

    async def _models(self, request: Recorded, reply: Reply) -> None:
        if request.path == "/v1/models":
            data = [model_info(name) for name in THINKING]
            await reply.json({"data": data, "has_more": False, "first_id": None, "last_id": None})
        elif (name := request.path.removeprefix("/v1/models/")) in THINKING:
            await reply.json(model_info(name))
        else:
            await self._refuse(reply, 404, "not_found_error", f"model: {name}")

    async def _message(self, request: Recorded, reply: Reply) -> None:
        body = request.json()
        if body.get("model") not in THINKING:
            await self._refuse(reply, 404, "not_found_error", f"model: {body.get('model')}")
            return
        wrong = what_is_wrong(body, request.headers.get("anthropic-version", ""))
        if wrong:
            await self._refuse(reply, 400, "invalid_request_error", wrong)
            return
        thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        thoughts = self.thoughts if thinks else []
        if body.get("stream"):
            error = sse("error", error_body("overloaded_error", "Overloaded"))
            pieces = self.events(body["model"], thoughts)
            if self.fault and self.fault.then == "garbage":
                pieces.insert(self.fault.after, b'event: content_block_delta\ndata: {"type": "\n\n')
                self.fault = None
            await reply.pieces(
                pieces,
                content_type="text/event-stream",
                fault=self.fault,
                error=error,
            )
            return
        stop = None if self.fault and self.fault.then == "end" else self.stop_reason
        content: list[dict[str, Any]] = []
        if thoughts:
            content.append({"type": "thinking", "thinking": "".join(thoughts), "signature": "s"})
        content.append({"type": "text", "text": "".join(self.text), "citations": None})
        await reply.json(
            message(body["model"], content, stop, self.usage),
            headers={"request-id": "req_1"},
            fault=self.fault,
        )

    def events(self, model: str, thoughts: list[str]) -> list[bytes]:
        """The stream of one answer, an event a piece."""
        begun = {**self.usage, "output_tokens": 1, "output_tokens_details": None}
        start = message(model, [], None, begun)
        pieces = [sse("message_start", {"type": "message_start", "message": start})]
        pieces.append(sse("ping", {"type": "ping"}))
        index = 0
        for kind, texts in (("thinking", thoughts), ("text", self.text)):
            if kind == "thinking" and not thoughts:
                continue
            block = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
            pieces.append(_event("content_block_start", index=index, content_block=block))
            pieces += [
                _event("content_block_delta", index=index, delta={"type": f"{kind}_delta", kind: t})
                for t in texts
            ]
            pieces.append(_event("content_block_stop", index=index))
            index += 1
        ended = {"stop_reason": self.stop_reason, "stop_sequence": None}
        pieces.append(_event("message_delta", delta=ended, usage=self.usage))
        pieces.append(_event("message_stop"))
        return pieces

    async def _refuse(self, reply: Reply, status: int, kind: str, words: str) -> None:
        await reply.json(error_body(kind, words), status=status, headers={"request-id": "req_1"})


def error_body(kind: str, words: str) -> dict[str, Any]:
    """An error in the API's form."""
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}


def sse(event: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def _event(kind: str, **data: Any) -> bytes:
    return sse(kind, {"type": kind, **data})


def message(
    model: str, content: list[dict[str, Any]], stop: str | None, usage: dict[str, Any]
) -> dict[str, Any]:
    """A message in the API's form."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def model_info(name: str) -> dict[str, Any]:
    """A model as ``/v1/models`` lists it."""
    types = THINKING[name]
    effort = "adaptive" in types

    def can(yes: bool) -> dict[str, bool]:
        return {"supported": yes}

    levels = {level: can(effort) for level in ("low", "medium", "high", "max")}
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000 if name == "claude-haiku-4-5" else 1_000_000,
        "max_tokens": 64_000 if name in OLD else 128_000,
        "capabilities": {
            "batch": can(True),
            "citations": can(True),
            "code_execution": can(False),
            "context_management": can(True),
            "effort": {**can(effort), **levels, "xhigh": None},
            "image_input": can(name != "claude-blind-9"),
            "pdf_input": can(True),
            "server_tools": {**can(False), "code_execution": can(False), "web_search": can(False)},
            "structured_outputs": can(name != "claude-blind-9"),
            "thinking": {
                **can(True),
                "types": {
                    kind: can(kind in types)
                    for kind in ("adaptive", "between_tools", "disabled", "enabled")
                },
            },
        },
    }


def what_is_wrong(body: dict[str, Any], version: str) -> str | None:
    """What the API would refuse a request for; None where it takes it."""
    model = body["model"]
    sampling = SAMPLING & set(body)
    if sampling and (version != "2023-06-01" or model not in OLD):
        return f"{min(sampling)}: no longer supported"
    if {"temperature", "top_p"} <= sampling:
        return "temperature and top_p cannot both be specified for this model"
    if unknown := set(body) - _FIELDS - SAMPLING:
        return f"{min(unknown)}: Extra inputs are not permitted"
    plain = {name: value for name, value in body.items() if name not in SAMPLING}
    try:
        checked = (_STREAM if body.get("stream") else _WHOLE).validate_python(plain, strict=True)
        # Iterables are checked as they are read.
        for turn in checked["messages"]:
            if not isinstance(turn["content"], str):
                list(turn["content"])
    except ValidationError as error:
        return str(error)
    return _wrong_thinking(body, bool(sampling)) or _wrong_schema(body)


def _wrong_thinking(body: dict[str, Any], samples: bool) -> str | None:
    thinking = body.get("thinking")
    if thinking is None:
        return None
    kind = thinking["type"]
    if kind not in THINKING[body["model"]]:
        return f"thinking.type: {kind} is not supported by this model"
    if set(thinking) - {"type", "budget_tokens", "display"}:
        return "thinking: Extra inputs are not permitted"
    if kind == "enabled" and not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
        return "thinking.budget_tokens: must be at least 1024 and less than max_tokens"
    if samples and kind in ("enabled", "adaptive") and body.get("temperature", 1) != 1:
        return "temperature may only be set to 1 when thinking is enabled"
    return None


def _wrong_schema(body: dict[str, Any]) -> str | None:
    schema = body.get("output_config", {}).get("format", {}).get("schema")

    def walk(node: Any) -> str | None:
        if isinstance(node, list):
            return next(filter(None, map(walk, node)), None)
        if not isinstance(node, dict):
            return None
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            return "output_config.format.schema: additionalProperties must be false"
        if found := UNSUPPORTED & set(node):
            return f"output_config.format.schema: {min(found)} is not supported"
        return next(filter(None, map(walk, node.values())), None)

    return walk(schema)


def main() -> None:
    """Serve on its own until standard input ends, for benchmarks; the address is printed first."""
    with ClaudeServer() as server:
        server.record = False
        server.text = ["word "] * 200
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
