"""A loopback server that speaks the Chat Completions API as OpenAI documents it.

What it copies: ``Authorization: Bearer``; requests held to a schema that names the documented fields
and allows no other; reasoning models that refuse ``max_tokens``, sampling parameters and efforts
that they do not have; strict JSON Schemas (closed objects, all properties required, no
``maxLength``); errors as ``{"error": {"message", "type", "param", "code"}}``; streams of
``data:`` lines ended by ``[DONE]``, the usage in a last chunk without choices where it is asked for,
and errors in the middle as a ``data:`` line under status 200. With ``owner`` set it is a compatible
server, which lists its models so, answers only for them, and sends thoughts as
``reasoning_content``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from jsonschema import Draft202012Validator

from servers.base import Recorded, Reply, Server

KEY = "sk-proj-canary-0123456789abcdef"
NONE_TO_MAX = ("none", "low", "medium", "high", "xhigh", "max")
EFFORTS: dict[str, tuple[str, ...]] = {
    "gpt-6-luna": NONE_TO_MAX,
    "gpt-5.2": NONE_TO_MAX,
    "gpt-5": ("minimal", "low", "medium", "high"),
    "gpt-4o": (),
    "gpt-3.5-turbo": (),
}
"""The reasoning efforts that each model takes."""

_PART = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "type": {"const": "image_url"},
                "image_url": {
                    "type": "object",
                    "properties": {
                        "url": {"type": "string", "pattern": "^data:image/(png|jpeg);base64,."},
                        "detail": {"enum": ["auto", "low", "high"]},
                    },
                    "required": ["url"],
                    "additionalProperties": False,
                },
            },
            "required": ["type", "image_url"],
            "additionalProperties": False,
        },
    ]
}

REQUEST = Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"enum": ["system", "developer", "user", "assistant"]},
                        "content": {
                            "anyOf": [
                                {"type": "string"},
                                {"type": "array", "minItems": 1, "items": _PART},
                            ]
                        },
                    },
                    "required": ["role", "content"],
                    "additionalProperties": False,
                },
            },
            "max_tokens": {"type": "integer", "minimum": 1},
            "max_completion_tokens": {"type": "integer", "minimum": 1},
            "reasoning_effort": {"enum": [*NONE_TO_MAX, "minimal"]},
            "response_format": {
                "type": "object",
                "properties": {
                    "type": {"const": "json_schema"},
                    "json_schema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
                            "description": {"type": "string"},
                            "strict": {"type": ["boolean", "null"]},
                            "schema": {"type": "object"},
                        },
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                },
                "required": ["type", "json_schema"],
                "additionalProperties": False,
            },
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "top_p": {"type": "number", "minimum": 0, "maximum": 1},
            "seed": {"type": "integer"},
            "store": {"type": "boolean"},
            "stream": {"type": "boolean"},
            "stream_options": {
                "type": "object",
                "properties": {"include_usage": {"type": "boolean"}},
                "additionalProperties": False,
            },
        },
        "required": ["model", "messages"],
        "additionalProperties": False,
    }
)


class OpenAIServer(Server):
    """Answers ``text`` to every good request; ``fault`` breaks the answers to chats.

    Args:
        owner: who the models belong to by the list; None for OpenAI itself.
    """

    def __init__(self, owner: str | None = None) -> None:
        super().__init__()
        self.owner = owner
        self.text = ["The nodule ", "is on ", "the left."]
        self.thoughts = ["Which ", "side? "]
        self.thoughts_field = "reasoning_content"
        self.refusal: str | None = None
        self.finish: str | None = "stop"
        self.usage: dict[str, Any] | None = {
            "prompt_tokens": 19,
            "completion_tokens": 9,
            "total_tokens": 28,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 4},
        }

    @property
    def base_url(self) -> str:
        """The address as the SDK wants it."""
        return f"{self.url}/v1"

    def models(self) -> list[dict[str, Any]]:
        """The list of models."""
        if self.owner is None:
            return [
                {"id": name, "object": "model", "created": 1, "owned_by": "openai"}
                for name in EFFORTS
            ]
        entry = {"id": "qwen3-8b", "object": "model", "created": 1, "owned_by": self.owner}
        return [{**entry, "meta": {"n_ctx": 4096}} if self.owner == "llamacpp" else entry]

    async def answer(self, request: Recorded, reply: Reply) -> None:
        if self.owner is None and request.headers.get("authorization") != f"Bearer {KEY}":
            words = f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}."
            await self._refuse(reply, 401, "invalid_api_key", words)
        elif request.path == "/v1/models":
            await reply.json({"object": "list", "data": self.models()})
        elif request.path == "/v1/chat/completions" and request.method == "POST":
            await self._chat(request, reply)
        else:
            await self._refuse(reply, 404, None, "Unknown request URL")

    async def _chat(self, request: Recorded, reply: Reply) -> None:
        body = request.json()
        name = body.get("model")
        if name not in {model["id"] for model in self.models()}:
            words = f"The model `{name}` does not exist or you do not have access to it."
            await self._refuse(reply, 404, "model_not_found", words)
            return
        wrong = self.what_is_wrong(body)
        if wrong:
            await self._refuse(reply, 400, None, wrong)
            return
        if body.get("stream"):
            error = data({"error": error_of("server_overloaded", "The server is overloaded")})
            pieces = self.chunks(name, with_usage=bool(body.get("stream_options")))
            if self.fault and self.fault.then == "garbage":
                pieces.insert(self.fault.after, b'data: {"id": "\n\n')
                self.fault = None
            await reply.pieces(
                pieces,
                content_type="text/event-stream",
                fault=self.fault,
                error=error,
            )
            return
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.refusal else "".join(self.text),
            "refusal": self.refusal,
        }
        if self.owner:
            message[self.thoughts_field] = "".join(self.thoughts)
        finish = None if self.fault and self.fault.then == "end" else self.finish
        whole = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": name,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": self.usage,
        }
        await reply.json(whole, fault=self.fault)

    def chunks(self, model: str, *, with_usage: bool) -> list[bytes]:
        """The stream of one answer, a chunk a piece."""

        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
            return data({**head, "model": model, "choices": [choice], **more})

        pieces = [chunk({"role": "assistant", "content": "", "refusal": None})]
        if self.owner:
            pieces += [chunk({self.thoughts_field: text}) for text in self.thoughts]
        if self.refusal:
            pieces.append(chunk({"refusal": self.refusal}))
        else:
            pieces += [chunk({"content": text}) for text in self.text]
        pieces.append(chunk({}, self.finish))
        if with_usage:
            pieces.append(chunk({}, None, choices=[], usage=self.usage))
        pieces.append(b"data: [DONE]\n\n")
        return pieces

    def what_is_wrong(self, body: dict[str, Any]) -> str | None:
        """What the API would refuse a request for; None where it takes it."""
        for error in REQUEST.iter_errors(body):
            return f"{'.'.join(map(str, error.path)) or 'body'}: {error.message[:200]}"
        if self.owner:
            return "max_completion_tokens: unknown" if "max_completion_tokens" in body else None
        efforts = EFFORTS[body["model"]]
        effort = body.get("reasoning_effort")
        if effort is not None and effort not in efforts:
            return f"Unsupported value: 'reasoning_effort' does not support '{effort}'"
        if efforts and "max_tokens" in body:
            return "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens' instead."
        if efforts and effort != "none" and {"temperature", "top_p"} & set(body):
            return "Unsupported parameter: 'temperature' is not supported with this model."
        schema = body.get("response_format", {}).get("json_schema", {})
        return _wrong_schema(schema.get("schema")) if schema.get("strict") else None

    async def _refuse(self, reply: Reply, status: int, code: str | None, words: str) -> None:
        await reply.json({"error": error_of(code, words)}, status=status)


def error_of(code: str | None, words: str) -> dict[str, Any]:
    """An error in the API's form."""
    return {"message": words, "type": "invalid_request_error", "param": None, "code": code}


def data(value: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps(value)}\n\n".encode()


def _wrong_schema(node: Any) -> str | None:
    if isinstance(node, list):
        return next(filter(None, map(_wrong_schema, node)), None)
    if not isinstance(node, dict):
        return None
    if node.get("type") == "object" and (
        node.get("additionalProperties") is not False
        or set(node.get("required", ())) != set(node.get("properties", ()))
    ):
        return "Invalid schema for response_format 'answer': objects must be closed and complete"
    if {"minLength", "maxLength"} & set(node):
        return "Invalid schema for response_format 'answer': 'maxLength' is not permitted"
    return next(filter(None, map(_wrong_schema, node.values())), None)


def main() -> None:
    """Serve on its own until standard input ends, for benchmarks; the address is printed first."""
    with OpenAIServer() as server:
        server.record = False
        server.text = ["word "] * 200
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
