"""Whether latencies were the same from beginning to end: warm-up over, nothing filling up.

Kendall's rank correlation between the order of the requests and their latency is the trend test of
Mann (Econometrica 13, 1945). It asks for nothing but an order, so that neither a long tail nor
answers of different lengths disturb it. Requests that share a backend resemble their neighbours,
which makes such a test find trends too readily; a drift is therefore only called one when the
halves' medians also differ by more than `LEAST_CHANGE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

FEWEST = 16
"""Requests below which no drift could be told from chance."""
ALPHA = 0.01
LEAST_CHANGE = 0.10
"""Share of the first half's median by which the second must differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """What the test found."""

    verdict: Literal["steady", "drifting", "too few"]
    change: float | None
    """Second half's median over the first's, less 1; None where there are too few."""
    tau: float | None
    """Kendall's tau between order and latency."""
    p: float | None


def steadiness(latencies: Sequence[float]) -> Steadiness:
    """Test latencies, in the order in which their requests started, for a trend."""
    n = len(latencies)
    if n < FEWEST:
        return Steadiness(verdict="too few", change=None, tau=None, p=None)
    first = median(latencies[: n // 2])
    change = median(latencies[(n + 1) // 2 :]) / first - 1 if first > 0 else 0.0
    if min(latencies) == max(latencies):
        return Steadiness(verdict="steady", change=change, tau=0.0, p=1.0)
    from scipy.stats import kendalltau

    tau, p = map(float, kendalltau(range(n), latencies))
    # A trend and the halves' difference must point the same way.
    drifts = p < ALPHA and abs(change) > LEAST_CHANGE and change * tau > 0
    return Steadiness(verdict="drifting" if drifts else "steady", change=change, tau=tau, p=p)
