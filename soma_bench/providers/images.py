"""Image files as requests carry them: PNG and JPEG pixel for pixel, DICOM as a windowed 8-bit PNG.

What kind a file is, its first bytes say, never its name. Only pixels go on, so that nobody's name
travels with them: of a DICOM file the PNG is made from the bare numbers, and from PNG and JPEG files
all text, EXIF and comments are taken out without touching how the pixels are coded.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from soma_bench.errors import ConfigError
from soma_bench.types import Image

if TYPE_CHECKING:
    import numpy as np

Preset = Literal["lung", "mediastinal"]
Window = tuple[float, float]
"""Centre and width, in the units of the rescaled pixels (Hounsfield units for CT)."""

WINDOWS: dict[Preset, Window] = {"lung": (-600.0, 1500.0), "mediastinal": (40.0, 400.0)}

MAX_IMAGE_BYTES = 5 * 2**20
"""Most that an encoded image may have; vendors refuse larger ones."""
_MAX_DICOM_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB"})
"""Chunks that say how the pixels look, and can say nothing else."""
_JPEG_SCAN, _JPEG_COMMENT = 0xDA, 0xFE
_JPEG_DROPPED = frozenset({*range(0xE1, 0xEE), 0xEF, _JPEG_COMMENT})
"""Application segments but JFIF's and Adobe's, which tell how colours are coded; and comments."""
_DICOM_AT, _DICOM = 128, b"DICM"
_HEAD_BYTES = _DICOM_AT + len(_DICOM)


def load_image(
    path: Path, *, window: Window | Preset | None = None, burned_in: bool = False
) -> Image:
    """Read an image file.

    Args:
        path: a PNG, JPEG or DICOM file.
        window: for DICOM, what becomes black and white: a centre and a width, or the name of a
            preset. Otherwise the file's own; a CT without one gets ``lung``, anything else its full
            range.
        burned_in: whether a DICOM file may be used that says that its very pixels show who the
            patient is.

    Raises:
        ConfigError: the file cannot be read, is broken, too large or of another kind; the window
            is none; or DICOM is asked for and pydicom is not installed.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            _check_size(path, head, path.stat().st_size)
            data = head + stream.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return read_image(data, path, window=window, burned_in=burned_in)


def read_image(
    data: bytes,
    path: Path,
    *,
    window: Window | Preset | None = None,
    burned_in: bool = False,
) -> Image:
    """The same for the bytes of a file.

    Args:
        data: the file's whole content.
        path: what errors call it.
        window: as for `load_image`.
        burned_in: likewise.

    Raises:
        ConfigError: as for `load_image`.
    """
    _check_size(path, data, len(data))
    if is_dicom(data):
        return Image(_png_of_dicom(path, data, window, burned_in=burned_in), "image/png")
    if window is not None:
        raise ConfigError(f"{path}: is not DICOM, and only DICOM images take a window")
    if data.startswith(_PNG):
        _check_encoded(path, data, "PNG")
        return Image(_bare_png(data), "image/png")
    if data.startswith(_JPEG):
        _check_encoded(path, data, "JPEG")
        return Image(_bare_jpeg(path, data), "image/jpeg")
    raise ConfigError(f"{path}: is not a PNG, JPEG or DICOM image")


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM."""
    return head[_DICOM_AT:_HEAD_BYTES] == _DICOM


def _check_size(path: Path, head: bytes, size: int) -> None:
    most = _MAX_DICOM_BYTES if is_dicom(head) else MAX_IMAGE_BYTES
    if size > most:
        raise ConfigError(
            f"{path}: has {size / 2**20:.1f} MiB; an image may have {most / 2**20:.0f}"
        )


def _check_encoded(path: Path, data: bytes, kind: str) -> None:
    """Decode an image to the last byte, and throw the pixels away."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=[kind]) as image:
            _check_pixels(path, image.width, image.height)
            image.load()
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise ConfigError(f"{path}: is a broken {kind} image: {error}") from error


