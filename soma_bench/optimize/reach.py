"""How far above a figure's lower bound assignments are looked at, and what was found on the way."""

from __future__ import annotations

from math import inf

import numpy as np

from soma_bench.optimize.candidates import ROUNDING
from soma_bench.optimize.listing import Costs

CLOSE = 1e-9
"""How far floating point may be off, as a share: far more than it is."""

_STEPS = 500
"""The first list reaches at least so small a share of the way to the dearest assignment."""


class Reach:
    """The room above a lower bound that the next list of assignments is given.

    Args:
        lowest: the lower bound of the figure.
        costs: for each agent what each of its primaries adds to the bound.
        at_most: values of the figure above are not wanted.
    """

    def __init__(self, lowest: float, costs: Costs, at_most: float) -> None:
        self._lowest = lowest
        # Floating point rounds; a margin that lets in more than is needed does no harm.
        self._margin = 1 + CLOSE * abs(lowest)
        self._everything = sum(float(cost[np.isfinite(cost)].max(initial=0.0)) for cost in costs)
        self._most = min(self._everything, at_most - lowest)
        room = float(np.median([np.sort(cost)[min(3, len(cost) - 1)] for cost in costs]))
        self._room = min(max(room, self._everything / _STEPS), self._most)
        self.covered = -inf
        """Up to which value of the figure no assignment is missing from the latest list."""
        self.found: float | None = None
        """The least value of the figure that was found; None where none was."""

    @property
    def has_any(self) -> bool:
        """Whether the lower bound leaves anything that is wanted."""
        return self._most >= -self._margin

    @property
    def room(self) -> float:
        """The highest sum of costs in the next list."""
        return self._room + self._margin

    @property
    def is_full(self) -> bool:
        """Whether the next list holds all that is wanted."""
        return self._room >= self._most

    def cover(self) -> None:
        """Note that a list with this room was written down as a whole."""
        whole = self._room >= self._everything
        self.covered = inf if whole else self._lowest + self._room

    def is_settled(self, slack: float = 0) -> bool:
        """Whether nothing can be missing that is better, or as near to the best as ``slack``."""
        return self.found is not None and self.found + slack <= self.covered

    def widen(self, slack: int) -> None:
        """Give the next list room for what was found, or twice as much where nothing was."""
        if self.found is None:
            room = max(2 * self._room, self._margin)
        elif self.is_settled():
            room = self.found + slack - self._lowest
        else:
            # One list up to what was found may be far too long: better is found before.
            wanted = self.found + min(slack, ROUNDING) - self._lowest
            room = min(wanted, 2 * self._room)
        self._room = min(room, self._most)
