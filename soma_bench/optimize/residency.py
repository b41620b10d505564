"""Which models stay in memory, which are loaded for their stage, and what an analysis takes then.

In a steady stream of analyses every local model in use is either resident, which takes memory all
the time, or swapped: loaded for its stage in each analysis and unloaded after it, unless the stage
that follows uses it too (alignment follows the review of the analysis before). Beside the resident
models there must be room for what a stage loads, and for what both readers load where they run side
by side. A model whose load was not measured cannot be swapped. Loads add to their stage's latency;
``contention`` makes the readers' answers slower, not their loads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from soma_bench.optimize.candidates import LATENCY_UNITS, Candidate
from soma_bench.optimize.table import Table
from soma_bench.routing.constraints import Percentile, Pipeline, chains
from soma_bench.types import AGENTS, AgentName

READERS: tuple[AgentName, AgentName] = ("radiologist", "pathologist")
"""The two stages that run side by side in a parallel pipeline."""

State = Mapping[AgentName, Candidate]
"""What serves each stage: all primaries, or one of them on its fallback."""


def previous(pipeline: Pipeline, agent: AgentName) -> tuple[AgentName, ...]:
    """The stages right before ``agent``'s; before the first one, the last of the analysis before."""
    if pipeline == "parallel" and agent in READERS:
        return ("alignment",)
    if pipeline == "parallel" and agent == "report_writer":
        return READERS
    return (AGENTS[AGENTS.index(agent) - 1],)


def states(primaries: State, fallbacks: State) -> list[State]:
    """All primaries, then each agent that has a fallback on it."""
    degraded = [{**primaries, agent: fallback} for agent, fallback in fallbacks.items()]
    return [primaries, *degraded]


def latency_s(
    table: Table, state: State, resident: Collection[str], percentile: Percentile
) -> float:
    """Seconds that the slowest chain of stages takes."""
    side_by_side = table.pipeline == "parallel" and all(state[agent].is_local for agent in READERS)
    seconds = {}
    for agent, candidate in state.items():
        row = candidate.row
        answer = row.latency_p50_s if percentile == "p50" else row.latency_p95_s
        if side_by_side and agent in READERS:
            answer *= table.constraints.contention
        before = {state[other].model for other in previous(table.pipeline, agent)}
        stays = candidate.model in resident or candidate.model in before
        load = 0 if stays else table.load[candidate.model] or 0
        seconds[agent] = answer + load / LATENCY_UNITS
    return max(sum(seconds[agent] for agent in chain) for chain in chains(table.pipeline))


def peak_bytes(table: Table, serving: Collection[State], resident: Collection[str]) -> int | None:
    """The most that is in memory at once; None where a model's size was not measured."""
    return _Peaks(table, serving).bytes(resident)


class _Peaks:
    """What is in memory at once, for one split of the models in use or for many."""

    def __init__(self, table: Table, serving: Collection[State]) -> None:
        self._memory = table.memory
        together: list[tuple[AgentName, ...]] = [(agent,) for agent in AGENTS]
        if table.pipeline == "parallel":
            together = [READERS, *(one for one in together if one[0] not in READERS)]
        self._steps = {
            frozenset(state[agent].model for agent in agents)
            for state in serving
            for agents in together
        }
        """The models that work at the same time, each set once."""
        used = frozenset[str]().union(*self._steps)
        self._known = all(table.memory[model] is not None for model in used)

    def bytes(self, resident: Collection[str]) -> int | None:
        if not self._known:
            return None
        loaded = (
            sum(self._memory[model] or 0 for model in models if model not in resident)
            for models in self._steps
        )
        return sum(self._memory[model] or 0 for model in resident) + max(loaded)


def best_resident(table: Table, primaries: State, fallbacks: State) -> frozenset[str]:
    """The models that should stay in memory: the quickest split that holds the limits.

    Without swapping these are all in use. Of the splits that fit into memory, one that holds the
    latency limits comes first, then the lowest latency, then the lowest with a stage on its
    fallback, then the fewest swapped. Where none fits, all stay.
    """
    serving = states(primaries, fallbacks)
    used = sorted({c.model for state in serving for c in state.values() if c.is_local})
    limit = table.constraints.max_memory_bytes
    everything = frozenset(used)
    if not table.constraints.may_swap or limit is None:
        return everything

    def rank(resident: frozenset[str]) -> tuple[bool, float, float, int]:
        percentile = table.constraints.latency
        normal, *degraded = (latency_s(table, state, resident, percentile) for state in serving)
        worst = max(degraded, default=normal)
        return (breaks(table, normal, worst), round(normal, 9), round(worst, 9), -len(resident))

    peaks = _Peaks(table, serving)
    fitting = [
        resident
        for resident in _splits(table, used)
        if (peak := peaks.bytes(resident)) is not None and peak <= limit
    ]
    return min(fitting, key=rank, default=everything)


def breaks(table: Table, normal_s: float, degraded_s: float) -> bool:
    """Whether latencies pass their limits."""
    limits = table.constraints
    if limits.max_latency_s is None:
        return False
    most = limits.max_degraded_latency_s or limits.max_latency_s
    rounding = 2e-5
    return normal_s > limits.max_latency_s + rounding or degraded_s > most + rounding


def _splits(table: Table, used: list[str]) -> Iterator[frozenset[str]]:
    fixed = frozenset(model for model in used if table.load[model] is None)
    free = [model for model in used if model not in fixed]
    for count in range(len(free), -1, -1):
        for kept in combinations(free, count):
            yield fixed | frozenset(kept)
