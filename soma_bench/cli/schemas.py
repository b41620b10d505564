"""``soma-bench profile schemas``: the JSON Schemas that others check files with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soma_bench.files import write_atomically
from soma_bench.replay import call_schema
from soma_bench.routing.export_shape import config_schema
from soma_bench.routing.profile import profile_schema

SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "profile.schema.json": profile_schema,
    "llm-config.schema.json": config_schema,
    "recorded-call.schema.json": call_schema,
}
"""By the name of the published file."""


def schema_text(name: str) -> str:
    """The text of a published schema."""
    return json.dumps(SCHEMAS[name](), indent=2) + "\n"


def publish(folder: Path) -> dict[str, bool]:
    """Write every schema into a folder; of each whether its file changed.

    Raises:
        ConfigError: a file cannot be written.
    """
    return {name: write_atomically(folder / name, schema_text(name)) for name in SCHEMAS}
