"""What this machine can run now: hardware, libraries, backends, models, and what to do next.

Nothing is loaded, pulled or changed, and no key is ever part of the report.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from soma_bench.environment import Environment, read_environment
from soma_bench.providers import Backend
from soma_bench.providers.survey import ProviderReport, survey
from soma_bench.routing.profile import Profile, load_profile, resolve
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.machine import PowerMode, power_mode
from soma_bench.sweeps.plan import load_suites
from soma_bench.sweeps.spec import load_sweep
from soma_bench.types import AGENTS, PROVIDERS, ProviderName, Target

METAL_SHARE = 0.75
"""Part of an Apple machine's memory that its GPU may use, unless it was told otherwise."""

_NODE_LIMIT_S = 2.0
_DEMO_SWEEP = "sweeps/demo.yaml"
_ROLES = ("primary", "fallback")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """A target that a profile or a sweep needs."""

    target: str
    role: str
    """What needs it, e.g. ``radiologist primary``."""
    runnable: bool
    reason: str | None
    """Why it cannot run here; None when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was found."""

    system: str
    cpu: str
    cores: int
    memory_bytes: int
    working_set_bytes: int
    """Memory that models may take: 75 % on macOS, all of it elsewhere."""
    power_mode: PowerMode | None
    libraries: Mapping[str, str]
    node: str | None
    """Version of Node.js, which checks exported modules; None where there is none."""
    keys: Mapping[str, bool]
    """Which keys are set; never what they are."""
    providers: tuple[ProviderReport, ...]
    too_large: tuple[str, ...]
    """Models that are present and whose weights alone pass the working set."""
    targets: tuple[TargetReport, ...]
    """What the profile and the sweep in question need."""
    runnable: bool
    """Whether those can run here; true where none was asked about."""
    warnings: tuple[str, ...]
    """Models that are retired, or soon will be."""
    next_steps: tuple[str, ...]
    seconds: float
    """How long the examination took."""


@dataclass(frozen=True, slots=True)
class _Need:
    """Something that needs one of its targets to run: the first, or else a fallback."""

    role: str
    targets: tuple[Target, ...]


def examine(profile_path: Path | None = None, sweep_path: Path | None = None) -> Report:
    """Look at this machine, and at whether a profile or a sweep can run on it.

    Args:
        profile_path: a routing profile, whose every agent needs a target that runs here.
        sweep_path: a sweep file, all of whose models must be here.

    Raises:
        ConfigError: the profile, the sweep, one of its suites or an environment variable is wrong.
    """
    began = time.perf_counter()
    environment = read_environment()
    profile = load_profile(profile_path) if profile_path else None
    needs = _needs_of_profile(profile) if profile else []
    needs += _needs_of_sweep(sweep_path) if sweep_path else []
    facts = describe_environment()
    memory = int(facts["hardware"]["memory_bytes"])
    room = round(memory * METAL_SHARE) if platform.system() == "Darwin" else memory
    providers = survey(_backends(environment, profile))
    too_large = tuple(
        f"{report.provider}:{model}"
        for report in providers
        for model, size in report.models.items()
        if size is not None and size > room
    )
    targets, runnable = _check(needs, providers, too_large)
    report = Report(
        system=facts["hardware"]["system"],
        cpu=facts["hardware"]["cpu"],
        cores=facts["hardware"]["cores"],
        memory_bytes=memory,
        working_set_bytes=room,
        power_mode=power_mode(),
        libraries=facts["libraries"],
        node=_node_version(),
        keys={
            "ANTHROPIC_API_KEY": environment.claude_key is not None,
            "OPENAI_API_KEY": environment.openai_key is not None,
        },
        providers=providers,
        too_large=too_large,
        targets=targets,
        runnable=runnable,
        warnings=retirement_warnings(_named_models(environment, needs)),
        next_steps=(),
        seconds=0.0,
    )
    steps = tuple(_next_steps(report))
    return replace(report, next_steps=steps, seconds=time.perf_counter() - began)


def retirement_warnings(targets: Iterable[Target], today: date | None = None) -> tuple[str, ...]:
    """One sentence for each model among ``targets`` that is retired or will be soon."""
    clouds = dict.fromkeys(target for target in targets if not target.is_local)
    if not clouds:
        return ()
    # The vendors' tables bring their libraries with them, which local targets can do without.
    from soma_bench.providers.lifecycle import retirement

    day = today or datetime.now(UTC).date()
    found = (retirement(target, day) for target in clouds)
    return tuple(dict.fromkeys(str(one) for one in found if one))


