"""The part of ``soma-bench profile`` that holds a profile against this machine."""

from __future__ import annotations

from datetime import UTC, datetime

from soma_bench.hardware import architecture, machine, memory, weights
from soma_bench.routing.lint import Surroundings
from soma_bench.routing.profile import Profile, resolve
from soma_bench.types import AGENTS, Target


def surroundings(
    profile: Profile, machine_name: str, *, least_cases: int, most_days: int
) -> Surroundings:
    """What is known of the machine and its models now; models are not loaded.

    Raises:
        ConfigError: there is no such machine, or the environment is wrong.
    """
    where = machine(machine_name)
    targets = {
        target
        for agent in AGENTS
        for target in (resolve(profile, agent).primary, resolve(profile, agent).fallback)
        if target is not None and target.is_local
    }
    here = machine_name == "here"
    return Surroundings(
        now=datetime.now(UTC),
        hardware=_this_hardware() if here else {"memory_bytes": where.memory_bytes},
        model_digests=_installed({target.provider for target in targets}) if here else {},
        working_set_bytes=where.working_set_bytes,
        predicted_memory=_predicted(targets, profile.providers.ollama.options.context_tokens),
        least_cases=least_cases,
        most_days=most_days,
    )


def _this_hardware() -> dict[str, object]:
    from soma_bench.sweeps.environment import describe_environment

    return dict(describe_environment()["hardware"])


def _installed(providers: set[str]) -> dict[str, str | None]:
    """Digests of what is installed, by ``provider:model``; a server that is away has nothing."""
    found: dict[str, str | None] = {}
    if "llamacpp" in providers:
        from soma_bench.providers.embedded import survey

        found |= {f"llamacpp:{model.name}": model.digest for model in survey()[0]}
    if "ollama" in providers:
        from soma_bench.cli.models_ollama import look

        found |= {f"ollama:{tag.name}": tag.digest for tag in look().tags}
    return found


def _predicted(targets: set[Target], context_tokens: int) -> dict[str, int]:
    sizes = {}
    for target in targets:
        shape, size = architecture(target), weights(target)
        if shape is not None and size is not None:
            need = memory(size.size_bytes, shape, context_tokens)
            sizes[target.whole_model] = need.total
    return sizes
