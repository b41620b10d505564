"""The interval of a mean.

Three rules, by what the values are:

- All equal: nothing shows how much they vary, and a bootstrap would claim to be certain. What n
  equal clusters do show is that another value has at most the probability q = 1 - 0.025^(1/n) (the
  bound of Clopper and Pearson, 1934); the interval is where the mean may lie when that much of the
  values is as low, or as high, as scores can be.
- All 0 or 1, one a cluster: the exact interval of Clopper and Pearson for a proportion.
- Else: the bias-corrected and accelerated bootstrap (Efron, 1987) over clusters, its ends moved
  outwards as Student's t is wider than the normal (Hesterberg, The American Statistician 69, 2015,
  section 3.3), without which ten clusters hold the truth in 90 of 100 cases and not in 95. Below
  ten clusters the resamples are few and never leave what was seen: there the interval is at least
  Student's.

What no case has shown is in no bootstrap: a failure in one of 50 answers, unseen in 20 cases, makes
the true mean lower than such an interval says. Read it with n.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from soma_bench.scoring.statistics.clusters import Floats, cluster_sums

RESAMPLES = 5000
LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
_SEED = 20251129
_FEW = 10
"""Clusters below which the bootstrap is not trusted alone."""
_EQUAL = 1e-9
"""Differences that are below this are the rounding of equal ones."""
_MOST_DRAWS = 2_000_000
"""Resampled values that are held in memory at once."""


class MeanInterval(NamedTuple):
    """A mean with the interval that it lies in at the 95 % level."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: Sequence[Sequence[float]],
    *,
    clusters: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> MeanInterval:
    """Mean over everything, with a 95 % interval for the mean over other clusters like these.

    Repeats of a case, and cases of one patient or template, are not new evidence about others, so
    clusters are drawn with replacement and bring all they hold along (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8).

    Args:
        values: for each case, the values of its repeats.
        clusters: for each case, the patient or template it shares with others; None where every
            case stands alone.
        bounds: the lowest and highest value there can be; (-1, 1) for differences of scores.

    Raises:
        ValueError: there is no case, a case without a value, or a value beyond the bounds.
    """
    sums, counts = cluster_sums(values, clusters)
    least, most = bounds
    flat = [value for group in values for value in group]
    if min(flat) < least or max(flat) > most:
        raise ValueError(f"values from {min(flat)} to {max(flat)} do not lie in {bounds}")
    mean = float(np.clip(sums.sum() / counts.sum(), least, most))
    if max(flat) - min(flat) < _EQUAL:
        unseen = 1 - _TAIL ** (1 / len(sums))
        low, high = mean - unseen * (mean - least), mean + unseen * (most - mean)
    elif bounds == (0.0, 1.0) and counts.max() == 1 and set(flat) == {0.0, 1.0}:
        low, high = _clopper_pearson(int(sums.sum()), len(sums))
    else:
        low, high = _bca(sums, counts)
    return MeanInterval(mean, min(max(low, least), mean), max(min(high, most), mean))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie, interpolated between neighbours."""
    return float(np.percentile(values, percent))


def _clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    from scipy.special import betaincinv

    return (
        float(betaincinv(successes, n - successes + 1, _TAIL)),
        float(betaincinv(successes + 1, n - successes, 1 - _TAIL)),
    )


def _bca(sums: Floats, counts: Floats) -> tuple[float, float]:
    """Ends of the accelerated bootstrap interval of a ratio of sums over clusters."""
    from scipy.special import ndtr, ndtri, stdtrit

    clusters = len(sums)
    if clusters == 1:
        # One cluster shows nothing of how clusters differ: its values may be those of any other.
        return -np.inf, np.inf
    mean = sums.sum() / counts.sum()
    means = np.sort(_resampled_means(sums, counts))
    # A tie counts by half, so that coarse scores are not taken for a bias.
    below = (means < mean).mean() + (np.isclose(means, mean, rtol=0, atol=1e-12)).mean() / 2
    bias = ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    pulls = left_out.mean() - left_out
    spread = float((pulls**2).sum()) ** 1.5
    acceleration = float((pulls**3).sum()) / (6 * spread) if spread > 0 else 0.0
    reach = np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, 1 - _TAIL)
    ends = []
    for side in (-reach, reach):
        moved = bias + side
        # Beyond this the acceleration turns the ends around; the outermost resample stands instead.
        slack = 1 - acceleration * moved
        share = ndtr(bias + moved / slack) if slack > 0 else float(side > 0)
        ends.append(float(np.quantile(means, share)))
    if clusters >= _FEW:
        return ends[0], ends[1]
    strays = (sums - counts * mean) / counts.mean()
    error = float(np.sqrt((strays**2).sum() / (clusters - 1) / clusters))
    student = error * stdtrit(clusters - 1, 1 - _TAIL)
    return min(ends[0], mean - student), max(ends[1], mean + student)


def _resampled_means(sums: Floats, counts: Floats) -> Floats:
    rng = np.random.default_rng(_SEED)
    clusters, means = len(sums), []
    rows = max(1, _MOST_DRAWS // clusters)
    for start in range(0, RESAMPLES, rows):
        size = (min(rows, RESAMPLES - start), clusters)
        draws = rng.integers(clusters, size=size)
        means.append(sums[draws].sum(axis=1) / counts[draws].sum(axis=1))
    return np.concatenate(means)
