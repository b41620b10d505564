"""The phantom's body: skin, wall, ribs, spine, mediastinum, lungs, vessels, and distractors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np

from soma_bench.agents.pictures import Level, Side
from soma_bench.cases.draws import Draws
from soma_bench.cases.phantom.geometry import (
    ACROSS,
    Canvas,
    Field,
    Point,
    circle,
    direction,
    ellipse,
    rod,
)

AIR, LUNG, FAT, MUSCLE, BLOOD, BONE, METAL = -1000.0, -860.0, -100.0, 50.0, 42.0, 320.0, 1500.0
"""Hounsfield units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where things lie at one level, in millimetres."""

    lung_x: float
    lung_a: float
    lung_b: float
    middle: tuple[float, float, float, float]
    """Centre and semi-axes of what lies between the lungs: vessels or the heart."""


PLANS: dict[Level, Plan] = {
    "upper": Plan(lung_x=66, lung_a=48, lung_b=66, middle=(0, -12, 27, 34)),
    "middle": Plan(lung_x=70, lung_a=54, lung_b=80, middle=(6, -22, 34, 34)),
    "lower": Plan(lung_x=73, lung_a=57, lung_b=84, middle=(9, -36, 42, 34)),
}
SIDES: tuple[Side, ...] = ("right", "left")
SIGN: dict[Side, int] = {"left": 1, "right": -1}
"""Of x: the patient's left lies on the picture's right."""

_SPINE = Point(0, 60)
_AORTA = Point(24, 42)


def hilum(side: Side) -> Point:
    """Where a lung's vessels come from."""
    return Point(SIGN[side] * 26.0, 6.0)


def lung(x: Field, y: Field, level: Level, side: Side) -> Field:
    """Distance from a lung."""
    plan = PLANS[level]
    whole = ellipse(x, y, Point(SIGN[side] * plan.lung_x, 0), plan.lung_a, plan.lung_b)
    cx, cy, a, b = plan.middle
    for other in (
        ellipse(x, y, Point(cx, cy), a, b),
        circle(x, y, _SPINE, 26),
        circle(x, y, _AORTA, 15),
    ):
        whole = np.maximum(whole, -other)
    return whole


def draw_body(canvas: Canvas, level: Level) -> None:
    """Everything but the lungs' vessels."""
    plan = PLANS[level]
    reach = plan.lung_x + plan.lung_a
    middle = Point(0, 2)
    for a, b, value in (
        (reach + 36, plan.lung_b + 40, FAT),
        (reach + 22, plan.lung_b + 30, MUSCLE),
        (40.0, plan.lung_b - 10, FAT),
    ):
        canvas.fill(partial(ellipse, centre=middle, a=a, b=b), value)
    for side in SIDES:
        canvas.fill(partial(lung, level=level, side=side), LUNG)
    cx, cy, a, b = plan.middle
    _oval(canvas, Point(cx, cy), a - 2, b - 2, BLOOD)
    _oval(canvas, _AORTA, 12, 12, BLOOD)
    for centre, a, b in _airways(level):
        _oval(canvas, centre, a, b, AIR)
    for step in range(24):
        _draw_rib(canvas, step, plan)
    _draw_spine(canvas)


def _oval(
    canvas: Canvas, centre: Point, a: float, b: float, value: float, along: Point = ACROSS
) -> None:
    canvas.fill(lambda x, y: ellipse(x, y, centre, a, b, along), value, (centre, max(a, b)))


def _airways(level: Level) -> list[tuple[Point, float, float]]:
    return {
        "upper": [(Point(0, 14), 9.0, 8.0)],
        "middle": [(Point(-17, 14), 7.0, 5.5), (Point(15, 14), 6.5, 5.0)],
        "lower": [(Point(-27, 16), 3.2, 3.0), (Point(29, 18), 3.0, 2.8)],
    }[level]


def _on_ribs(step: int, plan: Plan) -> Point:
    """A place on the ring of the ribs."""
    at = direction(step, 24)
    return Point(at.x * (plan.lung_x + plan.lung_a + 10), 2 + at.y * (plan.lung_b + 19))


