"""The phantom: what its parameters say is what can be measured in its pictures."""

from __future__ import annotations

import hashlib
import io
import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import ValidationError
from scipy import ndimage

from soma_bench.agents.pictures import PhantomNodule, PhantomPicture, PhantomSlice
from soma_bench.agents.radiologist import AGENT, RadiologistInput, Region
from soma_bench.cases import phantom
from soma_bench.cases.draws import Draws
from soma_bench.cases.images import load_images
from soma_bench.cases.phantom.anatomy import hilum
from soma_bench.cases.phantom.nodules import CENTRAL_MM, HU, place
from soma_bench.cases.radiologist import RadiologistCase, RadiologistReference
from soma_bench.errors import ConfigError
from soma_bench.sweeps.plan import load_suites, make_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.types import ModelIdentity

LUNG_HU = -860


def nodule(**changes: object) -> PhantomNodule:
    usual = {
        "size_mm": 12.0,
        "side": "left",
        "depth": "anterior",
        "zone": "peripheral",
        "margin": "smooth",
        "density": "solid",
    }
    return PhantomNodule.model_validate({**usual, **changes})


def piece(*nodules: PhantomNodule, **changes: object) -> PhantomSlice:
    usual = {"seed": 5, "level": "middle", "pixel_spacing_mm": 0.7, "nodules": nodules}
    return PhantomSlice.model_validate({**usual, **changes})


@cache
def slice_hu(of: PhantomSlice) -> np.ndarray:
    return ndimage.gaussian_filter(phantom.hounsfield(of).astype(float), 0.6)


def pixel_of(place_mm: float, of: PhantomSlice) -> float:
    return (phantom.SIZE_PX - 1) / 2 + place_mm / of.pixel_spacing_mm


def blob(of: PhantomSlice, value_hu: float) -> np.ndarray:
    """Pixels brighter than halfway between lung and ``value_hu``, joined to the nodule's centre."""
    parts, _ = ndimage.label(slice_hu(of) > (LUNG_HU + value_hu) / 2)
    centre = place(of)[0].centre
    found = parts[round(pixel_of(centre.y, of)), round(pixel_of(centre.x, of))]
    assert found, "something bright is where the nodule should be"
    return parts == found


def longest_mm(of: PhantomSlice, inside_hu: float, outside_hu: float = LUNG_HU) -> float:
    """Longest straight way through the centre from half maximum to half maximum."""
    centre = place(of)[0].centre
    steps = np.arange(0, 25 / of.pixel_spacing_mm, 0.1)
    angles = np.arange(0, 2 * np.pi, np.pi / 60)[:, None]
    rows = pixel_of(centre.y, of) + np.sin(angles) * steps
    columns = pixel_of(centre.x, of) + np.cos(angles) * steps
    profiles = ndimage.map_coordinates(slice_hu(of), [rows, columns], order=1)
    first = np.argmax(profiles < (inside_hu + outside_hu) / 2, axis=1)
    radii = steps[first] * of.pixel_spacing_mm
    return float((radii[:60] + radii[60:]).max())


@pytest.mark.parametrize("size_mm", [6.0, 8.0, 12.0, 20.0, 28.0])
@pytest.mark.parametrize(
    ("margin", "density"), [("smooth", "solid"), ("lobulated", "solid"), ("smooth", "ground-glass")]
)
def test_half_maximum_measurement_gives_back_the_longest_diameter(size_mm, margin, density):
    errors = []
    for seed in range(3):
        of = piece(nodule(size_mm=size_mm, margin=margin, density=density), seed=seed)
        errors.append(longest_mm(of, HU[density]) - size_mm)
    assert abs(np.mean(errors)) < 0.3
    assert np.abs(errors).max() < 0.6


def test_core_of_a_part_solid_nodule_is_half_as_wide_as_the_whole():
    of = piece(nodule(size_mm=20.0, density="part-solid"))
    core = longest_mm(of, HU["solid"], HU["part-solid"])
    assert core == pytest.approx(10, abs=0.5)
    assert longest_mm(of, HU["part-solid"]) == pytest.approx(20, abs=0.5)


def test_spiculae_reach_beyond_the_stated_body():
    of = piece(nodule(size_mm=20.0, margin="spiculated"))
    assert longest_mm(of, HU["solid"]) > 22


