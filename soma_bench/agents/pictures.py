"""Pictures that an input refers to: by the parameters of a phantom, or by a file's path.

A picture's bytes are loaded elsewhere and handed to the agent, which calls nobody.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from soma_bench.agents.base import Strict

Level = Literal["upper", "middle", "lower"]
Depth = Literal["anterior", "posterior"]
Side = Literal["left", "right"]
Zone = Literal["central", "peripheral"]
WindowName = Literal["lung", "mediastinal"]
Density = Literal["solid", "part-solid", "ground-glass"]

Spacing = Annotated[float, Field(ge=0.1, le=5, allow_inf_nan=False)]
"""Millimetres from the centre of one pixel to the next, both ways."""


class PhantomNodule(Strict):
    """A nodule of a phantom, by what it is."""

    size_mm: Annotated[float, Field(ge=3, le=30, allow_inf_nan=False)]
    """Longest axial diameter of the body, spiculae left out; of a part-solid nodule that of the
    whole, whose solid core is half as wide."""
    side: Side
    depth: Depth
    """Which half of its lung holds its centre."""
    zone: Zone
    """Whether its centre lies within 58 mm of the hilum or further out."""
    margin: Literal["smooth", "lobulated", "spiculated"]
    density: Density


class PhantomSlice(Strict):
    """An axial slice through a phantom of the chest."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """Decides noise, vessels, distractors and the nodules' exact positions."""
    level: Level
    """Above, at or below the hila."""
    pixel_spacing_mm: Annotated[float, Field(ge=0.6, le=1.5, allow_inf_nan=False)]
    nodules: Annotated[tuple[PhantomNodule, ...], Field(max_length=2, strict=False)]

    @model_validator(mode="after")
    def _one_a_quarter(self) -> PhantomSlice:
        if len({(nodule.side, nodule.depth) for nodule in self.nodules}) < len(self.nodules):
            raise ValueError("two nodules lie in the same half of one lung")
        return self


class PhantomPicture(Strict):
    """A slice of a phantom as a picture, made when it is needed."""

    kind: Literal["phantom"] = "phantom"
    window: WindowName
    slice: PhantomSlice


class PictureFile(Strict):
    """A PNG, JPEG or DICOM file."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
    """From the folder of the suite."""
    window: WindowName | None = None
    """For DICOM only; None for the file's own."""
    note: Annotated[str, Field(max_length=500)] = ""
    """What a reader must know of the picture: plane, level, orientation."""


Picture = Annotated[PhantomPicture | PictureFile, Field(discriminator="kind")]
