"""Cases that share a patient or a template say less than as many strangers: they are one cluster."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


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
    if not values or not all(len(group) for group in values):
        raise ValueError("a mean needs at least one case, and each case at least one value")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"{len(values)} cases have {len(clusters)} clusters; give one for each")
    sums = np.array([sum(group) for group in values], dtype=float)
    counts = np.array([len(group) for group in values], dtype=float)
    if clusters is None:
        return sums, counts
    place = {name: position for position, name in enumerate(dict.fromkeys(clusters))}
    index = [place[name] for name in clusters]
    totals, members = np.zeros(len(place)), np.zeros(len(place))
    np.add.at(totals, index, sums)
    np.add.at(members, index, counts)
    return totals, members
