"""The size steps at which management of a lung nodule changes, from the table of rules.

The radiologist's scorer asks one question of them: do two sizes lead to the same next step?
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping

from soma_bench.cases.rules import (
    GROUND_GLASS_MM,
    PART_SOLID_CORE_MM,
    PART_SOLID_WHOLE_MM,
    SOLID_MM,
)

STEPS_MM: Mapping[str, tuple[float, ...]] = {
    "solid": tuple(sorted(least for least, _ in SOLID_MM if least)),
    "part-solid": (PART_SOLID_WHOLE_MM, PART_SOLID_CORE_MM[0][0]),
    "ground-glass": (GROUND_GLASS_MM,),
}
"""Diameters, to one decimal in mm, from which the next higher category holds.

Part-solid nodules are graded by their solid part too, which no answer states: the whole diameter's
first step is exact, and the second is where the solid part can first reach the highest category.
"""

NODULES = frozenset({"nodule", "mass"})
"""Kinds that the steps are for."""


def size_step(kind: str, characteristics: Collection[str], size_mm: float) -> int | None:
    """Which size step a finding has reached, from 0; None where no step applies.

    A nodule of unstated density is read as solid. A calcified one has no size step.

    >>> size_step("nodule", ["solid"], 5.9), size_step("nodule", ["solid"], 6.1)
    (0, 1)
    """
    if kind not in NODULES or "calcified" in characteristics:
        return None
    density = next((name for name in STEPS_MM if name in characteristics), "solid")
    return bisect_right(STEPS_MM[density], round(size_mm, 1))


def crosses_step(
    kind: str, characteristics: Collection[str], true_mm: float, said_mm: float
) -> bool:
    """Whether a wrong size alone changes the management of a finding.

    Answers are in whole millimetres: the whole number nearest to the truth is never wrong.

    >>> crosses_step("nodule", ["solid"], 6.4, 5)
    True
    >>> crosses_step("nodule", ["solid"], 5.9, 6)
    False
    """
    if said_mm == round(true_mm):
        return False
    return size_step(kind, characteristics, true_mm) != size_step(kind, characteristics, said_mm)
