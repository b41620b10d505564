"""The front matter of a GGUF file, read without touching its weights.

The gguf package's own reader makes an object of every vocabulary entry, which takes seconds; what a
catalogue wants to know stands in a handful of scalars. Layout: the GGUF specification, versions 2
and 3 (magic, version, counts, then key, type and value of each entry).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

from soma_bench.errors import ConfigError

Scalar = bool | int | float | str

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING = 8
_ARRAY = 9
_DEFAULT_ALIGNMENT = 32


def read_header(path: Path) -> Mapping[str, Scalar]:
    """Every scalar and string entry of a GGUF file's header, by key; arrays are passed over.

    Raises:
        ConfigError: the file cannot be read, is not little-endian GGUF, or is cut short, be it in
            the header or in the weights that the header announces.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise ConfigError(
                    f"{path}: is not a GGUF file (it does not begin with 'GGUF'); remove it or copy it anew"
                )
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Cursor(data).read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: is damaged: {error}; remove it or copy it anew") from error


class _Cursor:
    """A place in a GGUF header that moves forward; running past the end is a ValueError."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = len(MAGIC)

    def read(self) -> dict[str, Scalar]:
        version = self._number("<I")
        if version not in _VERSIONS:
            raise ValueError(f"its GGUF version {version} is not one of {_VERSIONS}")
        tensors = int(self._number("<Q"))
        entries: dict[str, Scalar] = {}
        for _ in range(int(self._number("<Q"))):
            key = self._string()
            value = self._value(int(self._number("<I")))
            if value is not None:
                entries[key] = value
        alignment = int(entries.get("general.alignment", _DEFAULT_ALIGNMENT)) or 1
        end = max((self._tensor_end() for _ in range(tensors)), default=0)
        expected = -(-self._at // alignment) * alignment + end
        if len(self._data) < expected:
            raise ValueError(f"it has {len(self._data)} bytes of the {expected} it announces")
        return entries

    def _tensor_end(self) -> int:
        """Where one tensor ends, from the start of the weights."""
        from gguf.constants import GGML_QUANT_SIZES

        self._string()
        elements = math.prod(int(self._number("<Q")) for _ in range(int(self._number("<I"))))
        kind = int(self._number("<I"))
        offset = int(self._number("<Q"))
        sizes: dict[int, tuple[int, int]] = {
            known.value: size for known, size in GGML_QUANT_SIZES.items()
        }
        # A type that is newer than this package: its size is unknown, its start is not.
        block, block_bytes = sizes.get(kind, (1, 0))
        return offset + elements // block * block_bytes

    def _value(self, kind: int) -> Scalar | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._pass_array()
            return None
        if kind not in _FORMATS:
            raise ValueError(f"its header has a value of unknown type {kind}")
        return self._number(_FORMATS[kind])

    def _pass_array(self) -> None:
        kind = int(self._number("<I"))
        length = int(self._number("<Q"))
        if kind in _FORMATS:
            self._skip(length * struct.calcsize(_FORMATS[kind]))
        elif kind == _STRING:
            for _ in range(length):
                self._skip(int(self._number("<Q")))
        else:
            raise ValueError(f"its header has an array of unknown type {kind}")

    def _number(self, form: str) -> bool | int | float:
        start = self._at
        self._skip(struct.calcsize(form))
        number: bool | int | float = struct.unpack_from(form, self._data, start)[0]
        return number

    def _string(self) -> str:
        length = int(self._number("<Q"))
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode()

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("it ends within its header")