def _bare_png(data: bytes) -> bytes:
    """A PNG, known to be whole, without its texts and without what stands after its end."""
    kept, at = [_PNG], len(_PNG)
    kind = b""
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if kind in _PNG_KEPT:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _bare_jpeg(path: Path, data: bytes) -> bytes:
    """A JPEG, known to be whole, without EXIF, comments and other makers' segments."""
    kept, at = [data[:2]], 2
    marker = 0
    while marker != _JPEG_SCAN:
        if at + 4 > len(data) or data[at] != 0xFF:
            raise ConfigError(f"{path}: is a JPEG with something between its segments (byte {at})")
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # fill bytes may stand before a marker
            end = at + 1
        elif marker not in _JPEG_DROPPED:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ConfigError(f"{path}: has {width} x {height} pixels, which is too large")


def _png_of_dicom(
    path: Path, data: bytes, window: Window | Preset | None, *, burned_in: bool
) -> bytes:
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut
    except ImportError as error:
        raise ConfigError(
            f"{path}: is DICOM, which needs pydicom; run: pip install 'soma-bench[dicom]'"
        ) from error
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        _check_kind(path, dataset, burned_in=burned_in)
        pixels = apply_modality_lut(dataset.pixel_array, dataset)
        limits, exact = _window(path, dataset, window, pixels)
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    except ConfigError:
        raise
    except Exception as error:  # what its decoders raise depends on the bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: is a broken DICOM image: {reason}") from error
    return _encode(path, _grey(pixels, limits, exact=exact, inverted=inverted))


def _check_kind(path: Path, dataset: Any, *, burned_in: bool) -> None:
    """Refuse what is no single grey picture, and what shows who the patient is.

    Raises:
        ConfigError: it is one of these.
    """
    if "PixelData" not in dataset:
        raise ConfigError(f"{path}: is DICOM without an image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ConfigError(f"{path}: has {frames} frames; take a file with a single slice")
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ConfigError(f"{path}: is a {dataset.PhotometricInterpretation} image and not grey")
    if dataset.get("BurnedInAnnotation") == "YES" and not burned_in:
        raise ConfigError(
            f"{path}: says that its pixels show who the patient is (BurnedInAnnotation); "
            "take another image, or allow it on purpose"
        )
    _check_pixels(path, int(dataset.Columns), int(dataset.Rows))


def _window(
    path: Path, dataset: Any, asked: Window | Preset | None, pixels: np.ndarray
) -> tuple[Window, bool]:
    """Centre and width, and whether they are of DICOM's kind ``LINEAR_EXACT``."""
    exact = False
    if isinstance(asked, str):
        if asked not in WINDOWS:
            raise ConfigError(f"window {asked!r} is not one of {', '.join(get_args(Preset))}")
        centre, width = WINDOWS[asked]
    elif asked is not None:
        centre, width = asked
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        exact = dataset.get("VOILUTFunction") == "LINEAR_EXACT"
    elif dataset.get("Modality") == "CT":
        centre, width = WINDOWS["lung"]
    else:
        low, high = float(pixels.min()), float(pixels.max())
        centre, width, exact = (low + high) / 2, max(high - low, 1.0), True
    least = 0.0 if exact else 1.0
    if not (abs(centre) < float("inf") and least < width < float("inf")):
        raise ConfigError(
            f"{path}: a window of centre {centre:g} and width {width:g} shows nothing; "
            f"the width must be above {least:g}"
        )
    return (centre, width), exact


def _first(value: Any) -> float:
    """A window's number; files may hold several windows, of which the first is the default."""
    return float(value) if isinstance(value, str | int | float) else float(value[0])


def _grey(pixels: np.ndarray, window: Window, *, exact: bool, inverted: bool) -> np.ndarray:
    """Pixels as 0 to 255, by DICOM's linear windows (PS3.3 C.11.2.1.2 and C.11.2.1.3.2)."""
    import numpy as np

    centre, width = window
    if not exact:
        centre, width = centre - 0.5, width - 1
    share = np.clip((pixels.astype(np.float64) - centre) / width + 0.5, 0.0, 1.0)
    return np.rint((1 - share if inverted else share) * 255).astype(np.uint8)


def _encode(path: Path, grey: np.ndarray) -> bytes:
    from PIL import Image as Pillow

    stream = io.BytesIO()
    Pillow.fromarray(grey).save(stream, format="PNG", optimize=True)
    data = stream.getvalue()
    if len(data) > MAX_IMAGE_BYTES:
        raise ConfigError(
            f"{path}: becomes a PNG of {len(data) / 2**20:.1f} MiB; an image may have {MAX_IMAGE_BYTES // 2**20}"
        )
    return data
