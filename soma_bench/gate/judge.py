"""The verdict over all changes together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from soma_bench.gate.changes import Change
from soma_bench.scoring.statistics import holm

LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The answer."""

    changes: tuple[Change, ...]
    level: float

    @property
    def passed(self) -> bool:
        """Whether every figure was compared and none is worse."""
        return all(change.verdict == "kept" for change in self.changes)


def judge(changes: Iterable[Change], *, level: float = LEVEL) -> Gate:
    """Adjust the p-values of all compared figures together, and say which are worse."""
    rows = list(changes)
    tested = [place for place, row in enumerate(rows) if row.how != "none"]
    adjusted = holm([rows[place].p for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        rows[place] = replace(
            rows[place],
            adjusted_p=p,
            detectable=_detectable(rows[place], level / len(tested)),
            verdict="worse" if p <= level else "kept",
        )
    return Gate(changes=tuple(rows), level=level)


def _detectable(change: Change, level: float) -> float | None:
    """The change that a test at this level finds with `POWER`; Holm's own is never stricter."""
    from scipy.special import ndtri, stdtrit

    if change.error is None or not math.isfinite(change.error):
        return None
    degrees = change.degrees
    reach = (
        ndtri(1 - level) + ndtri(POWER)
        if degrees is None
        else stdtrit(degrees, 1 - level) + stdtrit(degrees, POWER)
    )
    found = change.error * float(reach)
    if change.is_log:
        return math.expm1(math.log1p(change.margin) + found)
    return (change.margin + found) * (-1 if change.figure == "quality" else 1)
