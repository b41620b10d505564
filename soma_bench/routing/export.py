"""Writing a profile in the forms that others load: JSON, an ES module, a ``.env`` file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from soma_bench.errors import ConfigError
from soma_bench.routing.export_js import export_js
from soma_bench.routing.profile import Profile, profile_text, resolve
from soma_bench.types import AGENTS, ProviderName

ExportFormat = Literal["json", "js", "env"]

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+")


def export_profile(profile: Profile, format: ExportFormat) -> str:  # noqa: A002 the word users know
    """The text of ``profile`` in a format; the same profile always gives the same text.

    ``json`` is the profile itself, ``js`` the ES module of the Node backend, ``env`` the
    environment variables that stand for it. None of them ever holds an API key.

    Raises:
        ConfigError: a value cannot be written safely in that format.
    """
    writers: dict[ExportFormat, Callable[[Profile], str]] = {
        "json": profile_text,
        "js": export_js,
        "env": _export_env,
    }
    return writers[format](profile.sealed())


def _export_env(profile: Profile) -> str:
    """The environment of the profile.

    An environment cannot name a target for each agent. A variable that would change a route is
    left out, so that this file and the other exports can be used together.
    """
    aliases = profile.models.get("ollama", {})
    lines = [
        f"# SOMA routing profile {profile.name}, digest {profile.provenance.digest}",
        "# One target for each agent: see the json and js exports.",
        *_provider_line("LLM_PRIMARY_PROVIDER", _shared_primary(profile), "primary"),
        *_provider_line("LLM_FALLBACK_PROVIDER", _shared_fallback(profile), "fallback"),
        _line("OLLAMA_BASE_URL", profile.providers.ollama.base_url),
    ]
    for size in ("fast", "balanced", "vision"):
        name = f"OLLAMA_MODEL_{size.upper()}"
        lines.append(_line(name, aliases[size]) if size in aliases else f"# {name}=")
    lines += [
        "# Keys belong in the environment or a secret store, never in a file that is shared:",
        "# ANTHROPIC_API_KEY=",
        "# OPENAI_API_KEY=",
        _line("AUTO_FALLBACK", "true" if profile.auto_fallback else "false"),
        _line("LATENCY_THRESHOLD_MS", str(profile.latency_threshold_ms)),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, value: str) -> str:
    """``name=value`` that dotenv readers and a shell read alike: plain, or in single quotes."""
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    if "'" in value or "\\" in value or not value.isprintable():
        raise ConfigError(f"{name}: {value!r} cannot be written safely in an .env file")
    return f"{name}='{value}'"


def _provider_line(name: str, provider: ProviderName | None, role: str) -> tuple[str, ...]:
    if provider is not None:
        return (_line(name, provider),)
    return (f"# One {role} provider for all agents would change a route.", f"# {name}=")


def _shared_primary(profile: Profile) -> ProviderName | None:
    """The provider of all primaries; None where they differ."""
    providers = {resolve(profile, agent).primary.provider for agent in AGENTS}
    return providers.pop() if len(providers) == 1 else None


def _shared_fallback(profile: Profile) -> ProviderName | None:
    """The provider that can be forced on all fallbacks and changes none; None where there is none.

    A local_only agent without a fallback never gets a cloud one, so it changes nothing for it.
    """
    routes = [resolve(profile, agent) for agent in AGENTS]
    named = {route.fallback.provider for route in routes if route.fallback is not None}
    if len(named) != 1:
        return None
    provider = named.pop()
    is_cloud = provider in ("claude", "openai")
    for route in routes:
        if route.fallback is None and not (is_cloud and route.privacy == "local_only"):
            return None
    return provider
