"""Figures of answers that name a class or a probability: F1, correlation, ranking, calibration."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

CALIBRATION_BINS = 10


def f1_by_class(truth: Sequence[str], said: Sequence[str | None]) -> dict[str, float]:
    """F1 of every class that occurs in the truth; None is an answer that failed and hits nothing.

    >>> f1_by_class(["a", "a", "b"], ["a", "b", None])
    {'a': 0.6666666666666666, 'b': 0.0}
    """
    scores = {}
    for name in sorted(set(truth)):
        hits = sum(s == t == name for s, t in zip(said, truth, strict=True))
        scores[name] = 2 * hits / (said.count(name) + truth.count(name))
    return scores


def confusion(truth: Sequence[str], said: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """How often each class of the truth was answered with what; failed answers are ``unread``."""
    table: dict[str, dict[str, int]] = {}
    for right, given in zip(truth, said, strict=True):
        row = table.setdefault(right, {})
        name = "unread" if given is None else given
        row[name] = row.get(name, 0) + 1
    return {right: dict(sorted(table[right].items())) for right in sorted(table)}


def matthews(truth: Sequence[bool], said: Sequence[bool]) -> float:
    """Matthews correlation of two yes-no series; 0 where either never changes.

    >>> matthews([True, True, False, False], [True, True, True, True])
    0.0
    """
    pairs = list(zip(truth, said, strict=True))
    tp, tn = pairs.count((True, True)), pairs.count((False, False))
    fp, fn = pairs.count((False, True)), pairs.count((True, False))
    scale = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / scale if scale else 0.0


def auroc(truth: Sequence[bool], values: Sequence[float]) -> float | None:
    """Chance that a yes has a higher value than a no, ties half; None without both.

    >>> auroc([True, True, False], [3, 1, 1])
    0.75
    """
    yes = [value for value, right in zip(values, truth, strict=True) if right]
    no = sorted(value for value, right in zip(values, truth, strict=True) if not right)
    if not yes or not no:
        return None
    # Lower ones count whole and equal ones by half, which is the mean of both places in the order.
    won = sum(bisect_left(no, y) + bisect_right(no, y) for y in yes) / 2
    return won / (len(yes) * len(no))


def calibration(claims: Sequence[tuple[float, bool]]) -> Mapping[str, float]:
    """Brier score and expected calibration error of (stated probability, whether it was right).

    The error is the mean distance between stated and observed over ten equal bins of stated
    probability, weighed by how many claims each holds (Naeini et al. 2015). Nothing claimed gives
    no figures.

    >>> calibration([(0.75, True), (0.75, False)])
    {'brier': 0.3125, 'ece': 0.25}
    """
    if not claims:
        return {}
    bins: dict[int, list[tuple[float, bool]]] = {}
    for stated, right in claims:
        place = min(int(stated * CALIBRATION_BINS + 1e-9), CALIBRATION_BINS - 1)
        bins.setdefault(place, []).append((stated, right))
    gap = sum(abs(sum(s for s, _ in group) - sum(r for _, r in group)) for group in bins.values())
    brier = sum((stated - right) ** 2 for stated, right in claims) / len(claims)
    return {"brier": brier, "ece": gap / len(claims)}
