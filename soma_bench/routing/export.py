"""Writing a profile in the forms that others load: JSON, modules for Node, a ``.env`` file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from soma_bench.errors import ConfigError
from soma_bench.files import read_text, write_atomically
from soma_bench.routing.export_js import export_cjs, export_js
from soma_bench.routing.profile import Profile, profile_text, resolve
from soma_bench.types import AGENTS, ProviderName

ExportFormat = Literal["json", "js", "cjs", "env"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
PREVIOUS = ".previous"
"""Ends the name of the file that holds what an export has replaced."""
VARIABLES = (
    "LLM_PRIMARY_PROVIDER",
    "LLM_FALLBACK_PROVIDER",
    "OLLAMA_BASE_URL",
    "OLLAMA_MODEL_FAST",
    "OLLAMA_MODEL_BALANCED",
    "OLLAMA_MODEL_VISION",
    "AUTO_FALLBACK",
    "LATENCY_THRESHOLD_MS",
)
"""What an exported ``.env`` file may set."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+")


def export_profile(profile: Profile, format: ExportFormat) -> str:  # noqa: A002 the word users know
    """The text of ``profile`` in a format; the same profile always gives the same text.

    ``json`` is the profile itself, ``js`` the ES module of the Node backend, ``cjs`` the same as a
    CommonJS module, ``env`` the environment variables that stand for it. None of them ever holds an
    API key.

    Raises:
        ConfigError: a value cannot be written safely in that format.
    """
    writers: dict[ExportFormat, Callable[[Profile], str]] = {
        "json": profile_text,
        "js": export_js,
        "cjs": export_cjs,
        "env": _export_env,
    }
    return writers[format](profile.sealed())


def format_of(path: Path) -> ExportFormat:
    """The format that a file's name stands for.

    Raises:
        ConfigError: it stands for none.
    """
    if path.name.startswith(".env") or path.suffix == ".env":
        return "env"
    by_suffix: dict[str, ExportFormat] = {
        ".json": "json",
        ".js": "js",
        ".mjs": "js",
        ".cjs": "cjs",
    }
    if path.suffix not in by_suffix:
        raise ConfigError(
            f"{path}: its name stands for no format; add --format {'|'.join(FORMATS)}"
        )
    return by_suffix[path.suffix]


def write_export(profile: Profile, format: ExportFormat, path: Path) -> bool:  # noqa: A002
    """Write an export in one step; what it replaces is kept beside it as ``NAME.previous``.

    Returns:
        Whether the bytes changed; where they did not, the previous version stays as it is too.

    Raises:
        ConfigError: a value cannot be written safely, or the file cannot be replaced: an ``.env``
            file that sets more than an export does, such as a key, is left alone.
    """
    text = export_profile(profile, format)
    if path.is_file():
        if format == "env":
            _check_nothing_is_lost(path)
        before = path.read_bytes()
        if before != text.encode():
            write_atomically(path.with_name(path.name + PREVIOUS), before)
    return write_atomically(path, text)


def _check_nothing_is_lost(path: Path) -> None:
    more = sorted(set(env_values(read_text(path))) - set(VARIABLES))
    if more:
        raise ConfigError(
            f"{path}: sets {', '.join(more[:5])}, which an export never does and would lose;"
            " write another file and copy its lines"
        )


def env_values(text: str) -> dict[str, str]:
    """The variables that an ``.env`` file sets, as dotenv readers read it."""
    from io import StringIO

    from dotenv import dotenv_values

    found = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value or "" for name, value in found.items()}


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
