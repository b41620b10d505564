"""Two targets on the same cases: by how much they differ, and whether that may be chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soma_bench.scoring.statistics.clusters import CaseValues, Floats, on_grid
from soma_bench.scoring.statistics.intervals import MeanInterval, mean_intervals

_FLIPS = 9999
_ALL_FLIPS_UP_TO = 13
"""With so many clusters or fewer, every pattern of signs is tried and the p-value is exact."""
_NOTHING = 1e-12
"""A difference below this is the rounding of none."""
_ROUNDING = 1e-9
_SEED = 20251130


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A paired comparison."""

    cases: int
    clusters: int
    difference: MeanInterval
    """Mean of (ours - theirs) over the cases, with its 95 % interval."""
    p: float
    """Two-sided, of no difference; 1 where no case differs."""
    sd: float | None
    """Standard deviation of the difference a case, as if cases were independent: what the design
    formulas take, larger where clusters agree within. None with one cluster."""


def paired_comparison(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
) -> Paired:
    """Compare two targets case by case.

    The p-value is that of Fisher's sign-flip test on the clusters' sums: without a difference each
    cluster might as well have favoured the other target. It asks for no distribution and is exact
    for few clusters.

    Args:
        ours: a score in [0, 1] for each case.
        theirs: the other target's score on the same case, in the same order.
        clusters: for each case, the patient or template it shares with others.

    Raises:
        ValueError: there is no case, or the two have not the same cases.
    """
    return paired_comparisons([Pair(np.array(ours), np.array(theirs), clusters)])[0]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two targets' scores on the same cases, in the same order."""

    ours: Floats
    theirs: Floats
    clusters: Sequence[Hashable] | None = None


def paired_comparisons(pairs: Sequence[Pair]) -> list[Paired]:
    """Many comparisons, each as `paired_comparison` makes it, for little more than one.

    Raises:
        ValueError: there is no case in a pair, or its two have not the same cases.
    """
    samples = [_differences(pair) for pair in pairs]
    totals = [sample.by_cluster() for sample in samples]
    intervals = mean_intervals(samples, bounds=(-1.0, 1.0))
    p_values = _sign_flips([sums for sums, _ in totals])
    return [
        Paired(
            cases=len(sample.sums),
            clusters=len(sums),
            difference=interval,
            p=p,
            sd=_sd_of_a_case(sums, counts),
        )
        for sample, (sums, counts), interval, p in zip(
            samples, totals, intervals, p_values, strict=True
        )
    ]


def _differences(pair: Pair) -> CaseValues:
    if len(pair.ours) != len(pair.theirs):
        raise ValueError(
            f"a comparison needs the same cases: {len(pair.ours)} and {len(pair.theirs)}"
        )
    if not len(pair.ours):
        raise ValueError("a comparison needs at least one case")
    values = pair.ours - pair.theirs
    least, most = float(values.min()), float(values.max())
    return CaseValues(values, np.ones(len(values)), least, most, pair.clusters)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being many, in the order given (Holm, 1979).

    Whatever is kept at or below 0.05 holds for all together: the chance of even one false claim
    is at most 5 %.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def sign_flip(sums: Floats) -> float:
    """Two-sided p-value of Fisher's sign-flip test on the sums of clusters; see `paired_comparison`.

    The signs are as likely either way, so the one-sided value is half of it where the sum lies on
    the side in question.
    """
    return _sign_flips([sums])[0]


def _sign_flips(samples: Sequence[Floats]) -> list[float]:
    """The p-value of each of many samples; those with as many clusters have their signs in common."""
    found = [0.0] * len(samples)
    drawn: dict[int, list[tuple[int, Floats]]] = defaultdict(list)
    for place, sums in enumerate(samples):
        # A cluster without a difference takes no side, whatever its sign.
        moved = sums[np.abs(sums) > _NOTHING]
        if len(moved) <= _ALL_FLIPS_UP_TO:
            found[place] = _exact_flips(moved)
        else:
            drawn[len(sums)].append((place, on_grid(sums)[0]))
    for clusters, group in drawn.items():
        columns = np.array([sums for _, sums in group]).T
        reached = _reached_by_chance(columns, clusters)
        for (place, _), hits in zip(group, reached, strict=True):
            found[place] = float((1 + hits) / (_FLIPS + 1))
    return found


def _exact_flips(sums: Floats) -> float:
    clusters = len(sums)
    patterns = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
    flipped = np.abs((2 * patterns - 1) @ sums)
    return float((flipped >= abs(sums.sum()) - _ROUNDING).mean())


def _reached_by_chance(columns: Floats, clusters: int) -> npt.NDArray[np.int64]:
    """How many of `_FLIPS` drawn patterns of signs reach each column's sum."""
    rng = np.random.default_rng(_SEED)
    goals = np.abs(columns.sum(axis=0)) - _ROUNDING
    reached = np.zeros(columns.shape[1], dtype=np.int64)
    drawn_at_once, multiplied_at_once = (max(1, most // clusters) for most in (2**26, 2**19))
    for start in range(0, _FLIPS, drawn_at_once):
        size = (min(drawn_at_once, _FLIPS - start), clusters)
        signs = rng.integers(2, size=size, dtype=np.int8)
        for first in range(0, size[0], multiplied_at_once):
            part = 2.0 * signs[first : first + multiplied_at_once] - 1
            reached += (np.abs(part @ columns) >= goals).sum(axis=0)
    return reached


def _sd_of_a_case(sums: Floats, counts: Floats) -> float | None:
    if len(sums) < 2:
        return None
    cases, clusters = counts.sum(), len(sums)
    strays = sums - counts * (sums.sum() / cases)
    # The standard error of the mean over clusters, times the root of the cases.
    return float(np.sqrt((strays**2).sum() * clusters / (clusters - 1) / cases))
