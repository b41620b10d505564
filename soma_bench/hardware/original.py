"""The measurements that SOMA was planned by: Qwen3 32B in Q4_K_M on a Mac Studio, M4 Max, 36 GB.

Of 29 November 2025, five calls and no more; prompts were not counted. Fitted are the three longest
answers whose tokens agree with one another. The Radiologist's tokens are stated as "about", and the
intent classification would need 96 % of the memory's bandwidth, which no decoder reaches: both are
predicted, not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from soma_bench.hardware.calibrate import (
    Calibration,
    Residual,
    Sample,
    calibrate,
    residual,
    seconds_of,
)
from soma_bench.hardware.catalogue import Machine, architecture
from soma_bench.hardware.catalogue import machine as machine_of
from soma_bench.hardware.model import Work, bytes_read
from soma_bench.types import AgentName, Target

TARGET = Target("ollama", "qwen3:32b-q4_K_M")
WEIGHTS_BYTES = 19_800_000_000
MACHINE = "m4max-36gb"
SOURCE = "the original plan's measurements of 2025-11-29, n = 3"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the original table."""

    agent: AgentName
    seconds: float
    tokens: int
    """Thinking included."""
    thinking_tokens: int
    fitted: bool


TABLE = (
    Row("alignment", 12.4, 247, 230, fitted=False),
    Row("radiologist", 19.6, 350, 0, fitted=False),
    Row("pathologist", 49.6, 800, 0, fitted=True),
    Row("report_writer", 28.3, 451, 280, fitted=True),
    Row("qc_reviewer", 14.5, 229, 0, fitted=True),
)

PIPELINE: Mapping[AgentName, float] = {
    "alignment": 12.4,
    "radiologist": 24.6,
    "pathologist": 24.9,
    "report_writer": 21.7,
    "qc_reviewer": 12.5,
}
"""Seconds of each stage in the whole analysis that was timed; its sum was noted as 96.2 s."""

ANSWER_TOKENS: Mapping[AgentName, int] = {
    row.agent: row.tokens - row.thinking_tokens for row in TABLE
}
"""Tokens of an answer without thinking, for predictions where nothing was measured."""
THINKING_TOKENS = 256
"""Tokens that Qwen3 thinks unless told otherwise: the plan says 200 to 300."""


def original_calibration(
    machine: Machine | None = None,
) -> tuple[Calibration, tuple[Residual, ...]]:
    """The fit to the table's consistent rows, and how all five rows lie to it."""
    where = machine or machine_of(MACHINE)
    samples = {row.agent: _sample(row) for row in TABLE}
    fitted = [samples[row.agent] for row in TABLE if row.fitted]
    calibration = calibrate(fitted, where, source=SOURCE)
    return calibration, tuple(
        residual(sample, seconds_of(sample, calibration, where), where)
        for sample in samples.values()
    )


def _sample(row: Row) -> Sample:
    shape = architecture(TARGET)
    assert shape is not None
    work = Work(prompt_tokens=0, output_tokens=row.tokens)
    return Sample(
        name=row.agent,
        bytes_read=bytes_read(WEIGHTS_BYTES, shape, work),
        prefill_operations=None,
        total_s=row.seconds,
    )
