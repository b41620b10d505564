"""Radiologist: what does the segmentation of a chest CT show?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from soma_bench.agents.base import (
    Agent,
    MaybeRevision,
    Strict,
    answer_schema,
    json_parser,
    json_writer,
    prompt_text,
    render_revision,
)
from soma_bench.agents.pictures import PhantomPicture, Picture, Spacing

Location = Literal[
    "upper lobe",
    "middle lobe",
    "lower lobe",
    "lingula",
    "hilum",
    "mediastinum",
    "pleura",
    "other",
]
Laterality = Literal["left", "right", "bilateral", "midline"]
Kind = Literal["nodule", "mass", "opacity", "lymph node", "effusion"]
Characteristic = Literal[
    "solid",
    "part-solid",
    "ground-glass",
    "calcified",
    "cavitary",
    "smooth",
    "lobulated",
    "spiculated",
]
Margin = Literal["smooth", "lobulated", "spiculated"]
Severity = Literal["low", "moderate", "high"]
Quality = Literal["good", "limited", "poor"]

Percent = Annotated[int, Field(ge=0, le=100)]
Identifier = Annotated[str, Field(min_length=1, max_length=8)]
Coordinate = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class Region(Strict):
    """One region of a segmentation, measured."""

    id: Identifier
    label: Annotated[str, Field(min_length=1, max_length=40)]
    """What the segmentation takes it for, such as ``nodule`` or ``aorta``."""
    structure: Annotated[str, Field(min_length=1, max_length=60)]
    """The anatomical structure it lies in, such as ``right upper lobe``."""
    area_mm2: Annotated[float, Field(gt=0, le=200_000, allow_inf_nan=False)] | None = None
    """Area in the axial slice where it is largest."""
    area_px: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """The same area in pixels, where the mask was not measured in millimetres."""
    diameter_mm: Annotated[float, Field(ge=1, le=300, allow_inf_nan=False)] | None = None
    """Longest diameter in that slice; None where only the area was measured."""
    centroid_mm: tuple[Coordinate, Coordinate, Coordinate]
    """x to the patient's left from the midline, y to the back, z to the head."""
    mean_hu: Annotated[int, Field(ge=-1024, le=3071)] | None = None
    """Mean attenuation in Hounsfield units."""
    margin: Margin | None = None

    @model_validator(mode="after")
    def _has_one_area(self) -> Region:
        if (self.area_mm2 is None) == (self.area_px is None):
            raise ValueError("give area_mm2 or area_px, and not both")
        return self


class RadiologistInput(Strict):
    """An examination and what its segmentation found."""

    exam: Annotated[str, Field(min_length=1, max_length=200)]
    """Modality, technique and anything that limits it."""
    clinical_context: Annotated[str, Field(max_length=1000)] = ""
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=20)]
    pixel_spacing_mm: Spacing | None = None
    """Of the slices that areas in pixels were counted in, and of the image."""
    image: Picture | None = None
    """A slice of the examination, for models that see; the others get the regions."""
    revision: MaybeRevision = None

    @model_validator(mode="after")
    def _pixels_have_a_size(self) -> RadiologistInput:
        spacing = self.pixel_spacing_mm
        counted = [region.id for region in self.regions if region.area_px is not None]
        if counted and spacing is None:
            raise ValueError(
                f"region {counted[0]} is counted in pixels and pixel_spacing_mm is missing:"
                " nobody can tell its size"
            )
        if isinstance(self.image, PhantomPicture) and self.image.slice.pixel_spacing_mm != spacing:
            raise ValueError("pixel_spacing_mm is not that of the image's slice")
        return self


class PictureInput(RadiologistInput):
    """An examination of which there is a picture, and perhaps nothing measured.

    It is what a live request brings. The picture itself goes with the call, for a model that sees.
    """

    regions: Annotated[tuple[Region, ...], Field(max_length=20)] = ()


class Finding(Strict):
    """One abnormality."""

    id: Identifier
    kind: Kind
    laterality: Laterality
    location: Location
    """Without its side, which is ``laterality``."""
    size_mm: Annotated[int, Field(ge=1, le=300)]
    """Longest diameter."""
    characteristics: Annotated[tuple[Characteristic, ...], Field(max_length=3)]
    severity: Severity
    confidence: Percent

    @property
    def place(self) -> str:
        """Where it lies, in words: ``left upper lobe``, ``mediastinum``."""
        return (
            self.location if self.laterality == "midline" else f"{self.laterality} {self.location}"
        )


