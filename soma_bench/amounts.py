"""Amounts as people read them; ``?`` where nobody knows one."""

from __future__ import annotations

import math


def gibibytes(size_bytes: float | None) -> str:
    """A size in GiB."""
    return "?" if size_bytes is None else f"{size_bytes / (1 << 30):.2f} GiB"


def dollars(value: float | None) -> str:
    """A price in US dollars, small ones with their first digits."""
    if value is None:
        return "?"
    decimals = 2 if value <= 0 or value >= 1 else 1 - math.floor(math.log10(value))
    return f"${value:.{decimals}f}"


def seconds(value: float | None) -> str:
    """A time in seconds, a long one in minutes."""
    if value is None:
        return "?"
    return f"{value:.2f} s" if value < 100 else f"{value / 60:.1f} min"
