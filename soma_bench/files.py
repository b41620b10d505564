"""Reading and writing files so that nothing is ever lost, half-written or misread."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from soma_bench.errors import ConfigError

_MAX_SHOWN = 300
_MAX_FILE_BYTES = 256 << 20
"""More than any file that people write or this program makes; what is longer is another file."""


def write_atomically(path: Path, data: str | bytes) -> bool:
    """Replace ``path`` by ``data`` in one step, making its folder; True if the bytes changed.

    An identical file is left alone, so that tools which look at its date see no change.

    Raises:
        ConfigError: the file cannot be written; nothing was changed.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        # A link is followed: what it points to is the file that was meant.
        file = path.resolve()
        if file.is_file() and file.read_bytes() == raw:
            return False
        if file.exists() and not file.is_file():
            raise ConfigError(f"{path}: cannot be written: is not a file; name a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:200]}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    return True


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        ConfigError: there is no such file, it cannot be read, it is longer than any such file is,
            or it is not UTF-8 text.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        # A path that stands inside another file may hold what no path can.
        raise ConfigError(f"{str(path)!a}: is no path: {error}") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is longer than {_MAX_FILE_BYTES >> 20} MiB; is it the file?")
    try:
        return raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file; duplicate keys and NaN are refused.

    Raises:
        ConfigError: the file cannot be read or is not JSON; the message names line and column.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, place: str) -> Any:
    """``json.loads`` without its laxity: duplicate keys, NaN and Infinity are errors.

    Raises:
        ConfigError: the text is not JSON; the message begins with ``place``.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        unique: dict[str, Any] = {}
        for key, value in pairs:
            if key in unique:
                raise ConfigError(f"{place}: key {_short(key)} stands twice in one object")
            unique[key] = value
        return unique

    def no_constant(name: str) -> None:
        raise ConfigError(f"{place}: {name} is not a JSON number")

    try:
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        where = f"{place}:{error.lineno}:{error.colno}"
        raise ConfigError(f"{where}: is not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{place}: is not usable JSON: {error}") from error


def first_problem(error: ValidationError) -> str:
    """The first finding of a pydantic error as one line, ``field.path: what is wrong``.

    Keys and values of the input may stand in it, so it is escaped and cut to a readable length.
    """
    finding = error.errors(include_url=False)[0]
    path = ""
    for part in finding["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    message = finding["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    more = error.error_count() - 1
    suffix = f" (and {more} more)" if more else ""
    return f"{_short(path) if path else 'the whole'}: {_short(message)}{suffix}"


def _short(text: str) -> str:
    """Text from outside, fit to stand in one line of an error."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return line if len(line) <= _MAX_SHOWN else line[:_MAX_SHOWN] + "..."


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, UTF-8, no NaN; what digests are made over."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """``sha256:`` and the hexadecimal digest of a JSON value's canonical text."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """``sha256:`` and the hexadecimal digest of a file's bytes."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
