"""A routing profile from a solution, with the reason for each route in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from pydantic import ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.optimize.solution import Choice, Solution
from soma_bench.routing.backends import Providers
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import SCHEMA_VERSION, AgentRouting, Profile, Provenance
from soma_bench.types import AGENTS, PROVIDERS, ProviderName, Target

_MAX_REASON = 500


def build_profile(
    solution: Solution,
    *,
    name: str,
    evidence: Sequence[Evidence],
    provenance: Provenance,
) -> Profile:
    """The profile that routes as ``solution`` says.

    Args:
        solution: what `optimize` found.
        name: the profile's name.
        evidence: all rows that were chosen from; the profile carries them as its proof, those of
            synthetic weights only where the constraints allow them.
        provenance: where the rows come from.

    Raises:
        ConfigError: the name does not fit a profile.
    """
    allowed = solution.constraints.allow_synthetic
    rows = sorted(
        (row for row in evidence if allowed or not row.synthetic),
        key=lambda row: (AGENTS.index(row.agent), row.target),
    )
    choices = solution.plan.choices
    used = {
        Target.parse(row.target).provider
        for choice in choices
        for row in (choice.primary, choice.fallback)
        if row is not None
    }
    routing = {
        choice.agent: AgentRouting(
            primary=choice.primary.target,
            fallback=None if choice.fallback is None else choice.fallback.target,
            privacy=solution.constraints.privacy_of(choice.agent),
            reason=route_reason(choice, rows),
        )
        for choice in choices
    }
    try:
        return Profile(
            schema_version=SCHEMA_VERSION,
            name=name,
            providers=_enabling(used),
            routing=routing,
            pipeline=solution.pipeline,
            objective=solution.objective,
            constraints=solution.constraints,
            evidence=tuple(rows),
            synthetic_evidence=any(row.synthetic for row in rows),
            provenance=provenance,
        )
    except ValidationError as error:
        problem = first_problem(error).removeprefix("the whole: ")
        raise ConfigError(f"profile {name!r}: {problem}") from error


def _enabling(used: set[ProviderName]) -> Providers:
    providers = Providers()
    return providers.model_copy(
        update={
            provider: getattr(providers, provider).model_copy(update={"enabled": True})
            for provider in PROVIDERS
            if provider in used
        }
    )


def route_reason(choice: Choice, evidence: Sequence[Evidence]) -> str:
    """Why a route is as it is, in figures of the evidence and nothing else."""
    rows = [row for row in evidence if row.agent == choice.agent]
    primary = choice.primary
    better = [row for row in rows if row.quality > primary.quality]
    equal = sum(row.quality == primary.quality for row in rows) - 1
    place = f"of {len(rows)} targets" if len(rows) > 1 else "of the only target"
    if better:
        best = max(better, key=lambda row: (row.quality, row.target))
        have = "has" if len(better) == 1 else "have"
        standing = f"{_quality(primary)}, {len(better)} {place} {have} more ({_brief(best)})"
    else:
        shared = f", shared with {equal}" if equal else ""
        standing = f"best mean {_quality(primary)} {place}{shared}"
    parts = [f"{standing}, p50 {primary.latency_p50_s:.1f} s"]
    if primary.synthetic:
        parts.append("synthetic weights")
    if choice.fallback is not None:
        synthetic = " on synthetic weights" if choice.fallback.synthetic else ""
        parts.append(f"fallback {_brief(choice.fallback)}{synthetic}")
    return shorten("; ".join(parts), _MAX_REASON, placeholder=" ...")


def _quality(row: Evidence) -> str:
    return f"{row.metric} {row.quality:.2f} [{row.quality_low:.2f}, {row.quality_high:.2f}]"


def _brief(row: Evidence) -> str:
    return f"{row.target} {row.quality:.2f}"
