"""How long one target may take: the profile's threshold, the provider's timeout and the deadline.

While another target could still be asked, a target has ``latency_threshold_ms``; the last one has its
provider's own timeout. A deadline cuts both, and of the time that is left to it the next target's
share is kept back: its measured p95, or half of the time where nothing was measured, and never more
than half. Loading a model has time of its own, as far as the deadline allows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from soma_bench.types import Limits

_USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one call is given."""

    limits: Limits
    cut: bool
    """Whether the deadline made it shorter: running out of it is then no fault of the backend's."""


def allowance(
    *,
    timeout_s: float,
    threshold_s: float | None,
    left_s: float | None,
    load_s: float = _USUAL.load_s,
    next_p95_s: float | None = None,
) -> Allowance:
    """The limits of one call.

    Args:
        timeout_s: the provider's own timeout.
        threshold_s: what is left of the latency threshold; None where no other target can be asked.
        left_s: seconds until the deadline; None without one.
        load_s: how long its model may take to load on top of it.
        next_p95_s: what the next target was measured to take.
    """
    total_s = timeout_s if threshold_s is None else min(timeout_s, threshold_s)
    cut = False
    if left_s is not None:
        half = left_s / 2
        kept = 0.0 if threshold_s is None else min(half if next_p95_s is None else next_p95_s, half)
        room = left_s - kept
        cut = room < total_s
        total_s = min(total_s, room)
        load_s = min(load_s, room - total_s)
    limits = Limits(
        connect_s=min(_USUAL.connect_s, total_s),
        first_token_s=min(_USUAL.first_token_s, total_s),
        between_tokens_s=min(_USUAL.between_tokens_s, total_s),
        total_s=total_s,
        load_s=load_s,
    )
    return Allowance(limits, cut)
