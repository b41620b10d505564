"""Service level objectives: what a request must hold to count as good."""

from __future__ import annotations

import re
from collections.abc import Mapping

from soma_bench.errors import ConfigError
from soma_bench.latency.samples import MEASURES, Sample

_LIMIT = re.compile(r"(?P<name>[a-z]+)=(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s)")
_SECONDS = {"ms": 1e-3, "s": 1.0}

Objectives = Mapping[str, float]
"""By the name of a measure, the most seconds that it may take."""


def parse_objectives(text: str) -> Objectives:
    """Read ``ttft=2s,tpot=50ms,total=30s``.

    Raises:
        ConfigError: it is no such list; the message names the part that is wrong.

    >>> parse_objectives("ttft=2s,tpot=50ms")
    {'ttft': 2.0, 'tpot': 0.05}
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        found = _LIMIT.fullmatch(part.strip())
        if found is None or found["name"] not in MEASURES:
            raise ConfigError(
                f"--slo: {part.strip()!r} is no limit; write one of {', '.join(MEASURES)} with a"
                " time in s or ms, e.g. ttft=2s,tpot=50ms,total=30s"
            )
        if found["name"] in limits:
            raise ConfigError(f"--slo: {found['name']} stands twice; give it one limit")
        seconds = float(found["number"]) * _SECONDS[found["unit"]]
        if seconds <= 0:
            raise ConfigError(f"--slo: {part.strip()!r} can be held by nothing; give more than 0")
        limits[found["name"]] = seconds
    return limits


def holds(sample: Sample, objectives: Objectives) -> bool:
    """Whether a request was answered within every limit; what was not measured was not held.

    An answer of a single token has no time between tokens: there is nothing in it to hold.
    """
    if sample.failure is not None:
        return False
    for name, limit in objectives.items():
        value = MEASURES[name](sample)
        if value is None and name == "itl" and sample.output_tokens == 1:
            continue
        if value is None or value > limit:
            return False
    return True
