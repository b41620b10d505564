"""The model of a local call: what must be read from memory, and how fast that can be.

Decoding is bound by bandwidth: every token reads the active weights and the keys and values of all
tokens before it. Reading a prompt is bound by arithmetic: two operations per active weight and token.
Loading is bound by the disk. Each bound is reached to a part only, which measurements tell
(`soma_bench.hardware.calibrate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from soma_bench.hardware.calibrate import Calibration
from soma_bench.hardware.catalogue import Architecture, Machine
from soma_bench.routing.constraints import Pipeline, chains
from soma_bench.types import AgentName

OVERHEAD_BYTES = 768 << 20
"""Room for buffers of a computation and the runtime beside weights and context; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The tokens of one call."""

    prompt_tokens: float
    output_tokens: float
    """Thinking included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a loaded model takes, in bytes."""

    weights: int
    context: int
    """Keys and values of the whole context window, which is reserved at once."""
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.context + self.overhead


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a call should take. It was not measured, and is no evidence."""

    load_s: float
    """Of a cold start; no part of ``total_s``."""
    prefill_s: float
    decode_s: float
    constant_s: float
    """What every call takes whatever its length."""
    tokens_per_s: float
    """While decoding."""
    error: float | None
    """Root mean square of the relative errors that the calibration made on what was measured;
    None where nothing was."""
    calibrated_by: str
    basis: Literal["predicted"] = "predicted"

    @property
    def total_s(self) -> float:
        """From the call to the last token, with the model loaded."""
        return self.constant_s + self.prefill_s + self.decode_s


def memory(weights_bytes: int, shape: Architecture, context_tokens: int) -> Memory:
    """The memory of a model that is loaded with a context window of so many tokens."""
    return Memory(
        weights=weights_bytes,
        context=shape.kv_bytes_per_token() * context_tokens,
        overhead=OVERHEAD_BYTES,
    )


def bytes_read(weights_bytes: int, shape: Architecture, work: Work) -> float:
    """Bytes that decoding the answer reads from memory."""
    active = weights_bytes * shape.active_parameters / shape.parameters
    tokens_before = work.prompt_tokens + work.output_tokens / 2
    return work.output_tokens * (active + shape.kv_bytes_per_token() * tokens_before)


def prefill_operations(shape: Architecture, work: Work) -> float:
    """Floating-point operations that reading the prompt takes."""
    return 2 * shape.active_parameters * work.prompt_tokens


def predict(
    weights_bytes: int,
    shape: Architecture,
    work: Work,
    machine: Machine,
    calibration: Calibration,
) -> Prediction:
    """What a call takes on a machine whose efficiency is that of the calibration."""
    rate = calibration.efficiency * machine.bandwidth
    decode_s = bytes_read(weights_bytes, shape, work) / rate
    return Prediction(
        load_s=weights_bytes / (machine.disk * calibration.disk_share),
        prefill_s=prefill_operations(shape, work)
        / (machine.prefill_flops * calibration.prefill_share),
        decode_s=decode_s,
        constant_s=calibration.constant_s,
        tokens_per_s=work.output_tokens / decode_s if decode_s else 0.0,
        error=calibration.error,
        calibrated_by=calibration.source,
    )


def pipeline_seconds(stages: Mapping[AgentName, float], pipeline: Pipeline) -> float:
    """How long the whole pipeline takes: its slowest chain of stages that wait for one another."""
    return max(sum(stages[agent] for agent in chain) for chain in chains(pipeline))