@pytest.mark.parametrize(
    ("level", "side", "depth", "zone"),
    list(
        product(
            ("upper", "middle", "lower"),
            ("left", "right"),
            ("anterior", "posterior"),
            ("central", "peripheral"),
        )
    ),
)
def test_nodule_lies_in_the_side_half_and_zone_that_it_should(level, side, depth, zone):
    for seed in range(2):
        of = piece(nodule(side=side, depth=depth, zone=zone), level=level, seed=seed)
        rows, columns = np.nonzero(blob(of, HU["solid"]))
        middle = (phantom.SIZE_PX - 1) / 2
        x = (columns.mean() - middle) * of.pixel_spacing_mm
        y = (rows.mean() - middle) * of.pixel_spacing_mm
        assert (x > 0) == (side == "left"), "the patient's left is on the picture's right"
        assert (y < 0) == (depth == "anterior")
        root = hilum(side)
        assert (np.hypot(x - root.x, y - root.y) < CENTRAL_MM) == (zone == "central")
        assert rows.size * of.pixel_spacing_mm**2 == pytest.approx(np.pi * 36, rel=0.2)


def test_slice_without_nodules_has_nothing_bright_and_wide_in_its_lungs():
    for seed, level in product(range(2), ("upper", "middle", "lower")):
        of = piece(level=level, seed=seed)
        assert phantom.expected_findings(of) == ()
        hu = phantom.hounsfield(of)
        wide = ndimage.binary_opening(hu > -400, np.ones((6, 6)))
        air = ndimage.binary_fill_holes(hu > -500) & (hu < -500)
        parts, _ = ndimage.label(ndimage.binary_closing(air, np.ones((3, 3)), iterations=4))
        sizes = ndimage.sum(np.ones_like(parts), parts, [1, 2, 3, 4])
        lungs = np.isin(parts, 1 + np.argsort(sizes)[-2:])
        inner = ndimage.binary_erosion(ndimage.binary_fill_holes(lungs), iterations=8)
        # The roots of the vessels, where many meet, lie at the hila.
        columns = np.abs(np.arange(phantom.SIZE_PX) - 255.5) * of.pixel_spacing_mm > 45
        assert inner.sum() > 20_000
        assert not (wide & inner & columns).any()


def test_windows_map_their_ends_to_black_and_white():
    hu = np.array([[-1350, -600, 150], [-160, 40, 240]]).repeat(300, 0).repeat(300, 1)
    lung, soft = phantom.pixels(hu, "lung", 0.7), phantom.pixels(hu, "mediastinal", 0.7)
    assert [lung[200, 150], lung[200, 450], lung[200, 750]] == [0, 128, 255]
    assert [soft[400, 150], soft[400, 450], soft[400, 750]] == [0, 128, 255]


@pytest.mark.parametrize("spacing_mm", [0.65, 0.7, 0.8, 1.0])
def test_scale_bar_is_50_mm_long(spacing_mm):
    grey = phantom.pixels(np.full((512, 512), -1000), "lung", spacing_mm)
    columns = np.nonzero(grey[493] == 255)[0]
    assert np.all(np.diff(columns) == 1)
    assert len(columns) * spacing_mm == pytest.approx(phantom.SCALE_BAR_MM, abs=spacing_mm)


def test_same_parameters_give_the_same_bits_and_another_seed_gives_others():
    of = piece(nodule(margin="spiculated"), nodule(side="right", density="part-solid"))
    first, again = phantom.hounsfield(of), phantom.hounsfield(of)
    other = phantom.hounsfield(of.model_copy(update={"seed": 6}))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    # Fixed, so that a change of the phantom is never an accident.
    digest = hashlib.sha256(first.astype("<i2").tobytes()).hexdigest()
    assert digest[:16] == DIGEST


DIGEST = "4e3083218a7ae5f2"


def test_draws_are_the_same_for_ever_and_every_value_comes_up():
    draws = Draws(7, "test")
    assert [draws.below(100) for _ in range(6)] == DRAWN
    assert {draws.below(5) for _ in range(200)} == set(range(5))
    noise = Draws(7, "noise").noise((300, 300))
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)


DRAWN = [33, 90, 15, 51, 31, 20]


def test_picture_is_a_png_that_a_model_can_be_sent():
    wanted = PhantomPicture(window="lung", slice=piece(nodule()))
    image = phantom.picture(wanted)
    assert image.media_type == "image/png"
    with Pillow.open(io.BytesIO(image.data)) as opened:
        assert (opened.size, opened.mode) == ((512, 512), "L")
    assert phantom.picture(PhantomPicture.model_validate_json(wanted.model_dump_json())) is image


def test_nodule_that_does_not_fit_is_refused_by_what_it_is():
    huge = nodule(size_mm=30.0, margin="spiculated", depth="posterior")
    with pytest.raises(
        ConfigError, match="spiculated nodule of 30 mm does not fit into the periph"
    ):
        phantom.hounsfield(piece(huge, level="upper"))


def test_two_nodules_in_one_half_of_a_lung_are_refused():
    with pytest.raises(ValidationError, match="same half of one lung"):
        piece(nodule(), nodule(size_mm=6.0))


