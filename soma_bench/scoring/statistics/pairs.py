"""Two targets on the same cases: by how much they differ, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from soma_bench.scoring.statistics.clusters import Floats, cluster_sums
from soma_bench.scoring.statistics.intervals import MeanInterval, mean_interval

_FLIPS = 9999
_ALL_FLIPS_UP_TO = 13
"""With so many clusters or fewer, every pattern of signs is tried and the p-value is exact."""
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
    if len(ours) != len(theirs):
        raise ValueError(f"a comparison needs the same cases: {len(ours)} and {len(theirs)}")
    pairs = zip(ours, theirs, strict=True)
    differences = [[mine - other] for mine, other in pairs]
    sums, counts = cluster_sums(differences, clusters)
    interval = mean_interval(differences, clusters=clusters, bounds=(-1.0, 1.0))
    return Paired(
        cases=len(ours),
        clusters=len(sums),
        difference=interval,
        p=sign_flip(sums),
        sd=_sd_of_a_case(sums, counts),
    )


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
    # A cluster without a difference takes no side, whatever its sign.
    sums = sums[np.abs(sums) > 1e-12]
    clusters = len(sums)
    if clusters <= _ALL_FLIPS_UP_TO:
        patterns = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
        flipped = np.abs((2 * patterns - 1) @ sums)
        return float((flipped >= abs(sums.sum()) - 1e-9).mean())
    signs = np.random.default_rng(_SEED).integers(2, size=(_FLIPS, clusters), dtype=np.int8)
    flipped = np.abs((2.0 * signs - 1) @ sums)
    return float((1 + (flipped >= abs(sums.sum()) - 1e-9).sum()) / (_FLIPS + 1))


def _sd_of_a_case(sums: Floats, counts: Floats) -> float | None:
    if len(sums) < 2:
        return None
    cases, clusters = counts.sum(), len(sums)
    strays = sums - counts * (sums.sum() / cases)
    # The standard error of the mean over clusters, times the root of the cases.
    return float(np.sqrt((strays**2).sum() * clusters / (clusters - 1) / cases))
