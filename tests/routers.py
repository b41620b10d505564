"""Routers between loopback servers, for tests: a primary that breaks, and a fallback that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from routing_examples import profile_content
from servers import claude as claude_server
from servers import openai as openai_server
from servers.base import Fault, Server
from servers.claude import ClaudeServer
from servers.ollama import Model, OllamaServer
from servers.openai import OpenAIServer
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.environment import read_environment
from soma_bench.providers import Backend, Provider, create_provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.types import AGENTS, ProviderName

ALIGNMENT = AGENT_BY_NAME["alignment"]
QUESTION, ANSWER = ALIGNMENT.examples[0]
TEXT = ALIGNMENT.write(ANSWER)
"""What a healthy server answers."""

MODELS: dict[ProviderName, str] = {
    "ollama": "qwen3:8b",
    "claude": "claude-sonnet-5-5",
    "openai": "gpt-6-luna",
}
_KEYS = {"claude": claude_server.KEY, "openai": openai_server.KEY}


def answer_with(server: Server, pieces: list[str]) -> None:
    """Let a server's models say this."""
    if isinstance(server, OllamaServer):
        server.models[0].answer = tuple(pieces)
    else:
        assert isinstance(server, ClaudeServer | OpenAIServer)
        server.text = pieces


def cut_answer(server: Server) -> None:
    """Let a server end its answer for the token limit, in the middle of it."""
    answer_with(server, [TEXT[:20]])
    if isinstance(server, OllamaServer):
        server.models[0].answer = tuple(" word" for _ in range(5000))
    elif isinstance(server, ClaudeServer):
        server.stop_reason = "max_tokens"
    elif isinstance(server, OpenAIServer):
        server.finish = "length"


@contextmanager
def serving(provider: ProviderName) -> Iterator[Server]:
    """A healthy server of a provider that answers `TEXT` in pieces, its model loaded already."""
    server: Server
    if provider == "ollama":
        server = OllamaServer(Model(name=MODELS["ollama"]))
    elif provider == "claude":
        server = ClaudeServer()
    else:
        server = OpenAIServer()
    middle = len(TEXT) // 2
    answer_with(server, [TEXT[:10], TEXT[10:middle], TEXT[middle:]])
    with server:
        yield server


def profile(
    primary: str, fallback: str | None, *, privacy: str = "open", **changes: Any
) -> Profile:
    """A profile that sends every agent to the same two targets."""
    route = {"primary": primary, "fallback": fallback, "privacy": privacy, "reason": ""}
    enabled = {name: {"enabled": True} for name in MODELS}
    return Profile.model_validate(
        profile_content(
            **{
                "providers": {**enabled, "llamacpp": {"enabled": True}},
                "models": {},
                "routing": {agent: dict(route) for agent in AGENTS},
                **changes,
            }
        )
    )


@dataclass
class Addresses:
    """Where the providers find their servers."""

    by_provider: dict[ProviderName, str]

    def make(self, name: ProviderName) -> Provider:
        url = self.by_provider[name]
        key = _KEYS.get(name)
        return create_provider(name, Backend(base_url=url, api_key=SecretStr(key) if key else None))


def address(server: Server) -> str:
    return server.base_url if isinstance(server, OpenAIServer) else server.url


def target(provider: ProviderName) -> str:
    return f"{provider}:{MODELS[provider]}"


def router_for(chosen: Profile, pool: ProviderPool, **changes: Any) -> Router:
    """A router that no variable of whoever runs the tests reaches."""
    bare = read_environment(None).model_copy(
        update={
            "primary_provider": None,
            "fallback_provider": None,
            "ollama_base_url": None,
            "auto_fallback": None,
            "latency_threshold_ms": None,
        }
    )
    return Router(chosen, pool, **{"environment": bare, "retry_s": 0.02, "load_s": 0.0, **changes})


@dataclass(frozen=True)
class Trouble:
    """A kind of fault, and what an attempt says of it."""

    name: str
    kinds: str
    """Outcomes that are right, divided by ``|``."""
    arrange: Callable[[Server], None]


def _fault(**changes: Any) -> Callable[[Server], None]:
    def arrange(server: Server) -> None:
        server.fault = Fault(**changes)

    return arrange


def _in_the_middle(**changes: Any) -> Callable[[Server], None]:
    def arrange(server: Server) -> None:
        # Claude's stream opens with three events before its first text; the others with one or none.
        server.fault = Fault(after=4 if isinstance(server, ClaudeServer) else 2, **changes)

    return arrange


TROUBLES = (
    Trouble("refused", "not_running", lambda server: None),
    Trouble("reset", "cut_off", _fault(then="reset")),
    Trouble("401", "bad_key|backend", _fault(status=401, body=b"{}")),
    Trouble(
        "429 with Retry-After",
        "rate_limited|backend",
        _fault(status=429, body=b"{}", headers={"retry-after": "30"}),
    ),
    Trouble("429", "rate_limited|backend", _fault(status=429, body=b"{}")),
    Trouble("500", "backend", _fault(status=500, body=b"{}")),
    Trouble("503", "overloaded", _fault(status=503, body=b"{}")),
    Trouble("hang before headers", "timeout", _fault(then="hang")),
    Trouble("hang after the first token", "timeout", _in_the_middle(then="hang")),
    Trouble("slow to begin", "timeout", _fault(delay_s=2.0)),
    # What comes whole cannot drip.
    Trouble("slow drip", "timeout|answered", _fault(drip_s=0.15)),
    Trouble("cut mid-stream", "cut_off", _in_the_middle(then="reset")),
    Trouble("clean early end", "ended_early", _in_the_middle(then="end")),
    Trouble("malformed JSON", "malformed", _fault(then="garbage")),
    Trouble("malformed event", "malformed", _in_the_middle(then="garbage")),
    Trouble("in-band error", "backend|overloaded|answered", _in_the_middle(then="error")),
    Trouble("empty answer", "answer", lambda server: answer_with(server, [""])),
    Trouble("truncated by length", "answer", cut_answer),
)
"""The faults that a primary is put to, each with a healthy fallback behind it."""
