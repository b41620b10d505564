"""Recorded calls of a running system, and what a candidate profile makes of the same questions."""

from __future__ import annotations

from soma_bench.replay.compare import AgentReplay, compare_replay
from soma_bench.replay.log import BadLine, RecordedCall, call_schema, read_log
from soma_bench.replay.record import Recorder
from soma_bench.replay.rerun import Replayed, rerun

__all__ = [
    "AgentReplay",
    "BadLine",
    "RecordedCall",
    "Recorder",
    "Replayed",
    "call_schema",
    "compare_replay",
    "read_log",
    "rerun",
]