class Measurement(Strict):
    """A measured figure of one finding."""

    finding: Identifier
    """The finding's id."""
    area_mm2: Annotated[int, Field(ge=1, le=200_000)]


class RadiologistOutput(Strict):
    """What the radiologist reports."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=6)]
    """Empty when nothing is abnormal."""
    measurements: Annotated[tuple[Measurement, ...], Field(max_length=6)]
    incidental: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=60)], ...], Field(max_length=2)
    ]
    """Findings beside the question, in a few words each."""
    technical_quality: Quality


def render_region(region: Region) -> str:
    """One line of text that says everything measured of a region."""
    diameter = "" if region.diameter_mm is None else f"diameter {region.diameter_mm:g} mm, "
    hu = "" if region.mean_hu is None else f", {region.mean_hu} HU"
    margin = "" if region.margin is None else f", {region.margin} margin"
    x, y, z = (round(value) for value in region.centroid_mm)
    area = f"{region.area_px} pixels" if region.area_mm2 is None else f"{region.area_mm2:g} mm2"
    return (
        f"{region.id}: {region.label} in {region.structure}, {diameter}"
        f"area {area}, centroid ({x}, {y}, {z}) mm{hu}{margin}"
    )


def _render(inputs: RadiologistInput) -> str:
    lines = _exam_lines(inputs)
    if inputs.pixel_spacing_mm is not None:
        lines.append(
            f"Pixel spacing: {inputs.pixel_spacing_mm:g} mm (area in mm2 = pixels x spacing squared)"
        )
    lines += [
        "Regions:",
        *(map(render_region, inputs.regions) if inputs.regions else ["none measured"]),
    ]
    return "\n".join(lines + render_revision(inputs.revision))


def _render_with_image(inputs: RadiologistInput) -> str:
    """The same question where the image itself is shown instead of what was measured in it."""
    lines = _exam_lines(inputs)
    if isinstance(inputs.image, PhantomPicture):
        piece = inputs.image.slice
        lines += [
            f"Image: one axial slice, {inputs.image.window} window, {piece.level} level;"
            " R and L mark the patient's sides, front at the top; the scale bar is 50 mm.",
            "Report every nodule in the lungs. location at the upper level: upper lobe. At the middle"
            " and lower level: in the front half of the lung middle lobe (right) or lingula (left),"
            " in the back half lower lobe.",
        ]
    elif inputs.image is not None:
        lines.append(f"Image: {inputs.image.note or 'one slice of the examination'}")
    if inputs.pixel_spacing_mm is not None:
        lines.append(f"Pixel spacing: {inputs.pixel_spacing_mm:g} mm")
    return "\n".join(lines + render_revision(inputs.revision))


def _exam_lines(inputs: RadiologistInput) -> list[str]:
    lines = [f"Exam: {inputs.exam}"]
    if inputs.clinical_context:
        lines.append(f"Context: {inputs.clinical_context}")
    return lines


AGENT = Agent(
    name="radiologist",
    input_type=RadiologistInput,
    output_type=RadiologistOutput,
    system=prompt_text("radiologist"),
    examples=(
        (
            RadiologistInput(
                exam="Chest CT without contrast, 1 mm slices",
                clinical_context="Persistent cough.",
                regions=(
                    Region(
                        id="R1",
                        label="nodule",
                        structure="left lower lobe",
                        area_mm2=143,
                        diameter_mm=14,
                        centroid_mm=(71, 38, -64),
                        mean_hu=35,
                        margin="lobulated",
                    ),
                ),
            ),
            RadiologistOutput(
                findings=(
                    Finding(
                        id="F1",
                        kind="nodule",
                        laterality="left",
                        location="lower lobe",
                        size_mm=14,
                        characteristics=("solid", "lobulated"),
                        severity="moderate",
                        confidence=90,
                    ),
                ),
                measurements=(Measurement(finding="F1", area_mm2=143),),
                incidental=(),
                technical_quality="good",
            ),
        ),
    ),
    render=_render,
    render_with_image=_render_with_image,
    write=json_writer,
    parse=json_parser(RadiologistOutput),
    schema=answer_schema(RadiologistOutput),
    max_tokens=512,
)
