"""Shapes in a plane: signed distances in millimetres, and how they are filled.

x runs to the patient's left, y to the back, both from the middle of the picture. A distance is
negative inside. Only sums, products, quotients and square roots are used on the grid: IEEE 754
rounds these alike on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]
"""A value at each pixel of the slice, or at one point."""

Shape = Callable[[Field, Field], Field]
"""Distance from a shape at given places."""

EDGE_MM = 1.0
"""Width over which one tissue turns into the other, as a scanner blurs it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the slice, in millimetres."""

    x: float
    y: float


ACROSS = Point(1.0, 0.0)
"""The direction from the patient's right to the left."""


def grid(size_px: int, spacing_mm: float) -> tuple[Field, Field]:
    """The coordinates x and y of each pixel's centre."""
    along = (np.arange(size_px) - (size_px - 1) / 2) * spacing_mm
    x, y = np.meshgrid(along, along)
    return x, y


def direction(step: int, of: int) -> Point:
    """The unit vector at ``step`` of ``of`` equal angles; rounded, so that no libm shows."""
    angle = 2 * math.pi * step / of
    return Point(round(math.cos(angle), 6), round(math.sin(angle), 6))


def ellipse(x: Field, y: Field, centre: Point, a: float, b: float, along: Point = ACROSS) -> Field:
    """Distance from an ellipse of semi-axes ``a`` (along ``along``) and ``b``; exact on its edge."""
    dx, dy = x - centre.x, y - centre.y
    u, v = dx * along.x + dy * along.y, dy * along.x - dx * along.y
    first = np.sqrt((u / a) * (u / a) + (v / b) * (v / b))
    slope = np.sqrt((u / (a * a)) * (u / (a * a)) + (v / (b * b)) * (v / (b * b)))
    distance: Field = first * (first - 1) / np.maximum(slope, 1e-12)
    return np.where(slope > 0, distance, -min(a, b))


def circle(x: Field, y: Field, centre: Point, radius: float) -> Field:
    """Distance from a circle."""
    dx, dy = x - centre.x, y - centre.y
    distance: Field = np.sqrt(dx * dx + dy * dy) - radius
    return distance


def rod(x: Field, y: Field, start: Point, end: Point, first: float, last: float) -> Field:
    """Distance from a straight rod whose half-width goes from ``first`` to ``last``."""
    ex, ey = end.x - start.x, end.y - start.y
    dx, dy = x - start.x, y - start.y
    share = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    ox, oy = dx - share * ex, dy - share * ey
    distance: Field = np.sqrt(ox * ox + oy * oy) - (first + (last - first) * share)
    return distance


@dataclass(slots=True)
class Canvas:
    """A slice that is being drawn, in Hounsfield units."""

    hu: Field
    x: Field
    y: Field

    def fill(self, shape: Shape, value: float, around: tuple[Point, float] | None = None) -> None:
        """Fill a shape, half of it at its very edge.

        Args:
            shape: distance from the shape at given places.
            value: Hounsfield units.
            around: a centre, and how far in millimetres the shape can reach from it; only there
                is it drawn. None for everywhere.
        """
        part = self._part(*around) if around else (slice(None), slice(None))
        share = np.clip(0.5 - shape(self.x[part], self.y[part]) / EDGE_MM, 0.0, 1.0)
        self.hu[part] += share * (value - self.hu[part])

    def _part(self, centre: Point, reach_mm: float) -> tuple[slice, slice]:
        def between(along: Field, middle: float) -> slice:
            reach = reach_mm + EDGE_MM
            return slice(*np.searchsorted(along, (middle - reach, middle + reach)))

        return between(self.y[:, 0], centre.y), between(self.x[0], centre.x)
