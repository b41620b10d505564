"""How many cases a difference takes to be seen, and what a number of cases can show.

The normal approximation for a paired comparison of one target with each of the others, one-sided,
with the level shared among the comparisons (Bonferroni): a planning figure, meant to be about right.
"""

from __future__ import annotations

import math

ALPHA = 0.05
POWER = 0.8


def cases_needed(
    difference: float, sd: float, *, comparisons: int = 1, power: float = POWER
) -> int:
    """Cases at which a true ``difference`` is found in ``power`` of all experiments.

    Args:
        difference: between the means of two targets, above 0.
        sd: standard deviation of the difference from case to case.
        comparisons: how many targets are compared with the one.
        power: probability of seeing it.

    Raises:
        ValueError: a figure is not one that a design can have.
    """
    if difference <= 0:
        raise ValueError(f"a difference of {difference} cannot be seen; give one above 0")
    return max(2, math.ceil((_reach(comparisons, power) * _checked(sd) / difference) ** 2))


def detectable_difference(
    cases: int, sd: float, *, comparisons: int = 1, power: float = POWER
) -> float:
    """The smallest true difference that ``cases`` show in ``power`` of all experiments.

    Raises:
        ValueError: a figure is not one that a design can have.
    """
    if cases < 1:
        raise ValueError(f"{cases} cases show nothing; give at least 1")
    return _reach(comparisons, power) * _checked(sd) / math.sqrt(cases)


def _reach(comparisons: int, power: float) -> float:
    from scipy.special import ndtri

    if comparisons < 1 or not 0 < power < 1:
        raise ValueError(f"no design has {comparisons} comparisons and power {power}")
    return float(ndtri(1 - ALPHA / comparisons) + ndtri(power))


def _checked(sd: float) -> float:
    if not sd >= 0 or math.isinf(sd):
        raise ValueError(f"a standard deviation cannot be {sd}")
    return sd
