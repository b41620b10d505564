"""Slices of the phantom, and segmentations measured in pixels or millimetres."""

from __future__ import annotations

import math
from itertools import product

from soma_bench.agents.pictures import (
    Density,
    Depth,
    Level,
    PhantomNodule,
    PhantomPicture,
    PhantomSlice,
    Side,
    WindowName,
    Zone,
)
from soma_bench.agents.radiologist import (
    Characteristic,
    Kind,
    Laterality,
    Location,
    Margin,
    RadiologistInput,
    Region,
)
from soma_bench.cases import phantom
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws
from soma_bench.cases.generate.scenes import LATERAL, severity
from soma_bench.cases.radiologist import ExpectedFinding, RadiologistCase, RadiologistReference

_SIZES_MM = (5.0, 7.0, 8.0, 9.0, 11.0, 13.0, 15.0, 18.0, 21.0, 24.0)
_LARGEST_SPICULATED_MM = 20.0
_SPACINGS_MM = (0.7, 0.75, 0.8)
_DENSITIES: tuple[Density, ...] = ("solid", "part-solid", "ground-glass")
_MARGINS: tuple[Margin, ...] = ("smooth", "lobulated", "spiculated")
_LEVELS: tuple[Level, ...] = ("upper", "middle", "lower")
_SIDES: tuple[Side, ...] = ("left", "right")
_DEPTHS: tuple[Depth, ...] = ("anterior", "posterior")
_ZONES: tuple[Zone, ...] = ("central", "peripheral")
_FREE = _TWO = 12
"""Slices without a nodule, and with two."""
_SEGMENTED = 48


def generate(seed: int) -> list[RadiologistCase]:
    """48 slices with one nodule, 12 with two, 12 with none, and 48 segmentations without an image.

    Level, side, half and zone are crossed; density and margin are crossed and dealt over them, and
    so are sizes. Every second case of a kind is held out.
    """
    return [*_slices(Draws(seed, "slices")), *_segmentations(Draws(seed, "segmentations"))]


def _slices(draws: Draws) -> list[RadiologistCase]:
    places = list(product(_LEVELS, _SIDES, _DEPTHS, _ZONES)) * 2
    looks = draws.shuffled((list(product(_DENSITIES, _MARGINS)) * 6)[: len(places)])
    sizes = draws.shuffled((list(_SIZES_MM) * 5)[: len(places)])
    wanted: list[tuple[Level, tuple[PhantomNodule, ...]]] = [
        (level, (_nodule(size, side, depth, zone, density, margin),))
        for (level, side, depth, zone), (density, margin), size in zip(
            places, looks, sizes, strict=True
        )
    ]
    wanted += [(_LEVELS[number % 3], ()) for number in range(_FREE)]
    for number in range(_TWO):
        depth = _DEPTHS[number % 2]
        pair = tuple(
            _nodule(
                draws.choice(_SIZES_MM),
                side,
                depth if side == "left" else draws.choice(_DEPTHS),
                draws.choice(_ZONES),
                draws.choice(_DENSITIES),
                draws.choice(_MARGINS),
            )
            for side in _SIDES
        )
        wanted.append((_LEVELS[number % 3], pair))
    cases = []
    for number, (level, nodules) in enumerate(wanted, start=1):
        piece = PhantomSlice(
            seed=draws.below(1 << 32),
            level=level,
            pixel_spacing_mm=draws.choice(_SPACINGS_MM),
            nodules=nodules,
        )
        # The 48 places stand twice, once in each split; the other kinds alternate.
        held_out = number % 2 == 0 if number > 48 else number > 24
        cases.append(_slice_case(number, piece, "held_out" if held_out else "dev", draws))
    return draws.shuffled(cases)


def _nodule(
    size_mm: float, side: Side, depth: Depth, zone: Zone, density: Density, margin: Margin
) -> PhantomNodule:
    if margin == "spiculated":
        size_mm = min(size_mm, _LARGEST_SPICULATED_MM)
    return PhantomNodule(
        size_mm=size_mm, side=side, depth=depth, zone=zone, margin=margin, density=density
    )


def _slice_case(number: int, piece: PhantomSlice, split: Split, draws: Draws) -> RadiologistCase:
    solid = all(nodule.density == "solid" for nodule in piece.nodules)
    window: WindowName = "mediastinal" if solid and draws.below(3) == 0 else "lung"
    return RadiologistCase(
        id=f"radiologist-g-slice-{number:02}",
        agent="radiologist",
        input=RadiologistInput(
            exam="Chest CT phantom without contrast, one axial slice",
            regions=phantom.measured_regions(piece),
            pixel_spacing_mm=piece.pixel_spacing_mm,
            image=PhantomPicture(kind="phantom", window=window, slice=piece),
        ),
        reference=RadiologistReference(
            findings=phantom.expected_findings(piece), technical_quality="good"
        ),
        tags=("phantom", f"{len(piece.nodules)}-nodules", piece.level),
        split=split,
        cluster=f"slice-{number:02}",
    )


