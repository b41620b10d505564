"""All assignments whose costs sum up to no more than a bound, as rows of indices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from soma_bench.optimize.figures import ColumnLimit, GivenUp, Whole

MOST = 60_000
"""Assignments written down at once; beyond that the search gives up."""

Costs = Sequence[NDArray[np.float64]]
"""For each agent what each of its primaries costs."""


def list_within(
    costs: Costs, room: float, limits: Sequence[ColumnLimit] = (), *, widest: int | None = None
) -> Whole:
    """All assignments whose costs sum up to no more than ``room``, and that hold some limits.

    Args:
        costs: for each agent what each of its primaries costs.
        room: the highest sum.
        limits: sums of other columns that may not be passed.
        widest: keep no more than so many of the cheapest beginnings; all where it is None.

    Raises:
        GivenUp: there are too many.
    """
    surely = prod(int((cost <= room / len(costs)).sum()) for cost in costs)
    if surely > 100 * MOST and widest is None:
        raise GivenUp
    picks: Whole = np.zeros((1, 0), dtype=np.int64)
    sums = np.zeros(1)
    used: Whole = np.zeros((1, len(limits)), dtype=np.int64)
    for stage, cost in enumerate(costs):
        options = np.flatnonzero(cost <= room)
        if len(sums) * len(options) > 20 * MOST:
            raise GivenUp
        totals = sums[:, None] + cost[options]
        rows, columns = np.nonzero(totals <= room)
        sums, columns = totals[rows, columns], options[columns]
        used = used[rows]
        fits = np.ones(len(rows), dtype=bool)
        for place, (figures, most) in enumerate(limits):
            used[:, place] += figures[stage][columns]
            rest = sum(int(figure.min()) for figure in figures[stage + 1 :])
            fits &= used[:, place] + rest <= most
        sums, used = sums[fits], used[fits]
        picks = np.concatenate([picks[rows[fits]], columns[fits, None]], axis=1)
        if widest is None and len(sums) > MOST:
            raise GivenUp
        if widest is not None and len(sums) > widest:
            cheapest = np.argpartition(sums, widest)[:widest]
            sums, used, picks = sums[cheapest], used[cheapest], picks[cheapest]
    return picks
