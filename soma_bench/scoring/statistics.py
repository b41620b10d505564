"""How sure a mean is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 5000
LEVEL = 0.95
_SEED = 20251129


class MeanInterval(NamedTuple):
    """A mean with the interval that it lies in at the 95 % level."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[Sequence[float]]) -> MeanInterval:
    """Mean over everything, with a 95 % percentile bootstrap interval that resamples the groups.

    A group holds what is measured on one case: repeats of a case are not new evidence about other
    cases, so cases are drawn with replacement and bring all their repeats along (Davison and
    Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). With few cases the
    interval is too narrow, and where all values are equal it has no width at all: read it with n.

    Args:
        values: for each case, the values of its repeats.

    Raises:
        ValueError: there is no case, or a case without a value.
    """
    if not values or not all(values):
        raise ValueError("a mean needs at least one case, and each case at least one value")
    sums = np.array([sum(group) for group in values])
    counts = np.array([len(group) for group in values])
    mean = float(sums.sum() / counts.sum())
    draws = np.random.default_rng(_SEED).integers(len(values), size=(RESAMPLES, len(values)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return MeanInterval(mean, min(float(low), mean), max(float(high), mean))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie, interpolated between neighbours."""
    return float(np.percentile(values, percent))
