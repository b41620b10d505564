"""The picture in a request: base64, with or without a data URL around it."""

from __future__ import annotations

import io
import re
from pathlib import Path

from soma_bench.errors import ConfigError
from soma_bench.providers.images import MAX_IMAGE_BYTES, MAX_PIXELS, is_dicom, read_image
from soma_bench.service.base64_files import Base64File, base64_file
from soma_bench.service.failures import RequestError
from soma_bench.types import Image

_FIELD = Path("final_image")
"""What errors call it."""
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<more>(?:;[^;,]*)*),")
_MEDIA_TYPES = ("image/", "application/dicom", "application/octet-stream")
_PNG, _JPEG, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"
_HEAD_BYTES = 132
"""Of which every kind is known."""
_TAIL_BYTES = 1024
"""In which a JPEG's end stands, unless something was put behind it."""
_MOST_CHUNKS = 1000
"""Parts of a PNG that are looked at before its pixels are; there may be more."""
_JPEG_QUALITY = 92


def picture_file(text: str) -> Base64File:
    """The file that a request carries, known to be of a kind that can be read and not cut off.

    Its pixels are not looked at, for that takes long: `read_picture` does.

    Raises:
        RequestError: it is not base64, not a picture, cut off or too large; the client is told.
    """
    file = _decoded(text)
    problem = _problem(file)
    if problem is not None:
        raise RequestError(f"{_FIELD}: {problem}")
    return file


def read_picture(file: Base64File) -> Image:
    """The picture in a file, without anything that the file says besides pixels.

    WebP, which browsers make and few backends read, becomes PNG; so does a PNG or JPEG file that is
    longer than vendors take, and JPEG where that is still too long.

    Raises:
        RequestError: it is broken or too large; the client is told.
    """
    data = file.whole()
    try:
        if _is_webp(data) or (len(data) > MAX_IMAGE_BYTES and data.startswith((_PNG, _JPEG))):
            data = _coded_anew(data)
        return read_image(data, _FIELD)
    except ConfigError as error:
        raise RequestError(str(error)) from error


def prepare() -> None:
    """Load what the first picture would wait for."""
    from PIL import Image as Pillow

    Pillow.init()


def _decoded(text: str) -> Base64File:
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
        file = base64_file(text)
    except ValueError as error:
        raise RequestError(f"{_FIELD}: is not base64; was it cut off?") from error
    if not file.size:
        raise RequestError(f"{_FIELD}: is empty")
    return file


def _problem(file: Base64File) -> str | None:
    """Why a file is no whole picture, as far as its frame says; None where it may be one."""
    head = file.part(0, _HEAD_BYTES)
    if head.startswith(_PNG):
        return _problem_of_png(file, head)
    if head.startswith(_JPEG):
        whole = _JPEG_END in file.part(max(0, file.size - _TAIL_BYTES), file.size)
        return (
            None if whole or _JPEG_END in file.whole() else "is a broken JPEG image: it is cut off"
        )
    if _is_webp(head):
        whole = 8 + int.from_bytes(head[4:8], "little") <= file.size
        return None if whole else "is a broken image: it is cut off"
    return None if is_dicom(head) else "is not a PNG, JPEG or DICOM image"


def _problem_of_png(file: Base64File, head: bytes) -> str | None:
    """Likewise for a PNG: its pixels' number, and that its last part is there."""
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if width * height > MAX_PIXELS:
        return f"has {width} x {height} pixels, which is too large"
    at = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        start = file.part(at, at + 8)
        at += 12 + int.from_bytes(start[:4])
        if at > file.size:
            return "is a broken PNG image: it is cut off"
        if start[4:] == b"IEND":
            return None
    return None


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _coded_anew(data: bytes) -> bytes:
    """The same pixels as PNG, or as JPEG where that is too long."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=["WEBP", "PNG", "JPEG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
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
