"""What a judge's figures are worth: corrected by people's labels, or marked as uncalibrated.

Prediction-powered inference (Angelopoulos et al., PPI++, 2023): labels on a random part of the answers
measure the judge's error, and the judge's verdicts on all of them make the interval narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soma_bench.errors import ConfigError
from soma_bench.routing.evidence import UNCALIBRATED

LEAST_LABELS = 40
"""Random labels that a judge's figure needs. With 40 the 95 % intervals held 92 % of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFigure:
    """A mean over answers, or over paired differences, that rests on a judge."""

    name: str
    mean: float
    low: float | None
    high: float | None
    """95 % interval; None for an uncalibrated judge, whose interval would be wrong."""
    labels: int
    """Random labels behind the correction."""
    trust: float
    """How far the judge's verdicts were used (PPI++'s lambda), 0 for not at all, 1 for wholly."""

    def __post_init__(self) -> None:
        if self.is_calibrated != (self.low is not None and self.high is not None):
            raise ValueError(
                f"{self.name}: an interval goes with {LEAST_LABELS} labels and only so"
            )

    @property
    def is_calibrated(self) -> bool:
        """Whether enough random labels stand behind it."""
        return self.labels >= LEAST_LABELS

    @property
    def metric(self) -> str:
        """Its name for tables; evidence refuses that of an uncalibrated judge."""
        return f"judged {self.name}" if self.is_calibrated else f"{UNCALIBRATED} {self.name}"

    def interval(self) -> tuple[float, float, float]:
        """Mean and interval, for evidence and gates.

        Raises:
            ConfigError: the judge is not calibrated.
        """
        if self.low is None or self.high is None:
            raise ConfigError(
                f"{self.name}: the judge is uncalibrated, with {self.labels} random labels of"
                f" {LEAST_LABELS}; label more answers before anything is decided by it"
            )
        return self.mean, self.low, self.high


def judged_mean(
    name: str, labelled: Sequence[tuple[float, float]], unlabelled: Sequence[float]
) -> JudgedFigure:
    """The mean that people would give, from a judge on all answers and labels on some.

    For two targets on the same cases give differences, of labels and of verdicts alike: then the
    judge's error that both share is gone before anything is corrected.

    Args:
        name: of the figure.
        labelled: (people's value, judge's value) of the answers that were drawn at random.
        unlabelled: the judge's values of the others.

    Raises:
        ValueError: there is no answer at all.
    """
    if not labelled and not unlabelled:
        raise ValueError(f"{name}: there is no answer to judge")
    judged = np.array([*(said for _, said in labelled), *unlabelled], dtype=float)
    n, others = len(labelled), np.array(unlabelled, dtype=float)
    if n < LEAST_LABELS:
        mean = float(judged.mean())
        return JudgedFigure(name=name, mean=mean, low=None, high=None, labels=n, trust=1.0)
    truth, said = np.array(labelled, dtype=float).T
    trust = _trust(truth, said, judged, len(others))
    mean, variance = truth.mean(), (truth - trust * said).var(ddof=1) / n
    if trust:
        mean += trust * (others.mean() - said.mean())
        variance += trust**2 * judged.var(ddof=1) / len(others)
    half = _t_quantile(n - 1) * math.sqrt(variance)
    return JudgedFigure(
        name=name,
        mean=float(mean),
        low=float(mean - half),
        high=float(mean + half),
        labels=n,
        trust=trust,
    )


def _trust(
    truth: np.ndarray[tuple[int], np.dtype[np.float64]],
    said: np.ndarray[tuple[int], np.dtype[np.float64]],
    judged: np.ndarray[tuple[int], np.dtype[np.float64]],
    others: int,
) -> float:
    """The lambda that makes the interval narrowest, kept in [0, 1]."""
    spread = judged.var(ddof=1)
    if not others or not spread:
        return 0.0
    shared = np.cov(truth, said)[0, 1]
    return float(np.clip(shared / ((1 + len(truth) / others) * spread), 0, 1))


def _t_quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
