"""How well two readings of the same answers agree: rates, kappa, Krippendorff's alpha."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Level = Literal["nominal", "ordinal", "interval"]
Unit = TypeVar("Unit")

_RESAMPLES = 1000
_SEED = 20261125


class Estimate(NamedTuple):
    """A figure with its 95 % interval, which is None where it cannot be had."""

    value: float
    low: float | None
    high: float | None


def sensitivity(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Of (label, said): share of the 1s that were called 1; None without a 1."""
    said = [second for first, second in pairs if first == 1]
    return sum(said) / len(said) if said else None


def specificity(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Of (label, said): share of the 0s that were called 0; None without a 0."""
    said = [second for first, second in pairs if first == 0]
    return 1 - sum(said) / len(said) if said else None


def weighted_kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Cohen's kappa with quadratic weights; None where chance alone agrees wholly.

    For two values it is Cohen's plain kappa.

    >>> weighted_kappa([(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15)
    0.4
    """
    if not pairs:
        return None
    observed = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    first, second = (Counter(values) for values in zip(*pairs, strict=True))
    expected = (
        sum(n * m * (a - b) ** 2 for a, n in first.items() for b, m in second.items())
        / len(pairs) ** 2
    )
    return 1 - observed / expected if expected else None


def krippendorff_alpha(units: Sequence[Sequence[int | None]], level: Level) -> float | None:
    """Krippendorff's alpha; None where fewer than two values occur.

    Computing Krippendorff's Alpha-Reliability, K. Krippendorff, 2011.

    Args:
        units: for each thing that was rated, its ratings; None where a rater gave none.
        level: how far two ratings lie apart.
    """
    coincidences: Counter[tuple[int, int]] = Counter()
    for ratings in units:
        given = [rating for rating in ratings if rating is not None]
        for pair in permutations(given, 2):
            coincidences[pair] += 1 / (len(given) - 1)  # type: ignore[assignment]
    totals: Counter[int] = Counter()
    for (value, _), weight in coincidences.items():
        totals[value] += weight
    values = sorted(totals)
    if len(values) < 2:
        return None
    n = sum(totals.values())

    def apart(a: int, b: int) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return float((a - b) ** 2)
        low, high = sorted((a, b))
        between = sum(totals[value] for value in values if low <= value <= high)
        return float((between - (totals[a] + totals[b]) / 2) ** 2)

    observed = sum(weight * apart(*pair) for pair, weight in coincidences.items()) / n
    expected = sum(totals[a] * totals[b] * apart(a, b) for a in values for b in values)
    return float(1 - observed * n * (n - 1) / expected)


def with_interval(
    figure: Callable[[list[Unit]], float | None], units: Sequence[Unit]
) -> Estimate | None:
    """A figure with its 95 % percentile bootstrap interval over the units; None where it has none.

    Resamples in which the figure does not exist are left out; where they are more than a tenth,
    there is no interval.
    """
    value = figure(list(units)) if units else None
    if value is None:
        return None
    draws = np.random.default_rng(_SEED).integers(len(units), size=(_RESAMPLES, len(units)))
    drawn = (figure([units[i] for i in draw]) for draw in draws)
    known = [each for each in drawn if each is not None]
    if len(known) < 0.9 * _RESAMPLES:
        return Estimate(value, None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
