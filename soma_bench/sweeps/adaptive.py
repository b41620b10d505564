"""How many calls an account or a host is given at a time.

A fixed number is the stated concurrency of a measurement. Where none is stated, the number is found:
it grows by its square root as long as calls take what they take alone, gives a quarter back when
they take longer, and is halved when a call is refused for want of room. That is additive increase
and multiplicative decrease, with the gradient of latency as a second signal, as in Netflix's
concurrency-limits library; the first calls of each kind go alone and say what "alone" means.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from soma_bench.types import Completion

ALONE = 4
"""Calls of each kind that go one at a time, to know what such a call takes."""
MOST = 64
"""Most calls at a time that are tried where nobody says how many may be."""
_WINDOW = 8
"""Fewest calls by which a number is judged."""
_GROWS_BELOW = 1.25
_SHRINKS_ABOVE = 1.6
"""Median time of a call over that of one alone: below the first there is room, above the second
there is a queue; in between the number stays."""
_GIVES_BACK = 0.75


class Concurrency(Protocol):
    """Says how many calls may be under way, and learns from those that ended."""

    def limit(self, kind: Hashable) -> int:
        """Calls that may be under way at a time once one of this kind begins; at least 1."""

    def answered(self, kind: Hashable, completion: Completion, began_s: float) -> None:
        """A call has been answered that began at ``began_s`` of the caller's clock."""

    def refused(self, began_s: float, now_s: float) -> None:
        """The backend had no room for a call that began at ``began_s``."""


class Fixed:
    """Always the same number.

    Args:
        calls: how many.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def limit(self, kind: Hashable) -> int:  # noqa: ARG002
        """The number."""
        return self._calls

    def answered(self, kind: Hashable, completion: Completion, began_s: float) -> None:
        """Nothing to learn."""

    def refused(self, began_s: float, now_s: float) -> None:
        """Nothing to learn: the lane waits as long as the backend asks."""


@dataclass(slots=True)
class _Alone:
    """What calls of one kind took one at a time."""

    first_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        return len(self.total_s) >= ALONE

    def take(self, completion: Completion) -> None:
        timings = completion.timings
        self.total_s.append(timings.total_s)
        if timings.first_token_s is not None:
            self.first_s.append(timings.first_token_s)
        token_s = timings.inter_token_s(completion.usage.output_tokens)
        if token_s is not None:
            self.token_s.append(token_s)

    def expected_s(self, completion: Completion) -> float:
        """What this answer would have taken alone: a long answer takes longer, crowded or not."""
        tokens = completion.usage.output_tokens
        if not self.first_s or not self.token_s or tokens is None:
            return median(self.total_s)
        return median(self.first_s) + median(self.token_s) * max(0, tokens - 1)


class Adaptive:
    """A number that is found while calls are made.

    Args:
        most: the number is never above it.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._limit = 1.0
        self._changed_s = -math.inf
        self._ratios: list[float] = []
        self._alone: dict[Hashable, _Alone] = {}

    def limit(self, kind: Hashable) -> int:
        """1 for the first calls of a kind, then what has been found."""
        alone = self._alone.setdefault(kind, _Alone())
        return int(self._limit) if alone.is_known else 1

    def answered(self, kind: Hashable, completion: Completion, began_s: float) -> None:
        """Learn from an answer; only those count that began after the last change."""
        alone = self._alone.setdefault(kind, _Alone())
        if not alone.is_known:
            alone.take(completion)
            return
        if began_s < self._changed_s:
            return
        self._ratios.append(completion.timings.total_s / max(alone.expected_s(completion), 1e-9))
        if len(self._ratios) < max(_WINDOW, int(self._limit)):
            return
        ratio = median(self._ratios)
        ended_s = began_s + completion.timings.total_s
        if ratio > _SHRINKS_ABOVE:
            self._change(self._limit * _GIVES_BACK, ended_s)
        elif ratio <= _GROWS_BELOW:
            self._change(self._limit + math.sqrt(self._limit), ended_s)
        else:
            self._ratios.clear()

    def refused(self, began_s: float, now_s: float) -> None:
        """Halve the number, once for all calls that began before it was last changed."""
        if began_s >= self._changed_s:
            self._change(self._limit / 2, now_s)

    def _change(self, limit: float, now_s: float) -> None:
        self._limit = min(float(self._most), max(1.0, limit))
        self._changed_s = now_s
        self._ratios.clear()
