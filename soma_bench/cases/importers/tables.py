"""Tables as people have them: any of the usual encodings, separators and spellings of a header."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soma_bench.cases.importers.base import BROKEN, Row
from soma_bench.errors import ConfigError
from soma_bench.files import parse_json

_MAX_BYTES = 256 << 20
_MAX_FIELD = 10_000_000
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read_any_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 with its mark, or Windows-1252.

    Raises:
        ConfigError: the file cannot be read or is no text.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path}: is longer than {_MAX_BYTES >> 20} MiB; split it")
    encoding = next((name for mark, name in _BOMS.items() if raw.startswith(mark)), None)
    for candidate in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            text = raw.decode(candidate)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ConfigError(f"{path}: is no text in UTF-8, UTF-16 or Windows-1252")


def column_name(name: object) -> str:
    """A header as rows know it: lower case, words parted by single spaces."""
    return " ".join(str(name).replace("_", " ").replace("-", " ").lower().split())


def read_csv(path: Path, required: tuple[str, ...] = ()) -> Iterator[Row]:
    """Rows of a table with a header, separated by commas, semicolons or tabs.

    Args:
        path: the file.
        required: columns that it must have.

    Raises:
        ConfigError: it cannot be read, is no table, or lacks a column.
    """
    text = read_any_text(path)
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    if not first:
        raise ConfigError(f"{path}: is empty; a header and rows are expected")
    separator = max(",;\t", key=first.count)
    csv.field_size_limit(_MAX_FIELD)
    records = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [column_name(name) for name in next(records)]
        _check_header(path, header, required)
        for number, values in enumerate(records, start=2):
            # Too few or too many values would shift columns without anyone seeing it.
            fields: dict[str, Any] = dict(zip(header, values, strict=False))
            if values and len(values) != len(header):
                fields = {BROKEN: f"has {len(values)} values in {len(header)} columns"}
            yield Row(number, fields)
    except csv.Error as error:
        raise ConfigError(f"{path}:{records.line_num}: is not CSV: {error}") from error


def _check_header(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        have = ", ".join(filter(None, header))[:300]
        raise ConfigError(f"{path}:1: has no column {missing[0]!r}; its columns: {have}")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}:1: column {twice!r} stands twice in the header")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Rows of a file with one JSON object a line; a line that is none is a row with no fields.

    Raises:
        ConfigError: it cannot be read.
    """
    for number, line in enumerate(read_any_text(path).splitlines(), start=1):
        fields: dict[str, Any] = {}
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                fields = {column_name(name): item for name, item in value.items()}
            else:
                fields = {BROKEN: "is no JSON object"}
        yield Row(number, fields)


def read_json_records(path: Path, key: str) -> Iterator[Row]:
    """Records of a JSON file: a list of objects, or an object of objects by their key.

    Args:
        path: the file.
        key: column that gets the key.

    Raises:
        ConfigError: it cannot be read or is none of these.
    """
    content = parse_json(read_any_text(path), str(path))
    if isinstance(content, list):
        content = dict(enumerate(content, start=1))
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: is no list or object of records")
    for number, (name, record) in enumerate(content.items(), start=1):
        if isinstance(record, dict):
            fields = {column_name(column): value for column, value in record.items()}
            yield Row(number, {key: str(name), **fields})
        else:
            yield Row(number, {BROKEN: "is no JSON object"})
