"""Percentiles with intervals that assume nothing about how latencies are distributed.

The interval of a percentile runs between two of the sorted values. How many of n independent values
lie below the true p-quantile is binomial (n, p), so the ranks follow from its distribution (David
and Nagaraja, Order Statistics, 3rd edition 2003, section 7.1). Where n is so small that even the
largest value is no upper end, there is no percentile to report: the value would be the largest
latency that happened to be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from soma_bench.scoring.statistics import LEVEL, percentile

PERCENTS = (50.0, 90.0, 95.0, 99.0)
"""The percentiles that are reported."""
_TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """One percentile, or how many values it takes."""

    percent: float
    value: float | None
    """None where there are too few values for a 95 % interval."""
    low: float | None
    high: float | None
    needed: int
    """Values that the interval takes at least."""


def percentiles(
    values: Sequence[float], percents: Sequence[float] = PERCENTS
) -> tuple[Percentile, ...]:
    """Percentiles of independent values, each with its 95 % interval or with what is missing."""
    ordered = sorted(values)
    return tuple(_percentile(ordered, percent) for percent in percents)


def values_needed(percent: float) -> int:
    """The fewest values whose least and largest are ends of a 95 % interval of a percentile."""
    share = percent / 100
    return math.ceil(math.log(_TAIL) / math.log(max(share, 1 - share)))


def _percentile(ordered: Sequence[float], percent: float) -> Percentile:
    needed = values_needed(percent)
    if len(ordered) < needed:
        return Percentile(percent=percent, value=None, low=None, high=None, needed=needed)
    low, high = _ranks(len(ordered), percent / 100)
    return Percentile(
        percent=percent,
        # Interpolation between equal values may round to one beside them.
        value=min(max(percentile(ordered, percent), ordered[low]), ordered[high]),
        low=ordered[low],
        high=ordered[high],
        needed=needed,
    )


@lru_cache(maxsize=256)
def _ranks(n: int, share: float) -> tuple[int, int]:
    """Places in the sorted values, counted from 0, of an interval's two ends.

    The value at place k lies above the quantile when at most k values lie below it, and beneath it
    when more than k do; each end may be on the wrong side in half of what the level leaves.
    """
    from scipy.special import bdtr

    below = [float(bdtr(k, n, share)) for k in range(n)]
    low = max(k for k in range(n) if below[k] <= _TAIL)
    high = min(k for k in range(n) if below[k] >= 1 - _TAIL)
    return low, high
