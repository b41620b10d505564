"""The picture in a request: base64, with or without a data URL around it."""

from __future__ import annotations

import binascii
import io
import re
from pathlib import Path

from soma_bench.errors import ConfigError
from soma_bench.providers.images import MAX_IMAGE_BYTES, read_image
from soma_bench.service.failures import RequestError
from soma_bench.types import Image

_FIELD = Path("final_image")
"""What errors call it."""
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<more>(?:;[^;,]*)*),")
_MEDIA_TYPES = ("image/", "application/dicom", "application/octet-stream")
_MAX_PIXELS = 64_000_000
_JPEG_QUALITY = 92


def read_picture(text: str) -> Image:
    """The picture that a request carries, without anything that its file says besides pixels.

    WebP, which browsers make and few backends read, becomes PNG; so does a PNG or JPEG file that is
    longer than vendors take, and JPEG where that is still too long.

    Raises:
        RequestError: it is not base64, not a picture, broken or too large; the client is told.
    """
    data = _decoded(text)
    try:
        if _is_webp(data) or (
            len(data) > MAX_IMAGE_BYTES and data[:3] in (b"\x89PN", b"\xff\xd8\xff")
        ):
            data = _coded_anew(data)
        return read_image(data, _FIELD)
    except ConfigError as error:
        raise RequestError(str(error)) from error


def prepare() -> None:
    """Load what the first picture would wait for."""
    from PIL import Image as Pillow

    Pillow.init()


def _decoded(text: str) -> bytes:
    found = _DATA_URL.match(text[:200])
    if found is not None:
        media_type = (found["type"] or "text/plain").lower()
        if not media_type.startswith(_MEDIA_TYPES):
            raise RequestError(
                f"final_image: is {media_type}; send a PNG, JPEG, WebP or DICOM image"
            )
        if ";base64" not in found["more"].lower():
            raise RequestError("final_image: is a data URL without base64")
        text = text[found.end() :]
    try:
        raw = re.sub(r"\s+", "", text).encode("ascii")
        data = binascii.a2b_base64(raw, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise RequestError("final_image: is not base64; was it cut off?") from error
    if not data:
        raise RequestError("final_image: is empty")
    return data


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _coded_anew(data: bytes) -> bytes:
    """The same pixels as PNG, or as JPEG where that is too long."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=["WEBP", "PNG", "JPEG"]) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ConfigError(
                    f"{_FIELD}: has {picture.width} x {picture.height} pixels, which is too large"
                )
            picture.load()
            pixels = picture.convert("L" if picture.mode in ("L", "1") else "RGB")
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise ConfigError(f"{_FIELD}: is a broken image: {error}") from error
    encoded = io.BytesIO()
    pixels.save(encoded, format="PNG")
    if encoded.tell() > MAX_IMAGE_BYTES:
        encoded = io.BytesIO()
        pixels.save(encoded, format="JPEG", quality=_JPEG_QUALITY)
    return encoded.getvalue()
