"""Which targets are worth choosing from: those that no other beats in both quality and latency."""

from __future__ import annotations

from collections.abc import Sequence

from soma_bench.routing.evidence import Evidence


def pareto_front(rows: Sequence[Evidence]) -> list[Evidence]:
    """The rows that no other row dominates, the fastest first.

    A row dominates another when its mean quality is no lower and its median latency no higher, and
    one of them is better. Rows that are equal in both stand together. The intervals are not looked
    at: a row just below the front may well be as good as one on it.

    Args:
        rows: rows of one agent.
    """
    front: list[Evidence] = []
    for row in sorted(rows, key=lambda row: (row.latency_p50_s, -row.quality, row.target)):
        if not front or row.quality > front[-1].quality or _equal(row, front[-1]):
            front.append(row)
    return front


def _equal(one: Evidence, other: Evidence) -> bool:
    return (one.quality, one.latency_p50_s) == (other.quality, other.latency_p50_s)