def _needs_of_profile(profile: Profile) -> list[_Need]:
    needs = []
    for agent in AGENTS:
        route = resolve(profile, agent)
        fallback = (route.fallback,) if route.fallback and profile.auto_fallback else ()
        needs.append(_Need(agent, (route.primary, *fallback)))
    return needs


def _needs_of_sweep(path: Path) -> list[_Need]:
    sweep = load_sweep(path)
    load_suites(sweep, path.parent)
    targets = [target for group in sweep.targets for target in group.targets()]
    plain = dict.fromkeys(Target(target.provider, target.model) for target in targets)
    return [_Need(f"sweep {sweep.name}", (target,)) for target in plain]


def _backends(environment: Environment, profile: Profile | None) -> dict[ProviderName, Backend]:
    ollama_url = environment.ollama_base_url
    if ollama_url is None and profile is not None:
        ollama_url = profile.providers.ollama.base_url
    special = {
        "ollama": Backend(base_url=ollama_url),
        "claude": Backend(base_url=environment.claude_base_url, api_key=environment.claude_key),
        "openai": Backend(base_url=environment.openai_base_url, api_key=environment.openai_key),
    }
    return {name: special.get(name, Backend()) for name in PROVIDERS}


def _check(
    needs: Sequence[_Need], providers: Sequence[ProviderReport], too_large: Sequence[str]
) -> tuple[tuple[TargetReport, ...], bool]:
    """What each target of the needs comes to, and whether every need has one that runs."""
    by_name = {report.provider: report for report in providers}
    targets: list[TargetReport] = []
    runnable = True
    for need in needs:
        reasons = [
            _obstacle(target, by_name[target.provider], too_large) for target in need.targets
        ]
        runnable = runnable and None in reasons
        for place, (target, reason) in enumerate(zip(need.targets, reasons, strict=True)):
            role = need.role if len(need.targets) == 1 else f"{need.role} {_ROLES[place]}"
            targets.append(
                TargetReport(target=str(target), role=role, runnable=reason is None, reason=reason)
            )
    return tuple(targets), runnable


def _obstacle(target: Target, provider: ProviderReport, too_large: Sequence[str]) -> str | None:
    """Why a target cannot run here; None when it can."""
    if not provider.usable:
        return provider.reason
    found = [name for name in provider.models if _means(target, name)]
    if not found:
        return f"{target.provider}: there is no model {target.model!r}"
    if any(f"{target.provider}:{name}" in too_large for name in found):
        return f"{target.provider}: {target.model} is larger than the memory that models may take"
    return None


def _means(target: Target, name: str) -> bool:
    """Whether a target's model is the one that its provider lists as ``name``."""
    if target.is_local:
        return name in (target.model, f"{target.model}:latest")
    # Clouds list some models by their dated names only and take the plain ones as well.
    return bool(re.fullmatch(re.escape(target.model) + r"(-\d{8}|-\d{4}-\d{2}-\d{2})?", name))


def _named_models(environment: Environment, needs: Sequence[_Need]) -> list[Target]:
    """Every model that the environment, the profile or the sweep names."""
    named = [target for need in needs for target in need.targets]
    if environment.claude_model:
        named.append(Target("claude", environment.claude_model))
    if environment.openai_model:
        named.append(Target("openai", environment.openai_model))
    return named


def _node_version() -> str | None:
    path = shutil.which("node")
    if path is None:
        return None
    try:
        told = subprocess.run(  # noqa: S603 - the program that the path names
            [path, "--version"], capture_output=True, text=True, check=False, timeout=_NODE_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def _next_steps(report: Report) -> Iterator[str]:
    """What to do, the most pressing first."""
    for target in report.targets:
        if not target.runnable:
            yield f"{target.role} needs {target.target}: {target.reason}."
    for provider in report.providers:
        # Whoever asks about a profile or a sweep need not hear of backends that it does not use.
        if not provider.usable and not report.targets:
            reason = (provider.reason or "").removeprefix(f"{provider.provider}: ")
            yield f"To use {provider.provider}: {reason}."
    for model in report.too_large:
        yield f"{model} is larger than the memory that models may take; choose a smaller quantization."
    if report.power_mode == "low":
        yield "Low power mode is on and makes every figure slow; switch it off before measuring."
    if report.node is None:
        yield "Install Node.js to check exported ES modules; nothing else needs it."
    if report.targets and report.runnable:
        yield "Everything that was asked about can run here."
    elif not report.targets and any(provider.usable for provider in report.providers):
        yield f"Measure: soma-bench sweep {_DEMO_SWEEP} --dry-run"
