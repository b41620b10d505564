"""How sure a figure is: intervals, paired comparisons, and how many cases it takes."""

from __future__ import annotations

from soma_bench.scoring.statistics.clusters import CaseValues, cluster_sums
from soma_bench.scoring.statistics.intervals import (
    LEVEL,
    MeanInterval,
    between,
    mean_interval,
    mean_intervals,
    neighbours,
    percentile,
)
from soma_bench.scoring.statistics.pairs import (
    Pair,
    Paired,
    holm,
    paired_comparison,
    paired_comparisons,
    sign_flip,
)
from soma_bench.scoring.statistics.power import cases_needed, detectable_difference

__all__ = [
    "LEVEL",
    "CaseValues",
    "MeanInterval",
    "Pair",
    "Paired",
    "between",
    "cases_needed",
    "cluster_sums",
    "detectable_difference",
    "holm",
    "mean_interval",
    "mean_intervals",
    "neighbours",
    "paired_comparison",
    "paired_comparisons",
    "percentile",
    "sign_flip",
]
