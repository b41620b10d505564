"""Evidence in whole units.

Sums must compare exactly, so every figure is a whole number here: quality in millionths, latency
in microseconds, prices in billionths of a dollar, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from soma_bench.errors import ConfigError
from soma_bench.providers.places import is_cloud_tag
from soma_bench.routing.constraints import Apart, Constraints, Percentile
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, Target

QUALITY_UNITS = 1_000_000
LATENCY_UNITS = 1_000_000
COST_UNITS = 1_000_000_000
ROUNDING = 2 * len(AGENTS)
"""Sums over the agents that differ by no more units than this are equal: each figure in them (a
stage's, its load's, its fallback's) may be off by half a unit. It is 0.00001 of quality,
10 microseconds, 1e-8 dollars."""

_MAX_LATENCY_S = 86_400.0
_MAX_COST_USD = 1e6
_MAX_MEMORY_BYTES = 1 << 50
_REMEMBERED = 8
"""Readings that are remembered: a question about the same evidence often follows another."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One row of evidence in whole units."""

    row: Evidence
    model: str
    """``provider:model``: what is resident in memory, and what fails as one."""
    is_local: bool
    quality: int
    latency: int
    """At the percentile that the constraints name."""
    cost: int | None
    domain: str
    """What fails as one, as far as the constraints tell fallbacks apart."""
    failures: Fraction
    """Share of calls that end on the fallback."""

    def surcharge(self, fallback: Candidate) -> int:
        """What ``fallback`` adds to the price of an analysis whose primary this is."""
        return self.failures_of(fallback.cost or 0)

    def failures_of(self, price: int) -> int:
        """A price, as often as this primary fails."""
        return round(self.failures * price) if price else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """All candidates of a table of evidence, and what their models take."""

    candidates: Mapping[AgentName, tuple[Candidate, ...]]
    """By agent, sorted by the target's text."""
    memory: Mapping[str, int | None]
    """Bytes by model with its cache: the most that any of its rows measured; 0 for a cloud model."""
    load: Mapping[str, int | None]
    """Microseconds that a model takes to load: the most measured; 0 for a cloud model."""


class _Rows:
    """Evidence compared by the identity of its rows, which never change."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self.evidence = tuple(evidence)
        self._identity = tuple(map(id, self.evidence))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def read_candidates(evidence: Sequence[Evidence], constraints: Constraints) -> Read:
    """Turn evidence into candidates; the same rows under like constraints give the same ones again.

    Raises:
        ConfigError: an agent has no evidence, a row stands twice, or a figure is absurd.
    """
    return _read(
        _Rows(evidence), constraints.latency, constraints.fallback_apart, constraints.fallback_rate
    )


@lru_cache(_REMEMBERED)
def _read(rows: _Rows, percentile: Percentile, apart: Apart, rate: float | None) -> Read:
    found: dict[AgentName, dict[str, Candidate]] = {agent: {} for agent in AGENTS}
    memory: dict[str, int | None] = {}
    caches: dict[str, int | None] = {}
    load: dict[str, int | None] = {}
    for row in rows.evidence:
        candidate = _candidate(row, percentile, apart, rate)
        if row.target in found[row.agent]:
            raise ConfigError(f"evidence: {row.target} stands twice for {row.agent}")
        found[row.agent][row.target] = candidate
        seconds = None if row.load_s is None else round(row.load_s * LATENCY_UNITS)
        for figures, said in ((memory, row.memory_bytes), (caches, row.kv_bytes), (load, seconds)):
            figure = said if candidate.is_local else 0
            known = figures.get(candidate.model)
            figures[candidate.model] = known if figure is None else max(figure, known or 0)
    missing = [agent for agent in AGENTS if not found[agent]]
    if missing:
        raise ConfigError(f"evidence: nothing was measured for {', '.join(missing)}")
    return Read(
        candidates={
            agent: tuple(_unflattered([group[target] for target in sorted(group)]))
            for agent, group in found.items()
        },
        memory={
            model: None if size is None else size + (caches[model] or 0)
            for model, size in memory.items()
        },
        load=load,
    )


def floor_figure(row: Evidence, constraints: Constraints) -> float:
    """The figure of ``row`` that a quality floor is compared with."""
    return row.quality_low if constraints.floor_on == "low" else row.quality


def _unflattered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Rank targets that a race did not pick just below the one it picked.

    Only the pick's score was taken anew, on held-out cases. The scores of the others are those that
    they raced by, the best of which were in part lucky: they must not beat it by that luck, and are
    still there where the pick does not fit.
    """
    confirmed = [c.quality for c in candidates if c.row.selection == "held_out"]
    if not confirmed:
        return list(candidates)
    most = max(0, max(confirmed) - ROUNDING - 1)
    return [
        c if c.row.selection == "held_out" else replace(c, quality=min(c.quality, most))
        for c in candidates
    ]


def _candidate(
    row: Evidence, percentile: Percentile, apart: Apart, rate: float | None
) -> Candidate:
    for figure, limit, what in (
        (row.latency_p95_s, _MAX_LATENCY_S, "latency_p95_s"),
        (row.cost_usd, _MAX_COST_USD, "cost_usd"),
        (row.memory_bytes, _MAX_MEMORY_BYTES, "memory_bytes"),
        (row.kv_bytes, _MAX_MEMORY_BYTES, "kv_bytes"),
        (row.load_s, _MAX_LATENCY_S, "load_s"),
    ):
        if figure is not None and figure > limit:
            raise ConfigError(
                f"evidence: {what} of {row.target} for {row.agent} is {figure:g},"
                f" above {limit:g}: that cannot be a measurement"
            )
    place = _place(row.target)
    latency = row.latency_p50_s if percentile == "p50" else row.latency_p95_s
    own = "this machine" if apart == "machine" else place.provider
    return Candidate(
        row=row,
        model=place.model,
        is_local=place.is_local,
        quality=round(row.quality * QUALITY_UNITS),
        latency=round(latency * LATENCY_UNITS),
        cost=None if row.cost_usd is None else round(row.cost_usd * COST_UNITS),
        domain=own if place.is_local else f"cloud of {place.provider}",
        failures=_share(row.failures if rate is None else rate),
    )


class _Place(NamedTuple):
    provider: str
    model: str
    is_local: bool


@lru_cache(4096)
def _place(target: str) -> _Place:
    """Where a target runs, remembered: the same evidence is read for each question."""
    parsed = Target.parse(target)
    is_local = parsed.is_local and not is_cloud_tag(parsed.model)
    return _Place(parsed.provider, parsed.whole_model, is_local)


_share = lru_cache(4096)(Fraction)
