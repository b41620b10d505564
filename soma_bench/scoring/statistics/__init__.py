"""How sure a figure is: intervals, paired comparisons, and how many cases it takes."""

from __future__ import annotations

from soma_bench.scoring.statistics.clusters import cluster_sums
from soma_bench.scoring.statistics.intervals import (
    LEVEL,
    MeanInterval,
    mean_interval,
    percentile,
)
from soma_bench.scoring.statistics.pairs import Paired, holm, paired_comparison, sign_flip
from soma_bench.scoring.statistics.power import cases_needed, detectable_difference

__all__ = [
    "LEVEL",
    "MeanInterval",
    "Paired",
    "cases_needed",
    "cluster_sums",
    "detectable_difference",
    "holm",
    "mean_interval",
    "paired_comparison",
    "percentile",
    "sign_flip",
]
