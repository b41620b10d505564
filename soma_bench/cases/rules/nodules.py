"""The Lung-RADS categories of single nodules, and when the next scan is due.

The thresholds are numbers taken from American College of Radiology, Lung-RADS v2022
(November 2022); see also Christensen et al., ACR Lung-RADS v2022: Assessment Categories and
Management Recommendations, Journal of the American College of Radiology 21(3), 2024. No text of
theirs is copied, and only baseline screening of single nodules without further features is covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Category = Literal["2", "3", "4A", "4B"]

SOLID_MM: tuple[tuple[float, Category], ...] = ((15.0, "4B"), (8.0, "4A"), (6.0, "3"), (0.0, "2"))
"""Least mean diameter of a solid nodule at baseline for each category, highest first."""
PART_SOLID_CORE_MM: tuple[tuple[float, Category], ...] = ((8.0, "4B"), (6.0, "4A"), (0.0, "3"))
"""Least diameter of the solid core, for part-solid nodules of at least `PART_SOLID_WHOLE_MM`."""
PART_SOLID_WHOLE_MM = 6.0
"""Smaller part-solid nodules are category 2."""
GROUND_GLASS_MM = 30.0
"""Ground-glass nodules from this size are category 3, smaller ones 2."""

MONTHS: Mapping[Category, int | None] = {"2": 12, "3": 6, "4A": 3, "4B": None}
"""Months to the next low-dose CT; None where tissue or PET-CT comes first."""


def lung_rads(
    density: Literal["solid", "part-solid", "ground-glass"],
    size_mm: float,
    core_mm: float | None = None,
) -> Category:
    """Category of a single nodule at baseline.

    Args:
        density: of the nodule.
        size_mm: mean diameter of the whole, measured to one decimal.
        core_mm: of the solid core, which a part-solid nodule needs.

    Raises:
        ValueError: a part-solid nodule comes without its core.

    >>> lung_rads("solid", 7.9), lung_rads("solid", 8.0), lung_rads("part-solid", 14.0, 7.0)
    ('3', '4A', '4A')
    """
    if density == "ground-glass":
        return "3" if size_mm >= GROUND_GLASS_MM else "2"
    if density == "solid":
        return next(category for least, category in SOLID_MM if size_mm >= least)
    if core_mm is None:
        raise ValueError("a part-solid nodule needs the diameter of its solid core")
    if size_mm < PART_SOLID_WHOLE_MM:
        return "2"
    return next(category for least, category in PART_SOLID_CORE_MM if core_mm >= least)
