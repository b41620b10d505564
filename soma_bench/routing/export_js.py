"""The module that the Node backend loads; `llm_config.mjs` beside it is the template of both kinds."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from soma_bench.routing.profile import Profile
from soma_bench.types import AGENTS, PROVIDERS, AgentName, Target

_NAMES: dict[AgentName, str] = {
    "alignment": "alignment",
    "radiologist": "radiologist",
    "pathologist": "pathologist",
    "report_writer": "reportWriter",
    "qc_reviewer": "qcReviewer",
}

# What the backend does between targets; no profile has a reason to differ.
_MAX_RETRIES = 1
_RETRY_DELAY_MS = 1000
_CLOUD_LATENCY_THRESHOLD_MS = 60_000

_ES_EXPORTS = """\
export { LLMConfig, getAgentConfig, isProviderEnabled };
export default LLMConfig;"""
# Written so that Node finds the names for an `import` of this module too.
_COMMONJS_EXPORTS = """\
module.exports = { LLMConfig, getAgentConfig, isProviderEnabled, ...LLMConfig, default: LLMConfig };"""
_OPENING, _CLOSING = "const PROFILE = ", ";\n"


def export_js(profile: Profile) -> str:
    """The profile as an ES module with a default export, also named ``LLMConfig``.

    Args:
        profile: a sealed profile.
    """
    return _module(profile, "", _ES_EXPORTS)


def export_cjs(profile: Profile) -> str:
    """The same as a CommonJS module, whose exports are the configuration and its named parts.

    Args:
        profile: a sealed profile.
    """
    return _module(profile, "'use strict';\n", _COMMONJS_EXPORTS)


def content_of(module: str) -> Any:
    """What an exported module holds of its profile; None where the text is no such module."""
    _, opening, rest = module.partition(_OPENING)
    try:
        content, end = json.JSONDecoder().raw_decode(rest)
    except ValueError:
        return None
    return content if opening and rest.startswith(_CLOSING, end) else None


def _module(profile: Profile, opening: str, exports: str) -> str:
    template = resources.files("soma_bench.routing").joinpath("llm_config.mjs").read_text("utf-8")
    _, _, rest = template.partition("/* @HEADER@ */\n")
    middle, _, rest = rest.partition("/* @PROFILE@ */ null")
    body, _, end = rest.partition("/* @EXPORTS@ */")
    content = _literal(_content(profile))
    return f"{_header(profile)}\n{opening}{middle}{content}{body}{exports}{end}"


def _literal(value: Any) -> str:
    """A JavaScript literal in ASCII: U+2028, quotes and the like cannot end a string or a comment."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def _header(profile: Profile) -> str:
    provenance = profile.provenance
    runs = ", ".join(provenance.run_ids) or "none"
    lines = [
        f"SOMA routing profile {profile.name}, digest {provenance.digest}",
        f"Measured in runs {json.dumps(runs)}, {provenance.date or 'no date'}",
    ]
    if profile.signature is not None:
        lines.append(f"Signed with {profile.signature.key}, valid until {profile.valid_until}")
    if profile.synthetic_evidence:
        lines.append("FOR TESTS ONLY: its evidence holds synthetic weights, which prove nothing")
    return "\n".join(f"// {line}" for line in lines)


def _content(profile: Profile) -> dict[str, Any]:
    return {
        "providers": _providers(profile),
        "aliases": {provider: profile.models.get(provider, {}) for provider in PROVIDERS},
        "trustedHosts": list(profile.trusted_hosts),
        "routing": {
            _NAMES[agent]: {
                "primary": _target(profile.routing[agent].primary),
                "fallback": _target(profile.routing[agent].fallback),
                "privacy": profile.routing[agent].privacy,
                "reason": profile.routing[agent].reason,
            }
            for agent in AGENTS
        },
        "autoFallback": profile.auto_fallback,
        "latencyThreshold": profile.latency_threshold_ms,
        "fallback": {"maxRetries": _MAX_RETRIES, "retryDelay": _RETRY_DELAY_MS},
        "cloudLatencyThreshold": max(_CLOUD_LATENCY_THRESHOLD_MS, profile.latency_threshold_ms),
    }


def _providers(profile: Profile) -> dict[str, Any]:
    settings = profile.providers
    options = {
        "temperature": settings.ollama.options.temperature,
        "top_p": settings.ollama.options.top_p,
        "seed": settings.ollama.options.seed,
        "num_ctx": settings.ollama.options.context_tokens,
    }
    return {
        "ollama": {
            "enabled": settings.ollama.enabled,
            "baseUrl": settings.ollama.base_url,
            "model": settings.ollama.model or profile.models.get("ollama", {}).get("balanced"),
            "timeout": _milliseconds(settings.ollama.timeout_s),
            "options": {name: value for name, value in options.items() if value is not None},
        },
        "claude": {
            "enabled": settings.claude.enabled,
            "model": settings.claude.model,
            "timeout": _milliseconds(settings.claude.timeout_s),
        },
        "openai": {
            "enabled": settings.openai.enabled,
            "model": settings.openai.model,
            "timeout": _milliseconds(settings.openai.timeout_s),
        },
        "llamacpp": settings.llamacpp.model_dump(),
        "mlx": settings.mlx.model_dump(),
    }


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _target(text: str | None) -> dict[str, Any] | None:
    """A target as written; the module resolves aliases itself, since the environment may change them."""
    if text is None:
        return None
    target = Target.parse(text)
    return {"provider": target.provider, "name": target.model, "thinking": target.thinking}
