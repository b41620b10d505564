"""Cases that share a patient or a template say less than as many strangers: they are one cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CaseValues:
    """The values of one target's cases, summed up case by case."""

    sums: Floats
    """For each case, the sum of its values."""
    counts: Floats
    """For each case, how many values it has; at least one."""
    least: float
    """The lowest value of all."""
    most: float
    """The highest value of all."""
    clusters: Sequence[Hashable] | None = None
    """For each case, what it shares with others; None where every case stands alone."""

    @classmethod
    def of(
        cls, values: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None = None
    ) -> CaseValues:
        """Sum up the values of the repeats of each case.

        Raises:
            ValueError: there is no case, or a case without a value.
        """
        if not values or not all(len(group) for group in values):
            raise ValueError("a mean needs at least one case, and each case at least one value")
        flat = [value for group in values for value in group]
        sums = np.array([sum(group) for group in values], dtype=float)
        counts = np.array([len(group) for group in values], dtype=float)
        return cls(sums, counts, min(flat), max(flat), clusters)

    def by_cluster(self) -> tuple[Floats, Floats]:
        """Sum and number of the values in each cluster, in the order in which clusters appear.

        Raises:
            ValueError: there is not one cluster a case.
        """
        if self.clusters is None:
            return self.sums, self.counts
        if len(self.clusters) != len(self.sums):
            raise ValueError(
                f"{len(self.sums)} cases have {len(self.clusters)} clusters; give one for each"
            )
        place = {name: position for position, name in enumerate(dict.fromkeys(self.clusters))}
        index = [place[name] for name in self.clusters]
        totals, members = np.zeros(len(place)), np.zeros(len(place))
        np.add.at(totals, index, self.sums)
        np.add.at(members, index, self.counts)
        return totals, members


def cluster_sums(
    values: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None
) -> tuple[Floats, Floats]:
    """Sum and number of the values in each cluster, in the order in which clusters first appear.

    Args:
        values: for each case, the values of its repeats.
        clusters: for each case, what it shares with others; None where every case stands alone.

    Raises:
        ValueError: there is no case, or a case without a value, or not one cluster a case.
    """
    return CaseValues.of(values, clusters).by_cluster()


def on_grid(sums: Floats) -> tuple[Floats, float]:
    """Sums rounded so that adding any of them, as many as there are, is exact; and the grid's step.

    Floating-point sums depend on their order in the last digits, and matrix products choose the
    order by the processor and the matrix's size. On a grid of a power of two that leaves room for
    the largest sum there is nothing to round, so that a figure is the same whatever it is reckoned
    beside, and wherever. The step is about 10^-13 for a few hundred scores.
    """
    largest = float(np.abs(sums).max(initial=0.0)) * len(sums)
    if largest == 0:
        return sums, 0.0
    step = 2.0 ** (np.ceil(np.log2(largest)) - 52)
    return np.rint(sums / step) * step, step
