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

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soma_bench.scoring.statistics.clusters import CaseValues, Floats, on_grid

RESAMPLES = 5000
LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
_SEED = 20251129
_FEW = 10
"""Clusters below which the bootstrap is not trusted alone."""
_EQUAL = 1e-9
"""Differences that are below this are the rounding of equal ones."""
_KEPT_UP_TO = 1000
"""Clusters up to which drawn resamples are kept for the next interval: 5 MB."""
_TIE = 1e-12
"""Means that are this near are equal but for rounding."""
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
    return mean_intervals([CaseValues.of(values, clusters)], bounds=bounds)[0]


def mean_intervals(
    samples: Sequence[CaseValues], *, bounds: tuple[float, float] = (0.0, 1.0)
) -> list[MeanInterval]:
    """The interval of each of many means, as `mean_interval` gives it, for little more than one.

    Samples with as many clusters are resampled alike, all together in one matrix product.

    Raises:
        ValueError: a value lies beyond the bounds, or a case has no cluster.
    """
    least, most = bounds
    found: list[MeanInterval | None] = []
    resampled: dict[int, list[tuple[int, Floats, Floats]]] = defaultdict(list)
    for place, sample in enumerate(samples):
        if sample.least < least or sample.most > most:
            raise ValueError(f"values from {sample.least} to {sample.most} do not lie in {bounds}")
        sums, counts = sample.by_cluster()
        ends = _without_resampling(sample, sums, counts, bounds)
        if ends is None:
            resampled[len(sums)].append((place, sums, counts))
        found.append(None if ends is None else _interval(sums, counts, ends, bounds))
    for group in resampled.values():
        all_ends = _bca([sums for _, sums, _ in group], [counts for _, _, counts in group])
        for (place, sums, counts), ends in zip(group, all_ends, strict=True):
            found[place] = _interval(sums, counts, ends, bounds)
    return [interval for interval in found if interval is not None]


def _interval(
    sums: Floats, counts: Floats, ends: tuple[float, float], bounds: tuple[float, float]
) -> MeanInterval:
    mean = _mean(sums, counts, bounds)
    low, high = max(ends[0], bounds[0]), min(ends[1], bounds[1])
    return MeanInterval(mean, min(low, mean), max(high, mean))


def _mean(sums: Floats, counts: Floats, bounds: tuple[float, float]) -> float:
    return float(np.clip(sums.sum() / counts.sum(), *bounds))


def _without_resampling(
    sample: CaseValues, sums: Floats, counts: Floats, bounds: tuple[float, float]
) -> tuple[float, float] | None:
    """The ends where a formula gives them; None where values are neither equal nor 0 or 1."""
    if sample.most - sample.least < _EQUAL:
        mean, unseen = _mean(sums, counts, bounds), 1 - _TAIL ** (1 / len(sums))
        return mean - unseen * (mean - bounds[0]), mean + unseen * (bounds[1] - mean)
    if bounds == (0.0, 1.0) and counts.max() == 1 and np.isin(sums, (0.0, 1.0)).all():
        return _clopper_pearson(int(sums.sum()), len(sums))
    if len(sums) == 1:
        # One cluster shows nothing of how clusters differ: its values may be those of any other.
        return -np.inf, np.inf
    return None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie, interpolated between neighbours."""
    return float(np.percentile(values, percent))


def neighbours(n: int, share: float) -> tuple[int, int, float]:
    """Which of n ordered values a quantile lies between, counted from 0, and how far along."""
    place = (n - 1) * share
    lower = int(place)
    return lower, min(lower + 1, n - 1), place - lower


def between(low: float, high: float, share: float) -> float:
    """The value at a share of the way from one to another, rounded as `percentile` rounds it."""
    if share < 0.5:
        return low + (high - low) * share
    return high - (high - low) * (1 - share)


def quantile_of_sorted(values: Floats, share: float) -> float:
    """The quantile of values that are in their order."""
    lower, upper, along = neighbours(len(values), share)
    return between(float(values[lower]), float(values[upper]), along)


def _clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    from scipy.special import betaincinv

    return (
        float(betaincinv(successes, n - successes + 1, _TAIL)),
        float(betaincinv(successes + 1, n - successes, 1 - _TAIL)),
    )


def _bca(sums: Sequence[Floats], counts: Sequence[Floats]) -> list[tuple[float, float]]:
    """Ends of the accelerated bootstrap intervals of ratios of sums over as many clusters each."""
    grids = [on_grid(each) for each in sums]
    exact, members = np.array([grid for grid, _ in grids]), np.array(counts)
    means = np.sort(_resampled_means(exact, members), axis=1)
    return [
        _ends(means[row], exact[row], members[row], tie=max(_TIE, step))
        for row, (_, step) in enumerate(grids)
    ]


def _ends(means: Floats, sums: Floats, counts: Floats, *, tie: float) -> tuple[float, float]:
    """Ends of one interval by its resampled means in their order."""
    from scipy.special import ndtr, ndtri, stdtrit

    clusters = len(sums)
    mean = sums.sum() / counts.sum()
    # A tie counts by half, so that coarse scores are not taken for a bias.
    below, tied = np.searchsorted(means, (mean - tie, mean + tie))
    share_below = (below + tied) / 2 / RESAMPLES
    bias = ndtri(np.clip(share_below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
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
        ends.append(quantile_of_sorted(means, float(share)))
    if clusters >= _FEW:
        return ends[0], ends[1]
    strays = (sums - counts * mean) / counts.mean()
    error = float(np.sqrt((strays**2).sum() / (clusters - 1) / clusters))
    student = error * stdtrit(clusters - 1, 1 - _TAIL)
    return min(ends[0], mean - student), max(ends[1], mean + student)


def _resampled_means(sums: Floats, counts: Floats) -> Floats:
    """Means over resamples of the clusters, the same ones for every row of ``sums``.

    Args:
        sums: on a grid, shape (samples, clusters).
        counts: shape (samples, clusters).

    Returns:
        Shape (samples, RESAMPLES).
    """
    clusters, means = sums.shape[1], []
    equal = counts[:, :1] * clusters if (counts == counts[:, :1]).all() else None
    for times in _resamples(clusters):
        drawn = times.T.astype(float)
        means.append((sums @ drawn) / (counts @ drawn if equal is None else equal))
    return np.concatenate(means, axis=1)


def _resamples(clusters: int) -> Iterable[npt.NDArray[Any]]:
    """How often each cluster is drawn in each resample, many resamples at a time."""
    return _kept_resamples(clusters) if clusters <= _KEPT_UP_TO else _draw(clusters)


@lru_cache(maxsize=8)
def _kept_resamples(clusters: int) -> tuple[npt.NDArray[Any], ...]:
    return tuple(_draw(clusters))


def _draw(clusters: int) -> Iterator[npt.NDArray[Any]]:
    rng = np.random.default_rng(_SEED)
    rows = max(1, _MOST_DRAWS // clusters)
    for start in range(0, RESAMPLES, rows):
        size = (min(rows, RESAMPLES - start), clusters)
        draws = rng.integers(clusters, size=size)
        draws += np.arange(size[0])[:, None] * clusters
        times = np.bincount(draws.ravel(), minlength=size[0] * clusters).reshape(size)
        yield times.astype(np.uint8) if times.max() < 256 else times
