"""The five agents as a pipeline: from a doctor's message and a segmentation to a reviewed report."""

from __future__ import annotations

from soma_bench.pipeline.analysis import Analysis, AnalysisResult, Draft, StageResult
from soma_bench.pipeline.executor import analyse
from soma_bench.pipeline.feedback import Feedback, revise
from soma_bench.pipeline.machines import Machines
from soma_bench.pipeline.sessions import Session

__all__ = [
    "Analysis",
    "AnalysisResult",
    "Draft",
    "Feedback",
    "Machines",
    "Session",
    "StageResult",
    "analyse",
    "revise",
]
