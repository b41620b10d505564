"""Scoring: pure functions from an answer and its reference to named parts."""

from __future__ import annotations

from collections.abc import Mapping

from soma_bench.scoring import alignment, pathologist, qc_reviewer, radiologist, report_writer
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.types import AgentName

SCORER_BY_AGENT: Mapping[AgentName, Scorer] = {
    module.SCORER.agent: module.SCORER
    for module in (alignment, radiologist, pathologist, report_writer, qc_reviewer)
}
"""Every agent's scorer, in the order in which an analysis runs the agents."""

__all__ = ["SCORER_BY_AGENT", "Answer", "Score", "Scorer"]
