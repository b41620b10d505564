"""The phantom's nodules: where one lies and the shape it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from soma_bench.agents.pictures import Level, PhantomNodule, PhantomSlice
from soma_bench.cases.draws import Draws
from soma_bench.cases.phantom.anatomy import PLANS, SIGN, hilum, lung
from soma_bench.cases.phantom.geometry import Canvas, Field, Point, circle, direction, ellipse, rod
from soma_bench.errors import ConfigError

CENTRAL_MM = 58.0
"""How far from the hilum a central nodule's centre may lie."""
HU = {"solid": 40.0, "part-solid": -620.0, "ground-glass": -620.0}
"""Of a nodule's body; a part-solid one has a solid core."""

_LOBE_DEPTH = 0.11
"""How much further out than the mean a lobe reaches, as a share of it."""
_TRIES = 4000
_ANGLES = 48


@dataclass(frozen=True, slots=True)
class Placed:
    """A nodule with what the seed decides of it."""

    nodule: PhantomNodule
    centre: Point
    step: int
    """Which of 48 directions its longest diameter has."""
    roundness: float
    """Shortest diameter of a smooth nodule over its longest."""
    spicules: tuple[tuple[int, float], ...]
    """Direction and length in millimetres of each."""

    @property
    def radius_mm(self) -> float:
        """Half of the longest diameter."""
        return self.nodule.size_mm / 2

    @property
    def reach_mm(self) -> float:
        """Furthest that anything of it lies from its centre."""
        return self.radius_mm + max((length for _, length in self.spicules), default=0.0)

    def body(self, x: Field, y: Field) -> Field:
        """Distance from the body, without spiculae; its longest diameter is the nodule's size."""
        along = direction(self.step, _ANGLES)
        radius = self.radius_mm
        if self.nodule.margin == "lobulated":
            return _lobulated(x, y, self.centre, radius, along)
        return ellipse(x, y, self.centre, radius, radius * self.roundness, along)

    def draw(self, canvas: Canvas) -> None:
        """Draw the nodule."""
        value = HU[self.nodule.density]
        around = self.centre, self.reach_mm
        for step, length in self.spicules:
            toward = direction(step, _ANGLES)
            near, far = 0.6 * self.radius_mm, self.radius_mm + length
            start = Point(self.centre.x + toward.x * near, self.centre.y + toward.y * near)
            end = Point(self.centre.x + toward.x * far, self.centre.y + toward.y * far)
            spicule = partial(rod, start=start, end=end, first=0.9, last=0.35)
            canvas.fill(spicule, value, around)
        canvas.fill(self.body, value, around)
        if self.nodule.density == "part-solid":
            core = partial(circle, centre=self.centre, radius=self.radius_mm / 2)
            canvas.fill(core, HU["solid"], around)


def place(piece: PhantomSlice) -> tuple[Placed, ...]:
    """Each nodule of a slice where its parameters allow it, whole in its lung.

    Raises:
        ConfigError: a nodule does not fit.
    """
    return tuple(
        _place(nodule, piece, Draws(piece.seed, "nodule", str(number)))
        for number, nodule in enumerate(piece.nodules)
    )


def _place(nodule: PhantomNodule, piece: PhantomSlice, draws: Draws) -> Placed:
    spicules: tuple[tuple[int, float], ...] = ()
    if nodule.margin == "spiculated":
        longest = min(8.0, max(3.0, 0.4 * nodule.size_mm))
        spicules = tuple(
            (4 * number + draws.below(3), draws.between(0.6, 1.0) * longest) for number in range(12)
        )
    return Placed(
        nodule=nodule,
        centre=_somewhere(nodule, piece.level, draws, max((s for _, s in spicules), default=0.0)),
        step=draws.below(_ANGLES),
        roundness=draws.between(0.85, 1.0),
        spicules=spicules,
    )


def _somewhere(nodule: PhantomNodule, level: Level, draws: Draws, beyond_mm: float) -> Point:
    plan, root = PLANS[level], hilum(nodule.side)
    clear = nodule.size_mm / 2 + beyond_mm + 4.0
    for _ in range(_TRIES):
        at = Point(
            SIGN[nodule.side] * (plan.lung_x + plan.lung_a * draws.between(-1, 1)),
            plan.lung_b * draws.between(-1, 1),
        )
        far = ((at.x - root.x) ** 2 + (at.y - root.y) ** 2) ** 0.5
        # A few millimetres on either side of a border belong to nobody, so that no truth hangs on a hair.
        in_half = at.y < -4 if nodule.depth == "anterior" else at.y > 4
        in_zone = far < CENTRAL_MM - 3 if nodule.zone == "central" else far > CENTRAL_MM + 3
        inside = -float(lung(np.array(at.x), np.array(at.y), level, nodule.side))
        if in_half and in_zone and inside >= clear:
            return at
    raise ConfigError(
        f"phantom: a {nodule.margin} nodule of {nodule.size_mm:g} mm does not fit into the"
        f" {nodule.zone} {nodule.depth} half of the {nodule.side} lung at the {level} level;"
        " make it smaller or move it"
    )


def _lobulated(x: Field, y: Field, centre: Point, radius: float, along: Point) -> Field:
    """Distance from a rounded star of four lobes; opposite ones lie ``2 * radius`` apart."""
    dx, dy = x - centre.x, y - centre.y
    far = np.maximum(np.sqrt(dx * dx + dy * dy), 1e-9)
    # The real part of ((u + iv) / r)^4 is the cosine of four times the angle.
    u, v = (dx * along.x + dy * along.y) / far, (dy * along.x - dx * along.y) / far
    square_real, square_imaginary = u * u - v * v, 2 * u * v
    cosine = square_real * square_real - square_imaginary * square_imaginary
    mean = radius / (1 + _LOBE_DEPTH)
    edge: Field = far - mean * (1 + _LOBE_DEPTH * cosine)
    return edge
