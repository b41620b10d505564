"""What two profiles do differently, in lines that a person reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile
from soma_bench.types import AGENTS, AgentName

_ROUTED = ("primary", "fallback", "privacy", "reason", "order")


def diff(a: Profile, b: Profile) -> list[str]:
    """One line for each difference; none when both say the same.

    Changed targets carry the evidence that each profile has for them. The digests are not
    compared: they differ whenever anything else does.
    """
    lines = [line for agent in AGENTS for line in _route_lines(a, b, agent)]
    left, right = _flat(a), _flat(b)
    lines += [
        f"{key}: {_shown(left.get(key))} -> {_shown(right.get(key))}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]
    return lines + _evidence_lines(a, b)


def figures(row: Evidence) -> str:
    """Quality with its interval and latency, as they stand beside a target."""
    return (
        f"quality {row.quality:.2f} [{row.quality_low:.2f}, {row.quality_high:.2f}],"
        f" p50 {row.latency_p50_s:.1f} s, p95 {row.latency_p95_s:.1f} s"
    )


def _route_lines(a: Profile, b: Profile, agent: AgentName) -> list[str]:
    lines = []
    for field in _ROUTED:
        old, new = getattr(a.routing[agent], field), getattr(b.routing[agent], field)
        is_target = field in ("primary", "fallback")
        said_old = _with_figures(a, agent, old) if is_target else _shown(old)
        said_new = _with_figures(b, agent, new) if is_target else _shown(new)
        if old != new:
            lines.append(f"{agent} {field}: {said_old} -> {said_new}")
    return lines


def _with_figures(profile: Profile, agent: AgentName, text: str | None) -> str:
    if text is None:
        return "none"
    target = str(profile.target(text))
    for row in profile.evidence:
        if row.agent == agent and row.target == target:
            return f"{text} ({figures(row)})"
    return f"{text} (no evidence)"


def _flat(profile: Profile) -> dict[str, Any]:
    """Everything but routes, evidence and the digest, by dotted path."""
    content = profile.model_dump(mode="json", exclude={"routing", "evidence"})
    del content["provenance"]["digest"]
    flat: dict[str, Any] = {}

    def visit(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                visit(f"{path}.{key}" if path else key, inner)
        else:
            flat[path] = value

    visit("", content)
    return flat


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _evidence_lines(a: Profile, b: Profile) -> list[str]:
    left = {(row.agent, row.target): row for row in a.evidence}
    right = {(row.agent, row.target): row for row in b.evidence}
    gone = len(left.keys() - right.keys())
    new = len(right.keys() - left.keys())
    changed = sum(left[key] != right[key] for key in left.keys() & right.keys())
    if not gone and not new and not changed:
        return []
    return [f"evidence: {changed} rows changed, {gone} gone, {new} new"]