def _draw_rib(canvas: Canvas, step: int, plan: Plan) -> None:
    """A rib cut across; none in front of the sternum or behind the spine."""
    at = direction(step, 24)
    if abs(at.x) < 0.2:
        return
    x, y = -at.y * (plan.lung_x + plan.lung_a + 10), at.x * (plan.lung_b + 19)
    length = math.sqrt(x * x + y * y)
    along = Point(x / length, y / length)
    _oval(canvas, _on_ribs(step, plan), 9.0, 3.6, 2 * BONE, along)
    _oval(canvas, _on_ribs(step, plan), 7.4, 2.0, BONE / 2, along)


def _draw_spine(canvas: Canvas) -> None:
    _oval(canvas, Point(0, 84), 24, 5, 1.4 * BONE)
    _oval(canvas, Point(0, 88), 4, 9, 1.4 * BONE)
    _oval(canvas, _SPINE, 19, 15, 1.6 * BONE)
    _oval(canvas, _SPINE, 17, 13, 0.6 * BONE)
    _oval(canvas, Point(0, 81), 8, 8, 25.0)


@dataclass(frozen=True, slots=True)
class Vessel:
    """A vessel of one lung, which ends where the lung does."""

    level: Level
    side: Side
    start: Point
    end: Point
    first: float
    """Half of its width at the start, in millimetres; it is thinner at its end."""

    def shape(self, x: Field, y: Field) -> Field:
        """Distance from the vessel."""
        whole = rod(x, y, self.start, self.end, self.first, 0.5)
        inside: Field = np.maximum(whole, lung(x, y, self.level, self.side))
        return inside

    @property
    def around(self) -> tuple[Point, float]:
        """A centre, and how far the vessel reaches from it."""
        return self.start, math.dist(astuple(self.start), astuple(self.end)) + self.first

    def distance_mm(self, place: Point) -> float:
        """From a place to the vessel."""
        x, y = np.array(place.x), np.array(place.y)
        return float(rod(x, y, self.start, self.end, self.first, 0.5))


def vessels(draws: Draws, level: Level) -> Iterator[Vessel]:
    """Vessels that fan out from the hila, thinner than any nodule; some meet the slice end on."""
    plan = PLANS[level]
    for side in SIDES:
        root, sign = hilum(side), SIGN[side]
        for step in range(-6, 7):
            toward = direction(step, 24)
            share = draws.between(0.45, 0.9)
            end = Point(
                root.x + sign * toward.x * share * plan.lung_a * 1.5,
                root.y + toward.y * share * plan.lung_b,
            )
            yield Vessel(level, side, root, end, draws.between(1.3, 1.7))
        for _ in range(16):
            at = Point(
                sign * (plan.lung_x + plan.lung_a * draws.between(-0.7, 0.7)),
                plan.lung_b * draws.between(-0.7, 0.7),
            )
            yield Vessel(level, side, at, Point(at.x + 0.1, at.y), draws.between(0.6, 1.2))


def draw_distractors(canvas: Canvas, draws: Draws, level: Level) -> None:
    """What looks like a nodule and lies in no lung: electrodes, a bone island, the table."""
    plan = PLANS[level]
    for _ in range(1 + draws.below(3)):
        at = direction(draws.below(9) + 14, 24)
        on_skin = Point(at.x * (plan.lung_x + plan.lung_a + 39), 2 + at.y * (plan.lung_b + 43))
        radius = draws.between(2.5, 4.5)
        _oval(canvas, on_skin, radius, radius, METAL)
    island = _on_ribs(draws.choice((1, 2, 3, 9, 10, 11, 13, 14, 15, 21, 22, 23)), plan)
    _oval(canvas, island, 2.6, 2.6, 3 * BONE)
    table = plan.lung_b + 46
    canvas.fill(lambda x, y: rod(x, y, Point(-150, table), Point(150, table), 2, 2), -200.0)
