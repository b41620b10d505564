"""What a model will need of a machine, before it is fetched: predictions, and never evidence.

A prediction says so in its ``basis`` and has a type of its own, so that it cannot take the place of
a measurement in a comparison, the optimiser or a profile.
"""

from __future__ import annotations

from soma_bench.hardware.calibrate import Calibration, Sample, calibrate
from soma_bench.hardware.catalogue import (
    Architecture,
    Machine,
    Weights,
    architecture,
    machine,
    weights,
)
from soma_bench.hardware.model import Memory, Prediction, Work, memory, pipeline_seconds, predict

__all__ = [
    "Architecture",
    "Calibration",
    "Machine",
    "Memory",
    "Prediction",
    "Sample",
    "Weights",
    "Work",
    "architecture",
    "calibrate",
    "machine",
    "memory",
    "pipeline_seconds",
    "predict",
    "weights",
]
