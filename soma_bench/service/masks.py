"""Masks of a request as measured regions.

A mask is measured where it says its label, the structure that it lies in, its area and its centroid,
in the words of `soma_bench.agents.radiologist.Region` or in camel case, with ``name`` for the label
and ``location`` for the structure. Areas in pixels (``areaPx``) count where the pixels' spacing is
known. What is not measured so is not guessed: it stands in the picture, and only its name goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from soma_bench.agents.radiologist import Region

_ALIASES = {"name": "label", "location": "structure"}
_MOST_NAME = 40
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Masks:
    """What the masks of a request say."""

    regions: tuple[Region, ...]
    names: tuple[str, ...]
    """Of masks that were not measured."""


def read_masks(masks: Sequence[Any], *, pixel_spacing_mm: float | None) -> Masks:
    """Measured regions, and the names of the rest."""
    regions: list[Region] = []
    names: list[str] = []
    for number, mask in enumerate(masks, 1):
        if not isinstance(mask, dict):
            continue
        region = _region(mask, number)
        if region is not None and (region.area_px is None or pixel_spacing_mm is not None):
            regions.append(region)
        elif isinstance(name := mask.get("label") or mask.get("name"), str) and name.strip():
            names.append(" ".join(name.split())[:_MOST_NAME])
    return Masks(tuple(regions), tuple(dict.fromkeys(names[:_MOST_NAMED])))


def _region(mask: dict[str, Any], number: int) -> Region | None:
    content: dict[str, Any] = {"id": f"R{number}"}
    for key, value in mask.items():
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()
        name = _ALIASES.get(word, word)
        if name in Region.model_fields:
            content.setdefault(name, value) if name != "id" else None
    try:
        return Region.model_validate_json(json.dumps(content))
    except (ValidationError, ValueError):
        return None
