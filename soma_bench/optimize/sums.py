"""The front where all figures are plain sums: put together agent by agent, in arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soma_bench.optimize.candidates import QUALITY_UNITS, Candidate
from soma_bench.optimize.figures import Flags, Whole
from soma_bench.optimize.model import Picks
from soma_bench.optimize.problem import Problem
from soma_bench.optimize.residency import READERS
from soma_bench.types import AGENTS, AgentName

_LATENCY, _PRICE = 1, 2
_BLOCK = 256
"""Rows compared with one another at once."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Partial assignments, one a row."""

    figures: Whole
    """Quality lost, latency and price so far."""
    models: Flags
    """Which models are in memory, where there is a limit on that."""
    picks: Whole
    """Index of each agent's primary, in the order in which agents are put together."""

    def __len__(self) -> int:
        return len(self.figures)

    def take(self, rows: Any) -> _Sums:
        return _Sums(self.figures[rows], self.models[rows], self.picks[rows])


def undominated_sums(problem: Problem) -> Iterator[tuple[Picks, int]]:
    """Primaries that hold the limits and that no others beat, with their latency in microseconds.

    Args:
        problem: one without required fallbacks and without swapping.
    """
    groups = [(agent, _options(problem, agent)) for agent in AGENTS]
    if problem.table.pipeline == "parallel":
        groups.sort(key=lambda group: group[0] not in READERS)
    order = [agent for agent, _ in groups]
    parts = [options for _, options in groups]
    if problem.table.pipeline == "parallel":
        parts[:2] = [_side_by_side(problem, *parts[:2])]
    parts = [_undominated(part) for part in parts]
    rest = np.zeros((len(parts) + 1, 3), dtype=np.int64)
    for place in range(len(parts) - 1, -1, -1):
        if not len(parts[place]):
            return
        rest[place] = rest[place + 1] + parts[place].figures.min(axis=0)
    sums = parts[0]
    for place, part in enumerate(parts):
        if place:
            sums = _joined(sums, part)
        sums = _within_limits(problem, sums, rest[place + 1])
        if part is parts[-1]:  # what is in memory no longer makes a difference
            sums = _Sums(sums.figures, sums.models[:, :0], sums.picks)
        sums = _undominated(sums)
    for figures, picks in zip(sums.figures, sums.picks, strict=True):
        chosen = {a: problem.primaries[a][i] for a, i in zip(order, picks, strict=True)}
        yield {agent: chosen[agent] for agent in AGENTS}, int(figures[_LATENCY])


def _options(problem: Problem, agent: AgentName) -> _Sums:
    candidates = problem.primaries[agent]
    figures = [(QUALITY_UNITS - c.quality, c.latency, c.cost or 0) for c in candidates]
    models = _models(problem)
    return _Sums(
        np.array(figures, dtype=np.int64).reshape(-1, 3),
        np.array([[c.model == m for m in models] for c in candidates], dtype=bool).reshape(
            len(candidates), len(models)
        ),
        np.arange(len(candidates))[:, None],
    )


def _models(problem: Problem) -> list[str]:
    if problem.limit("memory") is None:
        return []
    return sorted({c.model for group in problem.primaries.values() for c in group if c.is_local})


def _joined(one: _Sums, other: _Sums) -> _Sums:
    rows = np.repeat(np.arange(len(one)), len(other))
    columns = np.tile(np.arange(len(other)), len(one))
    return _Sums(
        one.figures[rows] + other.figures[columns],
        one.models[rows] | other.models[columns],
        np.concatenate([one.picks[rows], other.picks[columns]], axis=1),
    )


def _side_by_side(problem: Problem, one: _Sums, other: _Sums) -> _Sums:
    """Both readers: the slower one counts, slowed by the other where both work on this machine."""
    together = _joined(one, other)
    seconds = []
    both = np.ones(len(together), dtype=bool)
    for column, (agent, options) in enumerate(zip(READERS, (one, other), strict=True)):
        places = together.picks[:, column]
        seconds.append(options.figures[places, _LATENCY])
        both &= _local(problem.primaries[agent])[places]
    factor = problem.table.constraints.contention - 1
    slowed = [s + np.where(both, np.rint(factor * s).astype(np.int64), 0) for s in seconds]
    together.figures[:, _LATENCY] = np.maximum(*slowed)
    return together


def _local(candidates: Sequence[Candidate]) -> Flags:
    return np.array([candidate.is_local for candidate in candidates], dtype=bool)


def _within_limits(problem: Problem, sums: _Sums, rest: Whole) -> _Sums:
    """Those that can hold the limits with the least that the agents still to come add."""
    fits = np.ones(len(sums), dtype=bool)
    for column, most in ((_LATENCY, problem.limit("latency")), (_PRICE, problem.limit("cost"))):
        if most is not None:
            fits &= sums.figures[:, column] + rest[column] <= most
    most_memory = problem.limit("memory")
    if most_memory is not None:
        size = np.array([problem.table.memory[model] or 0 for model in _models(problem)])
        fits &= sums.models @ size.astype(np.int64) <= most_memory
    return sums.take(fits)


def _undominated(sums: _Sums) -> _Sums:
    """Those that no other with the same models matches or beats in everything; one of equals."""
    if not len(sums):
        return sums
    # Rows with the same models follow one another, those with the best figures first.
    packed = np.packbits(sums.models, axis=1)
    order = np.lexsort((*sums.figures.T[::-1], *packed.T))
    changes = (np.diff(packed[order].astype(np.int16), axis=0) != 0).any(axis=1)
    starts = np.flatnonzero(np.append(True, changes))
    rows = [part[_front(sums.figures[part])] for part in np.split(order, starts[1:])]
    return sums.take(np.concatenate(rows))


def _front(figures: Whole) -> NDArray[np.intp]:
    """The rows that none before them matches or beats; rows are sorted by figure after figure."""
    kept: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
    for start in range(0, len(figures), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(figures)))
        before = np.concatenate([kept, block])
        beaten = before[:, None] < block
        for column in (_LATENCY, _PRICE):
            beaten &= figures[before, column][:, None] <= figures[block, column]
        kept = np.concatenate([kept, block[~beaten.any(axis=0)]])
    return kept
