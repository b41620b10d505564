"""A run's scores case by case as JSON values, for the process beside a tuner."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from soma_bench.separation import CaseMeans, TargetScores


def scores_as_json(scores: TargetScores) -> dict[str, Any]:
    """The scores, as `scores_from_json` reads them.

    Targets of an agent have mostly the same cases, whose digests are sent once; scores go as the
    bytes that they are, for 100,000 numbers take long to write in digits.
    """
    places: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    rows = []
    for (agent, target), measured in scores.items():
        design = (tuple(measured.cases), tuple(measured.clusters))
        place = places.setdefault(design, len(places))
        means = b64encode(measured.means.astype("<f8").tobytes()).decode()
        rows.append([agent, target, place, means])
    designs = [{"cases": cases, "clusters": clusters} for cases, clusters in places]
    return {"designs": designs, "rows": rows}


def scores_from_json(content: Mapping[str, Any]) -> TargetScores:
    """The scores of what `scores_as_json` made."""
    rows: Iterable[Any] = content["rows"]
    return {
        (agent, target): CaseMeans(
            cases=content["designs"][place]["cases"],
            means=np.frombuffer(b64decode(means), dtype="<f8"),
            clusters=content["designs"][place]["clusters"],
        )
        for agent, target, place, means in rows
    }
