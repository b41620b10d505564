"""A phantom's slice in Hounsfield units, and as a picture with a window and a scale bar."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np

from soma_bench.agents.pictures import PhantomPicture, PhantomSlice, WindowName
from soma_bench.cases.draws import Draws
from soma_bench.cases.phantom.anatomy import AIR, BLOOD, draw_body, draw_distractors, vessels
from soma_bench.cases.phantom.geometry import Canvas, grid
from soma_bench.cases.phantom.nodules import place
from soma_bench.providers.images import WINDOWS
from soma_bench.types import Image

SIZE_PX = 512
SCALE_BAR_MM = 50
NOISE_HU = 14.0
"""Standard deviation of the noise."""

_GLYPHS = {
    "0": ("01110", "10001", "10001", "10001", "10001", "10001", "01110"),
    "5": ("11111", "10000", "11110", "00001", "00001", "10001", "01110"),
    "m": ("00000", "00000", "11010", "10101", "10101", "10101", "10101"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    " ": ("00000",) * 7,
}
_BAR_LEFT, _BAR_TOP = 16, 492


def hounsfield(piece: PhantomSlice) -> np.ndarray:
    """The slice, 512 by 512 whole Hounsfield units; the patient's left is on the right.

    Raises:
        ConfigError: a nodule does not fit where it should lie.
    """
    x, y = grid(SIZE_PX, piece.pixel_spacing_mm)
    canvas = Canvas(np.full_like(x, AIR), x, y)
    draw_body(canvas, piece.level)
    placed = place(piece)
    for vessel in vessels(Draws(piece.seed, "vessels"), piece.level):
        # A vessel that ran into a nodule would change its size.
        if all(vessel.distance_mm(nodule.centre) > nodule.reach_mm + 3 for nodule in placed):
            canvas.fill(vessel.shape, BLOOD, vessel.around)
    for nodule in placed:
        nodule.draw(canvas)
    draw_distractors(canvas, Draws(piece.seed, "distractors"), piece.level)
    hu = canvas.hu + NOISE_HU * Draws(piece.seed, "noise").noise((SIZE_PX, SIZE_PX))
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def pixels(hu: np.ndarray, window: WindowName, spacing_mm: float) -> np.ndarray:
    """Grey values from 0 to 255, with a scale bar of 50 mm and the patient's sides marked."""
    centre, width = WINDOWS[window]
    share = np.clip((hu - (centre - width / 2)) / width, 0.0, 1.0)
    grey = np.rint(share * 255).astype(np.uint8)
    length = round(SCALE_BAR_MM / spacing_mm)
    grey[_BAR_TOP : _BAR_TOP + 3, _BAR_LEFT : _BAR_LEFT + length] = 255
    for end in (_BAR_LEFT, _BAR_LEFT + length - 1):
        grey[_BAR_TOP - 4 : _BAR_TOP + 7, end] = 255
    _write(grey, f"{SCALE_BAR_MM} mm", _BAR_TOP - 22, _BAR_LEFT)
    _write(grey, "R", 12, 12)
    _write(grey, "L", 12, SIZE_PX - 24)
    return grey


@lru_cache(maxsize=128)
def picture(wanted: PhantomPicture) -> Image:
    """The PNG of a phantom's slice.

    Its grey values are the same everywhere; its bytes are for one build of Pillow's zlib.

    Raises:
        ConfigError: a nodule does not fit where it should lie.
    """
    from PIL import Image as Pillow

    piece = wanted.slice
    grey = pixels(hounsfield(piece), wanted.window, piece.pixel_spacing_mm)
    stream = io.BytesIO()
    Pillow.fromarray(grey).save(stream, format="PNG", compress_level=9)
    return Image(stream.getvalue(), "image/png")


def _write(grey: np.ndarray, text: str, top: int, left: int) -> None:
    """Letters of our own, twice enlarged: a font's rendering would differ between machines."""
    for number, letter in enumerate(text):
        shape = np.array([[mark == "1" for mark in row] for row in _GLYPHS[letter]])
        shape = shape.repeat(2, axis=0).repeat(2, axis=1)
        at = left + 12 * number
        grey[top : top + 14, at : at + 10][shape] = 255
