"""How much of its bounds a machine reaches, by least squares over what was measured.

A call's time is taken for ``constant + prefill + bytes / (efficiency * bandwidth)``; the constant and
the efficiency are fitted, neither below 0. Where prompts were counted the prefill is fitted with
them; else it is part of the constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soma_bench.hardware.catalogue import Machine

Floats = npt.NDArray[np.float64]

IMPLAUSIBLE_SHARE = 0.9
"""Part of the peak bandwidth that no measured decoder passes; a call that would need more was not
timed, or its tokens were not counted, like the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A measured call."""

    name: str
    bytes_read: float
    """Bytes that decoding its answer had to read."""
    prefill_operations: float | None
    """None where the prompt's tokens were not counted."""
    total_s: float
    weights_bytes: int | None = None
    load_s: float | None = None
    """Of a cold start; None where the model was loaded already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """How a calibration and a measurement differ."""

    name: str
    measured_s: float
    predicted_s: float
    share: float
    """Part of the peak bandwidth that the measurement needs if all its time went into decoding."""

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted_s / self.measured_s - 1

    @property
    def implausible(self) -> bool:
        """Whether no machine of this bandwidth can have done it."""
        return self.share > IMPLAUSIBLE_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The parts of its bounds that a machine reaches."""

    efficiency: float
    """Of the bandwidth, while decoding."""
    prefill_share: float = 1.0
    """Of the machine's `Machine.prefill_flops`."""
    disk_share: float = 1.0
    constant_s: float = 0.0
    error: float | None = None
    """Root mean square of the relative errors on what it was fitted to; None where it was not."""
    left_out_error: float | None = None
    """The same where each measurement is predicted from the others: what to expect of a new one."""
    n: int = 0
    residuals: tuple[Residual, ...] = ()
    source: str


UNCALIBRATED = Calibration(
    efficiency=0.78,
    source="nothing measured here; 78 % of the bandwidth, as Qwen3 32B reached on an M4 Max",
)
"""What a first prediction starts from."""


def calibrate(samples: Sequence[Sample], machine: Machine, *, source: str) -> Calibration:
    """Fit a machine's efficiency to measured calls.

    Args:
        samples: what was measured; calls of different lengths, or the constant cannot be told from
            the rest.
        machine: where it was measured.
        source: where the measurements are from, for whoever reads a prediction.

    Raises:
        ValueError: fewer than two calls, calls without time or tokens, or all of one length.
    """
    if len({sample.bytes_read for sample in samples}) < 2:
        raise ValueError("a calibration needs at least two calls of different lengths")
    if any(not (sample.total_s > 0 and sample.bytes_read > 0) for sample in samples):
        raise ValueError("a calibration needs calls that took time and read something")
    columns, seconds = _columns(samples), np.array([sample.total_s for sample in samples])
    factors = _fit(columns, seconds)
    if factors[1] <= 0:
        raise ValueError("longer answers took no longer: these calls tell nothing of the bandwidth")
    left_out = []
    for place in range(len(samples)):
        others = np.arange(len(samples)) != place
        if len(np.unique(columns[others, 1])) >= columns.shape[1]:
            guess = columns[place] @ _fit(columns[others], seconds[others])
            left_out.append(guess / seconds[place] - 1)
    predicted = columns @ factors
    told = len(factors) == 3 and factors[2] > 0
    prefill = float(1 / factors[2] / machine.prefill_flops) if told else 1.0
    loads = [
        sample.weights_bytes / sample.load_s
        for sample in samples
        if sample.weights_bytes and sample.load_s
    ]
    return Calibration(
        efficiency=float(1 / factors[1] / machine.bandwidth),
        prefill_share=prefill,
        disk_share=float(np.median(loads)) / machine.disk if loads else 1.0,
        constant_s=float(factors[0]),
        error=_rms(predicted / seconds - 1),
        left_out_error=_rms(np.array(left_out)) if left_out else None,
        n=len(samples),
        residuals=tuple(
            residual(sample, float(guess), machine)
            for sample, guess in zip(samples, predicted, strict=True)
        ),
        source=source,
    )


def residual(sample: Sample, predicted_s: float, machine: Machine) -> Residual:
    """A measurement beside its prediction."""
    return Residual(
        name=sample.name,
        measured_s=sample.total_s,
        predicted_s=predicted_s,
        share=sample.bytes_read / sample.total_s / machine.bandwidth,
    )


def seconds_of(sample: Sample, calibration: Calibration, machine: Machine) -> float:
    """What a calibration makes of a measured call."""
    prefill = (sample.prefill_operations or 0.0) / (
        machine.prefill_flops * calibration.prefill_share
    )
    decode = sample.bytes_read / (machine.bandwidth * calibration.efficiency)
    return calibration.constant_s + prefill + decode


def _columns(samples: Sequence[Sample]) -> Floats:
    read = [sample.bytes_read for sample in samples]
    prefill = [sample.prefill_operations for sample in samples]
    columns = [[1.0] * len(samples), read]
    # With as many unknowns as calls everything would fit, whatever was measured.
    if len(samples) > 3 and None not in prefill and len(set(prefill)) > 1:
        columns.append([float(value or 0.0) for value in prefill])
    return np.array(columns).T


def _fit(
    columns: Floats,
    seconds: Floats,
) -> Floats:
    from scipy.optimize import nnls

    scale = np.abs(columns).max(axis=0)
    factors, _ = nnls(columns / scale, seconds)
    return np.asarray(factors / scale, dtype=np.float64)


def _rms(errors: Floats) -> float:
    return math.sqrt(float((errors**2).mean()))
