"""An Ollama server, about version 0.33, without a model in it.

What it copies of the real server's wire behaviour: the routes below and their JSON; names without a
tag meaning ``:latest`` and matched without regard to case; NDJSON streams whose last line alone has
``done: true``, ``done_reason`` and counters in nanoseconds, zero values left out; ``load_duration``
that counts waiting in the queue too; a status of 404, 400, 499, 500 or 503 with ``{"error": ...}``
before the first line and the same object as a line under 200 after it; thinking on by default where
the model can think, and parsed out of raw answers as well unless ``think`` is false; prompts cut to
``num_ctx`` without a word; ``_debug_render_only``; pulls that report progress and say under 200 that
a name does not exist; unloading by an empty prompt with ``keep_alive`` 0.

What it makes up: a token is a word, and models answer by a script.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from servers.base import Fault, Recorded, Reply, Server

OUT_OF_MEMORY = "model requires more system memory (43.1 GiB) than is available (27.0 GiB)"
QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"
_CREATED = "2026-11-20T10:00:00.000000Z"
_MS = 1_000_000
_QWEN3_TEMPLATE = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n{{ if and $.IsThinkSet (not $.Think) }}<think>\n\n</think>\n\n{{ end }}"
)


@dataclass(slots=True, kw_only=True)
class Model:
    """A model on the server's disk, and what it says."""

    name: str
    digest: str = "500a1f067a9f782620b40bee6f7b0c89e17ae61f686b92c24933e4ca4b2b8b41"
    size: int = 5_225_388_164
    family: str = "qwen3"
    parameter_size: str = "8.2B"
    quantization: str = "Q4_K_M"
    capabilities: tuple[str, ...] = ("completion", "tools")
    context_length: int = 40_960
    template: str = _QWEN3_TEMPLATE
    remote_host: str | None = None
    remote_model: str | None = None
    thoughts: tuple[str, ...] = ("Let", " me", " look", " at", " it", ".")
    answer: tuple[str, ...] = ("No", " nodule", " seen", ".")
    load_s: float = 0.0
    """Time that loading it takes."""

    @property
    def details(self) -> dict[str, Any]:
        """As ``/api/tags``, ``/api/ps`` and ``/api/show`` have it."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }


@dataclass(slots=True)
class _Loaded:
    model: Model
    num_ctx: int


@dataclass(slots=True)
class _Generation:
    """What one run of a model gives."""

    pieces: list[tuple[str, str]] = field(default_factory=list)
    """(thinking, text) in order, one token each."""
    prompt_tokens: int = 0
    tokens: int = 0
    reason: str = "stop"


class OllamaServer(Server):
    """Serves ``models``; ``fault`` goes for chat and generate, ``side_fault`` for all else."""

    def __init__(self, *models: Model) -> None:
        super().__init__()
        self.models = list(models)
        self.loaded: dict[str, _Loaded] = {}
        self.side_fault: Fault | None = None
        self.pullable: dict[str, Model] = {}
        """What the registry has."""
        self.version = "0.33.1"
        self.renders = True
        """Whether ``_debug_render_only`` is known, as it is from 0.12 on."""
        self.queue_ns = 0
        """Waiting in the queue, which lands in ``load_duration``."""
        self.unload_after = 0
        """How many times ``/api/ps`` still lists a model after it was told to go."""
        self._leaving: dict[str, int] = {}

    async def answer(self, request: Recorded, reply: Reply) -> None:
        """Route one request."""
        path = request.path
        if path in ("/api/chat", "/api/generate"):
            await self._generate(request, reply, chat=path == "/api/chat")
        elif path == "/api/pull":
            await self._pull(request.json(), reply)
        elif path == "/api/version":
            await reply.json({"version": self.version}, fault=self.side_fault)
        elif path == "/api/tags":
            await reply.json(
                {"models": [_tag(model) for model in self.models]}, fault=self.side_fault
            )
        elif path == "/api/ps":
            await reply.json({"models": self._running()}, fault=self.side_fault)
        elif path == "/api/show":
            await self._show(request.json(), reply)
        elif path == "/":
            await reply.body(b"Ollama is running", content_type="text/plain")
        else:
            await reply.body(b"404 page not found", status=404, content_type="text/plain")

    def find(self, name: str) -> Model | None:
        """A model by name, as the server understands names."""
        full = _full(name).lower()
        return next((model for model in self.models if _full(model.name).lower() == full), None)

    async def _show(self, body: dict[str, Any], reply: Reply) -> None:
        model = self.find(body["model"])
        if model is None:
            await reply.json({"error": f"model '{body['model']}' not found"}, status=404)
            return
        shown = {
            "license": "Apache License 2.0",
            "modelfile": '# Modelfile generated by "ollama show"\n',
            "parameters": 'stop                           "<|im_end|>"',
            "template": model.template,
            "details": model.details,
            "model_info": {
                "general.architecture": model.family,
                f"{model.family}.context_length": model.context_length,
            },
            "capabilities": list(model.capabilities),
            "modified_at": _CREATED,
            **_remote(model),
        }
        await reply.json(shown, fault=self.side_fault)

    def _running(self) -> list[dict[str, Any]]:
        for name in list(self._leaving):
            self._leaving[name] -= 1
            if self._leaving[name] < 0:
                del self._leaving[name]
                self.loaded.pop(name, None)
        return [
            {
                **_tag(held.model),
                "size": held.model.size + 512 * 1024 * 1024,
                "size_vram": held.model.size,
                "context_length": held.num_ctx,
                "expires_at": "2026-11-20T10:05:00Z",
            }
            for held in self.loaded.values()
        ]

    async def _pull(self, body: dict[str, Any], reply: Reply) -> None:
        def line(value: dict[str, Any]) -> bytes:
            return json.dumps(value).encode() + b"\n"

        model = self.pullable.get(_full(body["model"]))
        lines = [line({"status": "pulling manifest"})]
        if model is None:
            lines.append(line({"error": "pull model manifest: file does not exist"}))
        else:
            digest = f"sha256:{model.digest}"
            for part in range(5):
                done = model.size * part // 4
                progress = {"status": f"pulling {model.digest[:12]}", "digest": digest}
                # Zero values are left out: the first line of a layer has no ``completed``.
                progress |= {"total": model.size} | ({"completed": done} if done else {})
                lines.append(line(progress))
            lines += [
                line({"status": "verifying sha256 digest"}),
                line({"status": "writing manifest"}),
                line({"status": "success"}),
            ]
        error = line({"error": "max retries exceeded: unexpected EOF"})
        fault = self.fault
        await reply.pieces(lines, content_type="application/x-ndjson", fault=fault, error=error)
        if model is not None and (fault is None or fault.then is None):
            self.models.append(model)

    async def _generate(self, request: Recorded, reply: Reply, *, chat: bool) -> None:
        body = request.json()
        model = self.find(body["model"])
        if model is None:
            await reply.json({"error": f"model '{body['model']}' not found"}, status=404)
            return
        thinks = "thinking" in model.capabilities
        if body.get("think") and not thinks:
            error = f'"{body["model"]}" does not support thinking'
            await reply.json({"error": error}, status=400)
            return
        empty = not body.get("messages") if chat else not body.get("prompt")
        if empty and body.get("keep_alive") == 0:
            self._leaving[model.name] = self.unload_after
            await reply.json(_line(body, chat, done=True, done_reason="unload"))
            return
        load_ns = await self._load(model, body, reply) + self.queue_ns
        if empty:
            await reply.json(_line(body, chat, done=True, done_reason="load"))
            return
        think = body.get("think", True) if thinks else False
        prompt = _render(body["messages"], think) if chat else body["prompt"]
        if body.get("_debug_render_only") and self.renders:
            info = {"rendered_template": prompt, "image_count": 0}
            await reply.json({"model": body["model"], "created_at": _CREATED, "_debug_info": info})
            return
        if body.get("truncate") is False and len(_tokens(prompt)) > _context(body):
            error = "the input length exceeds the context length"
            await reply.json({"error": error}, status=400)
            return
        made = _run(model, body, prompt, think=bool(think), raw=not chat)
        final = _line(
            body, chat, done=True, done_reason=made.reason, counters=_counters(made, load_ns)
        )
        fault = self.fault
        if body.get("stream") is False:
            thinking = "".join(piece[0] for piece in made.pieces)
            text = "".join(piece[1] for piece in made.pieces)
            whole = final | _content(chat, thinking, text)
            if fault and fault.then == "end":
                # The runner stopped without its last piece: what is sent is the piece before.
                whole = _line(body, chat, done=False) | _content(chat, thinking, text)
            if fault and fault.then == "error":
                fault = Fault(status=500, body=_error(fault))
            await reply.json(whole, fault=fault)
            return
        lines = [
            json.dumps(_line(body, chat, done=False) | _content(chat, thinking, text)).encode()
            + b"\n"
            for thinking, text in made.pieces
        ]
        lines.append(json.dumps(final).encode() + b"\n")
        error_line = _error(fault) + b"\n" if fault and fault.then == "error" else b""
        await reply.pieces(
            lines, content_type="application/x-ndjson", fault=fault, error=error_line
        )

    async def _load(self, model: Model, body: dict[str, Any], reply: Reply) -> int:
        """Load the model if it is not there with this context; nanoseconds that it took."""
        held = self.loaded.get(model.name)
        if held and held.num_ctx == _context(body):
            return 40 * _MS // 1000
        if not (self.fault and self.fault.status):
            await reply.pause(model.load_s)
            self.loaded[model.name] = _Loaded(model, _context(body))
        return int(model.load_s * 1e9) or 40 * _MS // 1000


def _full(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _tag(model: Model) -> dict[str, Any]:
    return {
        "name": _full(model.name),
        "model": _full(model.name),
        "modified_at": _CREATED,
        "size": model.size,
        "digest": model.digest,
        "details": model.details,
        **_remote(model),
    }


def _remote(model: Model) -> dict[str, str]:
    if model.remote_host is None or model.remote_model is None:
        return {}
    return {"remote_host": model.remote_host, "remote_model": model.remote_model}


def _context(body: dict[str, Any]) -> int:
    return int(body.get("options", {}).get("num_ctx", 4096))


def _render(messages: list[dict[str, Any]], think: Any) -> str:
    turns = "".join(
        f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages
    )
    closed = "" if think else "<think>\n\n</think>\n\n"
    return f"{turns}<|im_start|>assistant\n{closed}"


def _tokens(text: str) -> list[str]:
    return re.findall(r"\S+", text)


def _run(model: Model, body: dict[str, Any], prompt: str, *, think: bool, raw: bool) -> _Generation:
    """Let the model's script run on a prompt, within ``num_predict`` and ``num_ctx``."""
    options = body.get("options", {})
    stops = options.get("stop", [])
    script: list[tuple[str, str]] = []
    inside = prompt.rstrip().endswith("<think>")
    if inside or (think and not raw and "<think>" not in prompt):
        script += [(piece, "") for piece in model.thoughts]
        if "</think>" not in stops:
            # The closing tag is a token that the parser swallows.
            script += [("", "")] + [("", piece) for piece in model.answer]
        if raw and not think:
            # Nothing parses a raw answer when thinking is off.
            script = [("", thinking or text or "</think>") for thinking, text in script]
    else:
        script += [("", piece) for piece in model.answer]
    window = _context(body)
    given = min(len(_tokens(prompt)), window)
    limit = options.get("num_predict", -1)
    limit = len(script) + 1 if limit < 0 else limit
    if body.get("format") and think and not raw and any(thinking for thinking, _ in script):
        # Two completions, of which only the second one's counters are told.
        answer = [piece for piece in script if piece[1]]
        return _Generation(script, given + len(model.thoughts), len(answer) + 1)
    cut = len(script) > limit
    pieces = script[:limit]
    return _Generation(pieces, given, len(pieces), "length" if cut else "stop")


