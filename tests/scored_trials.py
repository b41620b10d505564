"""Scored trials out of thin air, for what reckons with trials and reads no store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soma_bench.cases.suite import load_suite
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.sweeps.store import ScoreRecord

CASE = load_suite(Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl").cases[0]


def scored_trial(score: float, **trial: Any) -> ScoredTrial:
    """A trial with these fields of a stored one, and this primary score."""
    return ScoredTrial(
        trial=trial,
        case=CASE,
        score=ScoreRecord(
            key="k",
            case_digest="d",
            scorer_version=1,
            primary_value=score,
            failure=None,
            parts=None,
        ),
    )
