"""The optimiser's question answered by trying everything, in exact fractions.

Written from the constraints' meaning alone; it shares nothing with the optimiser but its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

from soma_bench.routing.constraints import Constraints
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, Target

Row = Evidence
Rows = tuple[Row, ...]
Fallbacks = tuple[Row | None, ...]


def exact(value: float) -> Fraction:
    """The simple fraction that a figure stands for: 1/3 for 0.3333333333333333."""
    return Fraction(value).limit_denominator(100_000)


def model_of(row: Row) -> str:
    return row.target.partition("?")[0]


def is_local(row: Row) -> bool:
    return Target.parse(row.target).provider in ("ollama", "llamacpp", "mlx")


class BruteForce:
    def __init__(
        self, evidence: Sequence[Row], constraints: Constraints, pipeline: str = "sequential"
    ) -> None:
        self.constraints = constraints
        self.pipeline = pipeline
        self.options = {
            agent: [row for row in evidence if row.agent == agent and self.may_serve(row)]
            for agent in AGENTS
        }
        self.memory: dict[str, int] = {}
        for row in evidence:
            if is_local(row):
                size = max(self.memory.get(model_of(row), 0), row.memory_bytes or 0)
                self.memory[model_of(row)] = size

    def may_serve(self, row: Row) -> bool:
        limits = self.constraints
        figure = row.quality_low if limits.floor_on == "low" else row.quality
        if limits.privacy.get(row.agent, "local_only") == "local_only" and not is_local(row):
            return False
        if row.synthetic and not limits.allow_synthetic:
            return False
        return figure >= limits.quality_floors.get(row.agent, 0)

    def latency(self, rows: Rows) -> Fraction:
        name = "latency_p50_s" if self.constraints.latency == "p50" else "latency_p95_s"
        alignment, radiologist, pathologist, writer, reviewer = (
            exact(getattr(row, name)) for row in rows
        )
        if self.pipeline == "parallel":
            return alignment + max(radiologist, pathologist) + writer + reviewer
        return alignment + radiologist + pathologist + writer + reviewer

    def cost(self, rows: Rows) -> Fraction:
        return sum((exact(row.cost_usd or 0) for row in rows), Fraction(0))

    def fits(self, rows: Rows, fallbacks: Fallbacks) -> bool:
        limits = self.constraints
        required = limits.require_fallback
        for agent, fallback in zip(AGENTS, fallbacks, strict=True):
            needed = required if isinstance(required, bool) else required.get(agent, False)
            if needed and fallback is None:
                return False
        most = limits.max_cost_usd_per_1000
        if most is not None and 1000 * self.cost(rows) > exact(most):
            return False
        if limits.max_memory_bytes is not None:
            models = {model_of(row) for row in (*rows, *fallbacks) if row is not None}
            if sum(self.memory.get(model, 0) for model in models) > limits.max_memory_bytes:
                return False
        if limits.max_latency_s is not None:
            states = [rows] + [
                (*rows[:i], fallback, *rows[i + 1 :])
                for i, fallback in enumerate(fallbacks)
                if fallback is not None
            ]
            return all(self.latency(state) <= exact(limits.max_latency_s) for state in states)
        return True

    def fallbacks_for(self, rows: Rows) -> Iterator[Fallbacks]:
        choices = [
            [None, *(other for other in self.options[agent] if other != row)]
            for agent, row in zip(AGENTS, rows, strict=True)
        ]
        return (found for found in product(*choices) if self.fits(rows, found))

    def best(self) -> tuple[Rows, Fallbacks] | None:
        by_rank = sorted(
            product(*(self.options[agent] for agent in AGENTS)),
            key=lambda rows: (
                -sum(exact(row.quality) for row in rows),
                self.latency(rows),
                self.cost(rows),
                [row.target for row in rows],
            ),
        )
        for rows in by_rank:
            found = list(self.fallbacks_for(rows))
            if found:
                return rows, min(found, key=lambda fallbacks: self.rank(rows, fallbacks))
        return None

    def rank(self, rows: Rows, fallbacks: Fallbacks) -> tuple[object, ...]:
        name = "latency_p50_s" if self.constraints.latency == "p50" else "latency_p95_s"
        there = [row for row in fallbacks if row is not None]
        same = sum(
            fallback is not None and model_of(fallback) == model_of(row)
            for row, fallback in zip(rows, fallbacks, strict=True)
        )
        return (
            -len(there),
            same,
            -sum(exact(row.quality) for row in there),
            sum(exact(getattr(row, name)) for row in there),
            ["~" if row is None else row.target for row in fallbacks],
        )
