"""Files in base64, of which only those parts are decoded that somebody asks for.

To decode a picture of a megabyte takes milliseconds, in which nothing else of this process moves. To
see that it can be decoded takes a tenth of that, and so every request can wait for it.
"""

from __future__ import annotations

import binascii
import string
from dataclasses import dataclass

_ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
_SPACE = string.whitespace.encode()
_PADDING = (b"", b"=", b"==")
_PIECE = 64 << 10
"""Characters that are decoded before others may go on; a multiple of 4."""


@dataclass(frozen=True, slots=True)
class Base64File:
    """A file in base64; made by `base64_file`."""

    encoded: bytes
    """Without anything between or around."""

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return len(self.encoded) // 4 * 3 - self.encoded[-2:].count(b"=")

    def part(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``, or to the file's end."""
        first = start // 3
        quads = self.encoded[first * 4 : -(-end // 3) * 4]
        return binascii.a2b_base64(quads)[start - first * 3 : end - first * 3]

    def whole(self) -> bytes:
        """The file. It is decoded piece by piece, so that other threads may go on meanwhile."""
        pieces = range(0, len(self.encoded), _PIECE)
        return b"".join(binascii.a2b_base64(self.encoded[at : at + _PIECE]) for at in pieces)


def base64_file(text: str) -> Base64File:
    """The file that a text stands for; white space does not count.

    Raises:
        ValueError: the text is not base64.
    """
    encoded = text.encode("ascii")
    rest = encoded.translate(None, _ALPHABET)
    if rest not in _PADDING:
        encoded = encoded.translate(None, _SPACE)
        rest = encoded.translate(None, _ALPHABET)
    if rest not in _PADDING or not encoded.endswith(rest) or len(encoded) % 4:
        raise ValueError("not base64")
    return Base64File(encoded)
