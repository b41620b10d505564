"""Whether a deployed file is what a profile says, and where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from soma_bench.files import parse_json, read_text
from soma_bench.routing.export import VARIABLES, ExportFormat, env_values, export_profile
from soma_bench.routing.export_js import content_of
from soma_bench.routing.profile import Profile

_COMPARED = (*VARIABLES, "OLLAMA_MODEL", "CLAUDE_MODEL", "OPENAI_MODEL")
"""Variables that change a route; the last three are in no export."""
_MISSING = object()


def check_export(profile: Profile, format: ExportFormat, path: Path) -> list[str]:  # noqa: A002
    """What the file at ``path`` says differently from the profile's export; empty where nothing.

    Line ends do not count. Of an ``.env`` file only variables that change a route are looked at, so
    that it may hold keys as well; no other value of it is ever shown.

    Raises:
        ConfigError: the file cannot be read.
    """
    deployed, expected = read_text(path), export_profile(profile, format)
    if format == "env":
        return list(_env_differences(env_values(deployed), env_values(expected)))
    if deployed == expected:
        return []
    if format == "json":
        pair = parse_json(deployed, str(path)), json.loads(expected)
        return list(differences("", *pair)) or [
            "it is written in another way; its content is equal"
        ]
    content = content_of(deployed)
    if content is None:
        return ["it is no module that soma-bench export has written"]
    found = list(differences("", content, content_of(expected)))
    return found or [f"the code around the profile: {_first_line(deployed, expected)}"]


def _env_differences(deployed: dict[str, str], expected: dict[str, str]) -> Iterator[str]:
    for name in _COMPARED:
        # Set but empty counts as not set, as everywhere.
        there, wanted = deployed.get(name) or _MISSING, expected.get(name) or _MISSING
        if there != wanted:
            yield f"{name}: {_shown(there)}, and not {_shown(wanted)}"


def differences(place: str, there: Any, wanted: Any) -> Iterator[str]:
    """Leaves in which two JSON values differ, each with its place."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*wanted, *there]):
            below = f"{place}.{key}" if place else str(key)
            yield from differences(below, there.get(key, _MISSING), wanted.get(key, _MISSING))
    elif isinstance(there, list) and isinstance(wanted, list):
        for index, pair in enumerate(zip_longest(there, wanted, fillvalue=_MISSING)):
            yield from differences(f"{place}[{index}]", *pair)
    elif type(there) is not type(wanted) or there != wanted:
        yield f"{place or 'the whole'}: {_shown(there)}, and not {_shown(wanted)}"


def _first_line(deployed: str, expected: str) -> str:
    pairs = zip_longest(deployed.splitlines(), expected.splitlines())
    number = next(number for number, (there, wanted) in enumerate(pairs, 1) if there != wanted)
    return f"line {number} is not what this release writes"


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