def test_measured_region_has_the_area_of_what_is_drawn():
    for margin in ("smooth", "lobulated"):
        of = piece(nodule(size_mm=22.0, margin=margin))
        region = phantom.measured_regions(of)[-1]
        assert region.area_px == pytest.approx(blob(of, HU["solid"]).sum(), rel=0.04)
        assert region.mean_hu == pytest.approx(30, abs=30)
        assert region.diameter_mm == 22


@pytest.mark.parametrize(
    ("level", "side", "depth", "where"),
    [
        ("upper", "left", "posterior", "upper lobe"),
        ("middle", "right", "anterior", "middle lobe"),
        ("lower", "left", "anterior", "lingula"),
        ("middle", "right", "posterior", "lower lobe"),
    ],
)
def test_location_follows_the_rule_that_the_agent_is_told(level, side, depth, where):
    found = phantom.expected_findings(piece(nodule(side=side, depth=depth), level=level))
    assert [finding.location for finding in found] == [where]


# What the agent is shown.


def case(of: PhantomSlice) -> RadiologistCase:
    return RadiologistCase(
        id="p-1",
        agent="radiologist",
        input=RadiologistInput(
            exam="Chest CT, one slice",
            regions=phantom.measured_regions(of),
            pixel_spacing_mm=of.pixel_spacing_mm,
            image=PhantomPicture(window="lung", slice=of),
        ),
        reference=RadiologistReference(
            findings=phantom.expected_findings(of), technical_quality="good"
        ),
    )


def test_model_that_sees_gets_the_image_and_no_measurement_and_the_others_the_regions():
    shown = case(piece(nodule()))
    images = load_images(shown, Path())
    seeing = AGENT.messages(shown.input, images)[-1]
    blind = AGENT.messages(shown.input)[-1]
    assert seeing.images == images
    assert len(images) == 1
    assert "Regions" not in seeing.content
    assert "12" not in seeing.content, "the size is to be measured"
    assert "left" not in seeing.content.replace("lingula (left)", "")
    assert "middle level" in seeing.content
    assert "Pixel spacing: 0.7 mm" in seeing.content
    assert blind.images == ()
    assert "pixels" in blind.content
    assert "Pixel spacing: 0.7 mm" in blind.content


def test_plan_shows_the_image_to_models_that_see_and_to_no_others(tmp_path):
    (tmp_path / "slices.jsonl").write_text(case(piece(nodule())).model_dump_json(), "utf-8")
    sweep = sweep_from(
        {
            "name": "seeing",
            "suites": {"radiologist": "slices.jsonl"},
            "targets": [{"provider": "ollama", "model": name} for name in ("eye", "ear")],
        },
        "sweep",
    )
    identity = ModelIdentity(weights_digest=None, chat_template=None, engine="test")
    eye, ear = ("ollama", "eye"), ("ollama", "ear")
    plan = make_plan(
        sweep,
        load_suites(sweep, tmp_path),
        {eye: identity, ear: identity},
        seeing=frozenset({eye}),
    )
    shown = {t.target.model: plan.request(t).messages[-1] for t in plan.trials}
    assert len(shown["eye"].images) == 1
    assert shown["ear"].images == ()
    assert "Regions" in shown["ear"].content
    blind = make_plan(sweep, plan.suites, plan.identities)
    same = [a.key == b.key for a, b in zip(plan.trials, blind.trials, strict=True)]
    assert same == [False, True], "what is shown is part of a trial's key"


def test_case_with_a_phantom_survives_writing_and_reading():
    shown = case(piece(nodule(), nodule(side="right", size_mm=7.0)))
    again = RadiologistCase.model_validate_json(json.dumps(shown.model_dump(mode="json")))
    assert again == shown


def test_region_in_pixels_without_their_spacing_is_refused():
    regions = (
        Region(id="R1", label="nodule", structure="left lung", area_px=90, centroid_mm=(60, 0, 0)),
    )
    with pytest.raises(ValidationError, match="R1 is counted in pixels and pixel_spacing_mm is"):
        RadiologistInput(exam="Chest CT", regions=regions)


@pytest.mark.parametrize("areas", [{}, {"area_px": 90, "area_mm2": 40.0}])
def test_region_with_no_area_or_with_two_is_refused(areas):
    with pytest.raises(ValidationError, match="area_mm2 or area_px"):
        Region(id="R1", label="nodule", structure="left lung", centroid_mm=(60, 0, 0), **areas)


def test_spacing_that_is_not_the_images_is_refused():
    of = piece(nodule())
    with pytest.raises(ValidationError, match="is not that of the image's slice"):
        RadiologistInput(
            exam="Chest CT",
            regions=phantom.measured_regions(of),
            pixel_spacing_mm=0.9,
            image=PhantomPicture(window="lung", slice=of),
        )