_EXAMS = ("Chest CT without contrast, 1 mm slices", "Low-dose chest CT, 1 mm slices")
_LIMITED = ", breathing artefacts at the bases"
_KINDS: tuple[Kind, ...] = ("nodule", "nodule", "mass", "opacity", "lymph node", "effusion")
_Z_MM: dict[Location, float] = {
    "upper lobe": 60,
    "lower lobe": -70,
    "middle lobe": -20,
    "lingula": -20,
    "hilum": 0,
    "pleura": -90,
}
_HU: dict[str, int] = {"solid": 35, "ground-glass": -620, "calcified": 320}
_SPACING_MM = 0.75


def _segmentations(draws: Draws) -> list[RadiologistCase]:
    """Zero to three abnormal regions; a third of them have an area only, a third pixels."""
    cases = []
    for number in range(1, _SEGMENTED + 1):
        in_pixels, area_only = number % 3 == 1, number % 3 == 2
        count = (0, 1, 1, 2, 2, 3)[number % 6]
        limited = number % 8 in (3, 4)
        regions = [_normal_region(draws, in_pixels=in_pixels)]
        truth: list[ExpectedFinding] = []
        for kind in draws.shuffled(_KINDS)[:count]:
            region, expected = _abnormal(
                kind, draws, {(f.laterality, f.location) for f in truth}, in_pixels, area_only
            )
            regions.append(region)
            truth.append(expected)
        named = [
            region.model_copy(update={"id": f"R{place}"})
            for place, region in enumerate(draws.shuffled(regions), start=1)
        ]
        order = [region.structure for region in named if region.label != "lung"]
        truth.sort(key=lambda f: order.index(f"{f.laterality} {f.location}"))
        cases.append(
            RadiologistCase(
                id=f"radiologist-g-regions-{number:02}",
                agent="radiologist",
                input=RadiologistInput(
                    exam=draws.choice(_EXAMS) + (_LIMITED if limited else ""),
                    regions=tuple(named),
                    pixel_spacing_mm=_SPACING_MM if in_pixels else None,
                ),
                reference=RadiologistReference(
                    findings=tuple(truth), technical_quality="limited" if limited else "good"
                ),
                tags=(
                    "regions",
                    f"{count}-findings",
                    "pixels" if in_pixels else "area-only" if area_only else "diameter",
                ),
                split="held_out" if (number // 6) % 2 else "dev",
                cluster=f"regions-{number:02}",
            )
        )
    return cases


def _normal_region(draws: Draws, *, in_pixels: bool) -> Region:
    side = draws.choice(LATERAL)
    area = 9000 + draws.below(4000)
    return Region(
        id="R0",
        label="lung",
        structure=f"{side} lung",
        centroid_mm=(72.0 if side == "left" else -72.0, 5.0, 0.0),
        mean_hu=-840 - draws.below(30),
        area_mm2=None if in_pixels else float(area),
        area_px=_pixels(area) if in_pixels else None,
    )


def _abnormal(
    kind: Kind,
    draws: Draws,
    taken: set[tuple[Laterality, Location]],
    in_pixels: bool,
    area_only: bool,
) -> tuple[Region, ExpectedFinding]:
    places: dict[Kind, tuple[Location, ...]] = {"lymph node": ("hilum",), "effusion": ("pleura",)}
    free: list[tuple[Laterality, Location]] = [
        (side, location)
        for side in LATERAL
        for location in places.get(kind, ("upper lobe", "lower lobe", _between(side)))
        if (side, location) not in taken
    ]
    side, location = draws.choice(free)
    low, high = {"mass": (32, 60), "opacity": (25, 70), "lymph node": (12, 24)}.get(kind, (4, 28))
    size = float(low + draws.below(high - low + 1))
    density: Characteristic = "solid"
    if kind == "nodule":
        density = draws.choice(("solid", "ground-glass", "calcified"))
    margin: Margin = draws.choice(_MARGINS[:2] if kind == "lymph node" else _MARGINS)
    if kind == "effusion":
        size += 12
    # Round where only the area was measured: then area and diameter say the same.
    area = math.pi / 4 * size**2 * (1.0 if in_pixels or area_only else draws.between(0.7, 0.98))
    sign = 1 if side == "left" else -1
    x = sign * (28.0 if location == "hilum" else 50.0 + draws.below(45))
    looks: tuple[Characteristic, ...] = () if kind == "effusion" else (density, margin)
    region = Region(
        id="R0",
        label=kind,
        structure=f"{side} {location}",
        centroid_mm=(x, float(draws.below(80) - 40), _Z_MM[location]),
        mean_hu=8 if kind == "effusion" else _HU[density] + draws.below(20),
        area_mm2=None if in_pixels else float(round(area)),
        area_px=_pixels(area) if in_pixels else None,
        diameter_mm=None if in_pixels or area_only else size,
        margin=None if kind == "effusion" else margin,
    )
    expected = ExpectedFinding(
        kind=kind,
        laterality=side,
        location=location,
        size_mm=size,
        characteristics=looks,
        severity=severity(size, looks),
    )
    return region, expected


def _between(side: Laterality) -> Location:
    return "middle lobe" if side == "right" else "lingula"


def _pixels(area_mm2: float) -> int:
    return round(area_mm2 / _SPACING_MM**2)
