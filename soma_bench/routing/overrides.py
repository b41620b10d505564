"""What the environment changes about a profile; the exported ES module does the same.

`under` puts the environment's plain values into a profile: addresses, models, thresholds. `route_of`
then moves an agent where ``LLM_PRIMARY_PROVIDER`` or ``LLM_FALLBACK_PROVIDER`` says so, and refuses
where privacy forbids it: a request is never sent elsewhere in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from soma_bench.environment import Environment
from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.providers import Backend, Provider, backend_from_environment, create_provider
from soma_bench.routing.backends import Providers
from soma_bench.routing.profile import Profile, Route, resolve
from soma_bench.types import (
    AGENTS,
    PROVIDERS,
    AgentName,
    Limits,
    PrivacyLevel,
    ProviderName,
    Target,
)

T = TypeVar("T")


def under(profile: Profile, environment: Environment) -> Profile:
    """The profile as the environment has it.

    A provider's default model (``OLLAMA_MODEL``, ``CLAUDE_MODEL``, ``OPENAI_MODEL``) is replaced in
    the routes that use it too; providers that an agent is moved to are enabled.
    """
    aliases = {provider: dict(names) for provider, names in profile.models.items()}
    for size in ("fast", "balanced", "vision"):
        model = environment.ollama_alias(size)
        if model is not None:
            aliases.setdefault("ollama", {})[size] = model
    before = {provider: default_model(profile, provider) for provider in PROVIDERS}
    given: dict[ProviderName, str | None] = {
        "ollama": environment.ollama_model,
        "claude": environment.claude_model,
        "openai": environment.openai_model,
    }
    after = {provider: given.get(provider) or before[provider] for provider in PROVIDERS}

    def moved(text: str | None) -> str | None:
        if text is None:
            return None
        target = Target.parse(text)
        default = after[target.provider]
        if target.model in aliases.get(target.provider, {}) or default is None:
            return text
        return (
            str(replace(target, model=default)) if target.model == before[target.provider] else text
        )

    return profile.model_copy(
        update={
            "providers": _providers(profile.providers, environment, after),
            "models": aliases,
            "routing": {
                agent: profile.routing[agent].model_copy(
                    update={
                        "primary": moved(profile.routing[agent].primary),
                        "fallback": moved(profile.routing[agent].fallback),
                    }
                )
                for agent in AGENTS
            },
            "auto_fallback": _first(environment.auto_fallback, profile.auto_fallback),
            "latency_threshold_ms": _first(
                environment.latency_threshold_ms, profile.latency_threshold_ms
            ),
        }
    )


def default_model(profile: Profile, provider: ProviderName) -> str | None:
    """The model that a provider is asked for where only the provider is named."""
    model: str | None = getattr(profile.providers, provider).model
    if model is None and provider == "ollama":
        return profile.models.get("ollama", {}).get("balanced")
    return model


def route_of(
    profile: Profile, environment: Environment, agent: AgentName, level: PrivacyLevel
) -> Route:
    """An agent's route.

    Args:
        profile: as `under` gives it for the same environment.
        environment: where agents are moved to.
        agent: which agent.
        level: effective privacy level of the call.

    Raises:
        PrivacyError: the environment asks for what the privacy level forbids.
        ConfigError: it names a provider for which there is no default model.
    """
    route = resolve(profile, agent)
    primary, fallback, reason = route.primary, route.fallback, route.reason
    forced = environment.primary_provider
    if forced is not None:
        variable = f"LLM_PRIMARY_PROVIDER={forced}"
        if level == "local_only" and not _stays(profile, forced):
            raise PrivacyError(
                f"{variable}: {agent} is local_only here and may not leave this machine; unset the"
                " variable, or name a local provider"
            )
        if primary.provider != forced:
            primary, fallback, reason = _default_target(profile, forced, variable), None, variable
    forced = environment.fallback_provider
    if (
        forced is not None
        and (fallback is None or fallback.provider != forced)
        and (level != "local_only" or _stays(profile, forced))
    ):
        moved = _default_target(profile, forced, f"LLM_FALLBACK_PROVIDER={forced}")
        fallback = fallback if moved == primary else moved
    for target in (primary, fallback):
        if route.privacy == "local_only" and target and not profile.is_local(target):
            raise PrivacyError(
                f"{agent} is local_only, and {target} at {profile.providers.ollama.base_url} is"
                " neither on this machine nor on a trusted host; set OLLAMA_BASE_URL to one"
            )
    return Route(
        agent=agent, primary=primary, fallback=fallback, privacy=route.privacy, reason=reason
    )


def provider_factory(
    profile: Profile, environment: Environment
) -> Callable[[ProviderName], Provider]:
    """What a `ProviderPool` makes the profile's providers with: its addresses, limits and hosts."""
    effective = under(profile, environment)

    def make(name: ProviderName) -> Provider:
        backend = backend_from_environment(name, environment)
        timeout_s: float | None = getattr(getattr(effective.providers, name), "timeout_s", None)
        limits = None if timeout_s is None else Limits(total_s=timeout_s)
        if name == "ollama":
            backend = Backend(
                base_url=effective.providers.ollama.base_url,
                trusted_hosts=frozenset(effective.trusted_hosts),
            )
        return create_provider(name, replace(backend, limits=limits))

    return make


def _stays(profile: Profile, provider: ProviderName) -> bool:
    model = default_model(profile, provider)
    return profile.is_local(Target(provider, model or "any"))


def _default_target(profile: Profile, provider: ProviderName, variable: str) -> Target:
    model = default_model(profile, provider)
    if model is None:
        remedy = "set OLLAMA_MODEL" if provider == "ollama" else "name one in the profile"
        raise ConfigError(f"{variable}: there is no default model for {provider}; {remedy}")
    return Target(provider, model)


def _providers(
    providers: Providers, environment: Environment, models: dict[ProviderName, str | None]
) -> Providers:
    forced = (environment.primary_provider, environment.fallback_provider)
    changed: dict[str, Any] = {}
    for name in PROVIDERS:
        settings = getattr(providers, name)
        update = {"enabled": settings.enabled or name in forced, "model": models[name]}
        if name == "ollama":
            update["base_url"] = _first(environment.ollama_base_url, settings.base_url)
        changed[name] = settings.model_copy(update=update)
    return providers.model_copy(update=changed)


def _first(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given