def _counters(made: _Generation, load_ns: int) -> dict[str, int]:
    counters = {
        "total_duration": load_ns + (made.tokens + 2) * 10 * _MS,
        "load_duration": load_ns,
        "prompt_eval_count": made.prompt_tokens,
        "prompt_eval_duration": 20 * _MS,
        "eval_count": made.tokens,
        "eval_duration": made.tokens * 10 * _MS,
    }
    return {name: value for name, value in counters.items() if value}


def _line(
    body: dict[str, Any],
    chat: bool,
    *,
    done: bool,
    done_reason: str | None = None,
    counters: dict[str, int] | None = None,
) -> dict[str, Any]:
    line: dict[str, Any] = {"model": body["model"], "created_at": _CREATED}
    line |= _content(chat, "", "")
    line["done"] = done
    if done_reason:
        line["done_reason"] = done_reason
    return line | (counters or {})


def _content(chat: bool, thinking: str, text: str) -> dict[str, Any]:
    thoughts = {"thinking": thinking} if thinking else {}
    if chat:
        return {"message": {"role": "assistant", "content": text, **thoughts}}
    return {"response": text, **thoughts}


def _error(fault: Fault) -> bytes:
    text = (fault.body or b"an error was encountered while running the model").decode()
    return json.dumps({"error": text}).encode()


def _serve() -> None:
    """Serve one model until stdin ends and print the URL; for benchmarks."""
    model = Model(name="qwen3:8b", answer=tuple(f" word{n}" for n in range(200)))
    with OllamaServer(model) as server:
        server.record = False
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
