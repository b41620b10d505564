"""What is doubtful about a profile, though it is valid: its evidence read against its routes.

A finding is no error: the profile loads and routes. It is what someone should know, and mend or
accept, before patients' reports depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile, Route, resolve
from soma_bench.types import AGENTS, AgentName, Target

LEAST_CASES = 20
"""Below so many cases an exact 95 % interval of a proportion is wider than 0.4."""
MOST_DAYS = 180
_SAME_MEMORY = 0.02
_GIB = 1 << 30

Rule = Literal[
    "threshold",  # the primary's own p95 is above the latency threshold
    "unmeasured",  # a target on a route has no evidence
    "synthetic",
    "simulated",
    "small",
    "old",
    "hardware",
    "digest",
    "retired",
    "overlap",  # a cheaper target may be as good
    "memory",  # the routes' models do not fit together
    "expired",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One doubt."""

    rule: Rule
    where: str
    """Path of the place in the profile."""
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a profile is held against; what is not given is not checked."""

    now: datetime
    hardware: Mapping[str, object] = field(default_factory=dict)
    """Facts of the machine that is to run it, as a run's ``provenance.hardware`` has them."""
    model_digests: Mapping[str, str | None] = field(default_factory=dict)
    """Weights that are installed now, by ``provider:model``."""
    working_set_bytes: int | None = None
    """Memory that models may take."""
    predicted_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes by ``provider:model``, for models whose memory was not measured."""
    least_cases: int = LEAST_CASES
    most_days: int = MOST_DAYS


def lint(profile: Profile, around: Surroundings) -> tuple[Finding, ...]:
    """All doubts about a profile, those about routes first, in the order of the agents."""
    routes = [resolve(profile, agent) for agent in AGENTS]
    rows = {(row.agent, row.target): row for row in profile.evidence}
    found: list[Finding] = []
    for route in routes:
        found += _of_route(profile, route, rows, around)
    found += _of_provenance(profile, routes, around)
    found += _retired(routes, around)
    found += _of_memory(profile, routes, around)
    return tuple(found)


def _of_route(
    profile: Profile,
    route: Route,
    rows: Mapping[tuple[AgentName, str], Evidence],
    around: Surroundings,
) -> Iterator[Finding]:
    for role, target in (("primary", route.primary), ("fallback", route.fallback)):
        if target is None:
            continue
        where = f"routing.{route.agent}.{role}"
        row = rows.get((route.agent, str(target)))
        if row is None:
            yield Finding("unmeasured", where, f"nothing was measured of {target}; run a sweep")
            continue
        yield from _of_evidence(row, where, around)
    primary = rows.get((route.agent, str(route.primary)))
    if primary is not None:
        yield from _threshold(profile, route, primary)
        yield from _overlap(profile, route, primary)


def _of_evidence(row: Evidence, where: str, around: Surroundings) -> Iterator[Finding]:
    if row.synthetic:
        yield Finding(
            "synthetic", where, f"{row.target}: synthetic weights prove nothing; measure a real one"
        )
    if row.cases < around.least_cases:
        yield Finding(
            "small",
            where,
            f"{row.target}: {row.cases} cases are too few, {around.least_cases} the least;"
            f" {row.metric} may be {row.quality_low:.2f} or {row.quality_high:.2f}",
        )


def _threshold(profile: Profile, route: Route, row: Evidence) -> Iterator[Finding]:
    limit_s = profile.latency_threshold_ms / 1000
    if route.fallback is None or not profile.auto_fallback or row.latency_p95_s <= limit_s:
        return
    share = "more than half of" if row.latency_p50_s > limit_s else "more than 5 in 100"
    leaks = profile.is_local(route.primary) and not profile.is_local(route.fallback)
    then = "leave this machine for" if leaks else "fall back to"
    yield Finding(
        "threshold",
        f"routing.{route.agent}.primary",
        f"{row.target} takes {row.latency_p50_s:.1f} s (p50) and {row.latency_p95_s:.1f} s (p95), "
        f"above latency_threshold_ms = {profile.latency_threshold_ms}: {share} calls {then} "
        f"{route.fallback}; raise the threshold or choose a faster target",
    )


def _overlap(profile: Profile, route: Route, primary: Evidence) -> Iterator[Finding]:
    """The best of the cheaper targets that may be as good, were it allowed on this route."""
    if primary.cost_usd is None:
        return
    cheaper = [
        row
        for row in profile.evidence
        if row.agent == route.agent
        and row.cost_usd is not None
        and row.cost_usd < primary.cost_usd
        and row.quality_high >= primary.quality_low
        and (route.privacy != "local_only" or profile.is_local(Target.parse(row.target)))
        and (profile.synthetic_evidence or not row.synthetic)
    ]
    if cheaper:
        best = max(cheaper, key=lambda row: (row.quality, row.target))
        yield Finding(
            "overlap",
            f"routing.{route.agent}.primary",
            f"{primary.target} ({_interval(primary)}, ${1000 * primary.cost_usd:.2f} per 1000) is "
            f"not surely better than {best.target} ({_interval(best)}, "
            f"${1000 * (best.cost_usd or 0):.2f}); measure more cases or take the cheaper",
        )


def _of_provenance(
    profile: Profile, routes: list[Route], around: Surroundings
) -> Iterator[Finding]:
    if profile.valid_until is not None:
        until = datetime.fromisoformat(profile.valid_until)
        if around.now >= until:
            yield Finding("expired", "valid_until", f"expired at {profile.valid_until}; sign anew")
    if not profile.evidence:
        return
    provenance = profile.provenance
    if provenance.hardware.get("simulated") is True:
        yield Finding(
            "simulated", "provenance.hardware", "the figures are simulated; measure on a machine"
        )
    yield from _age(provenance.date, around)
    yield from _hardware(provenance.hardware, around.hardware)
    targets = [target for route in routes for target in (route.primary, route.fallback) if target]
    for model in dict.fromkeys(target.whole_model for target in targets):
        then, now = provenance.model_digests.get(model), around.model_digests.get(model)
        if then is not None and now is not None and then != now:
            yield Finding(
                "digest",
                f"provenance.model_digests.{model}",
                f"{then[:19]}... was measured and {now[:19]}... is installed; measure again",
            )


def _age(text: str | None, around: Surroundings) -> Iterator[Finding]:
    if text is None:
        yield Finding("old", "provenance.date", "is missing: nobody knows how old the evidence is")
        return
    measured = datetime.fromisoformat(text)
    if measured.utcoffset() is None:
        measured = measured.replace(tzinfo=UTC)
    age = around.now - measured
    if age > timedelta(days=around.most_days):
        yield Finding(
            "old",
            "provenance.date",
            f"the evidence is {age.days} days old, {around.most_days} at most; measure again",
        )


def _hardware(then: Mapping[str, object], now: Mapping[str, object]) -> Iterator[Finding]:
    if not now:
        return
    if not then:
        yield Finding("hardware", "provenance.hardware", "nobody knows where it was measured")
    for name in ("cpu", "memory_bytes"):
        old, new = then.get(name), now.get(name)
        if old is None or new is None or old == new or _close(old, new):
            continue
        yield Finding(
            "hardware",
            f"provenance.hardware.{name}",
            f"was measured on {_shown(old)}, and this is {_shown(new)}: latency and memory differ",
        )


def _close(old: object, new: object) -> bool:
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    return numbers and abs(old - new) <= _SAME_MEMORY * max(abs(old), abs(new))  # type: ignore[operator,arg-type]


def _shown(value: object) -> str:
    return f"{value / _GIB:.0f} GiB" if isinstance(value, int) else str(value)


def _retired(routes: list[Route], around: Surroundings) -> Iterator[Finding]:
    for route in routes:
        for role, target in (("primary", route.primary), ("fallback", route.fallback)):
            if target is None or target.is_local:
                continue
            # The vendors' tables bring their libraries with them, which local targets can do without.
            from soma_bench.providers.lifecycle import retirement

            if end := retirement(target, around.now.date()):
                yield Finding("retired", f"routing.{route.agent}.{role}", str(end))


def _of_memory(profile: Profile, routes: list[Route], around: Surroundings) -> Iterator[Finding]:
    """Whether the models of all routes fit together; a fallback that must be loaded first is late."""
    room = around.working_set_bytes
    if room is None:
        return
    primaries = _sizes(profile, [route.primary for route in routes], around)
    every = _sizes(
        profile,
        [target for route in routes for target in (route.primary, route.fallback) if target],
        around,
    )
    for sizes, what in ((primaries, "the primaries"), (every, "primaries and fallbacks")):
        total = sum(size for size in sizes.values() if size is not None)
        if total > room:
            least = "at least " if None in sizes.values() else ""
            yield Finding(
                "memory",
                "routing",
                f"{what} need {least}{total / _GIB:.1f} GiB together, and models may take "
                f"{room / _GIB:.1f} GiB: they push each other out, and each change loads anew",
            )
            return


def _sizes(profile: Profile, targets: list[Target], around: Surroundings) -> dict[str, int | None]:
    """Bytes of each distinct local model; the highest that was measured, else as predicted."""
    sizes: dict[str, int | None] = {}
    for target in targets:
        if not target.is_local or not profile.is_local(target):
            continue
        name = target.whole_model
        measured = [
            row.memory_bytes
            for row in profile.evidence
            if row.memory_bytes is not None and Target.parse(row.target).whole_model == name
        ]
        sizes[name] = max(measured, default=around.predicted_memory.get(name))
    return sizes


def _interval(row: Evidence) -> str:
    return f"{row.quality:.2f} [{row.quality_low:.2f}, {row.quality_high:.2f}]"
