"""What is true of a phantom's slice: the findings, and the segmentation's measured regions.

The truth is the parameters. One slice cannot show where a lobe ends, so a finding's location
follows from the stated level and the half by a rule that the agent is told: at the upper level the
upper lobe; further down the middle lobe (right) or the lingula (left) in the anterior half of the
lung and the lower lobe in the posterior half.
"""

from __future__ import annotations

import numpy as np

from soma_bench.agents.pictures import Level, PhantomNodule, PhantomSlice
from soma_bench.agents.radiologist import Location, Region, Severity
from soma_bench.cases.phantom.anatomy import PLANS, SIDES, SIGN, lung
from soma_bench.cases.phantom.geometry import grid
from soma_bench.cases.phantom.nodules import Placed, place
from soma_bench.cases.phantom.render import SIZE_PX, hounsfield
from soma_bench.cases.radiologist import ExpectedFinding

_Z_MM = {"upper": 60.0, "middle": 0.0, "lower": -70.0}


def location(nodule: PhantomNodule, level: Level) -> Location:
    """The lobe that stands for where a nodule lies."""
    if level == "upper":
        return "upper lobe"
    if nodule.depth == "posterior":
        return "lower lobe"
    return "middle lobe" if nodule.side == "right" else "lingula"


def severity(nodule: PhantomNodule) -> Severity:
    """Low below 6 mm; else high from 15 mm or when spiculated; else moderate."""
    if nodule.size_mm < 6:
        return "low"
    return "high" if nodule.size_mm >= 15 or nodule.margin == "spiculated" else "moderate"


def expected_findings(piece: PhantomSlice) -> tuple[ExpectedFinding, ...]:
    """The slice's nodules as findings, in the order of its parameters."""
    return tuple(
        ExpectedFinding(
            kind="nodule",
            laterality=nodule.side,
            location=location(nodule, piece.level),
            size_mm=nodule.size_mm,
            characteristics=(nodule.density, nodule.margin),
            severity=severity(nodule),
        )
        for nodule in piece.nodules
    )


def mask(piece: PhantomSlice, placed: Placed) -> np.ndarray:
    """Pixels of a nodule's body, spiculae left out."""
    x, y = grid(SIZE_PX, piece.pixel_spacing_mm)
    return placed.body(x, y) < 0


def measured_regions(piece: PhantomSlice) -> tuple[Region, ...]:
    """Both lungs and each nodule as a segmentation measures them: areas in pixels.

    Raises:
        ConfigError: a nodule does not fit where it should lie.
    """
    x, y = grid(SIZE_PX, piece.pixel_spacing_mm)
    hu = hounsfield(piece)
    z = _Z_MM[piece.level]
    regions: list[Region] = []
    for side in SIDES:
        inside = lung(x, y, piece.level, side) < 0
        regions.append(
            Region(
                id=f"R{len(regions) + 1}",
                label="lung",
                structure=f"{side} lung",
                area_px=int(inside.sum()),
                centroid_mm=(SIGN[side] * PLANS[piece.level].lung_x, 0.0, z),
                mean_hu=round(float(hu[inside].mean())),
            )
        )
    for placed in place(piece):
        nodule, inside = placed.nodule, mask(piece, placed)
        part_solid = nodule.density == "part-solid"
        regions.append(
            Region(
                id=f"R{len(regions) + 1}",
                label="part-solid nodule" if part_solid else "nodule",
                structure=f"{nodule.side} {location(nodule, piece.level)}",
                area_px=int(inside.sum()),
                diameter_mm=nodule.size_mm,
                centroid_mm=(round(placed.centre.x, 1), round(placed.centre.y, 1), z),
                mean_hu=round(float(hu[inside].mean())),
                margin=nodule.margin,
            )
        )
    return tuple(regions)
